#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, from Debian's packages, for the tests marked "slurm":
#   apt-get install slurm-wlm munge
#   eval "$(tests/cluster/start.sh FOLDER)"      # as root; sets SLURM_CONF
#   tests/cluster/start.sh --stop FOLDER
# Everything but munge's own files lies in FOLDER; nothing in /etc is written.
set -euo pipefail

stop() {
    for daemon in slurmd slurmctld; do
        if [ -s "$1/$daemon.pid" ]; then kill "$(cat "$1/$daemon.pid")" || true; fi
    done
}

if [ "${1:-}" = --stop ]; then stop "$(realpath "$2")"; exit; fi
folder=$(realpath -m "${1:-/var/tmp/demist-slurm}")
mkdir -p "$folder"/{state,spool}
if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    install -d -o munge -g munge /run/munge
    runuser -u munge -- /usr/sbin/munged >&2
fi
node=$(hostname -s)
megabytes=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
# no cgroups and no accounting: neither is to be had inside a container of a build machine
cat >"$folder/slurm.conf" <<EOF
ClusterName=demist
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$megabytes
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$folder/slurm.conf"
for daemon in slurmctld slurmd; do
    kill -0 "$(cat "$folder/$daemon.pid" 2>/dev/null)" 2>/dev/null || "$daemon" -c >&2
done
for _ in $(seq 60); do
    if sinfo --noheader --format=%t 2>/dev/null | grep -qx 'idle\|mix\|alloc'; then
        printf 'export SLURM_CONF=%q\n' "$SLURM_CONF"
        exit
    fi
    sleep 0.5
done
echo "the cluster did not start; see $folder/slurmctld.log and slurmd.log" >&2
exit 1
