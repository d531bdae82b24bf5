#!/usr/bin/env bash
# Make a SIF of an image and run it as on a cluster: without privileges, with a clean environment
# and without the home folder. A check for the person who asks for it: no other test depends on it.
#
#   tests/container/apptainer.sh ENGINE IMAGE      e.g. docker demist
#
# Where apptainer is not installed, root gets one from Debian sid in a tree of its own (mmdebstrap).
# Needs 6 GB below build/.
set -euo pipefail

check() {  # in folder $1, as a user of the machine
  cd "$1"
  export APPTAINER_TMPDIR=$1/tmp APPTAINER_CACHEDIR=$1/tmp HOME=$1/home
  mkdir -p tmp home out work traps
  apptainer --quiet build demist.sif docker-archive:image.tar
  ls -lh demist.sif
  # what leaks in from the host without --cleanenv
  echo 'raise SystemExit("the PYTHONPATH of the host reached the container")' >traps/sitecustomize.py
  export PYTHONPATH=$1/traps
  local run=(apptainer --quiet run --cleanenv --no-home)
  "${run[@]}" demist.sif --version
  apptainer --quiet exec --cleanenv --no-home -B "$1:/here" demist.sif \
    demist-phantom /here/bids --participants 1 --resolution 2
  "${run[@]}" -B bids:/data:ro -B out:/out -B work:/work demist.sif /data /out participant \
    -w /work --sloppy --n-samples 1 --nprocs 2
  ls out/sub-01_ses-01.html out/sub-01/ses-01/anat/*desc-synth_PSRmap.nii.gz
}

if [ "$1" = inside ]; then
  check "$2"
  exit
fi

engine=$1 image=$2
self=$(realpath "$0")
folder=$(realpath "$(dirname "$0")/../..")/build/apptainer
rm -rf "$folder/run"
mkdir -p "$folder/run"
"$engine" save --output "$folder/run/image.tar" "$image"

if command -v apptainer >/dev/null; then
  "$self" inside "$folder/run"
elif [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then
  tree=$folder/sid
  if [ ! -d "$tree" ]; then
    mmdebstrap --quiet --variant=minbase --mode=root --include=apptainer \
      --aptopt='Acquire::Check-Valid-Until "false"' sid "$tree"
    echo 'user:x:1000:1000::/check:/bin/bash' >>"$tree/etc/passwd"
    echo 'user:x:1000:' >>"$tree/etc/group"
    touch "$tree/etc/hosts" "$tree/etc/localtime"
    mkdir "$tree/host" "$tree/check"
  fi
  cp "$self" "$tree/check.sh"
  chown 1000:1000 "$folder/run" "$folder/run/image.tar"
  # apptainer refuses to start in a chroot; pivot_root gives it a root of its own
  # shellcheck disable=SC2016 # the inner shell expands them
  unshare --mount bash -euc '
    mount --bind "$1" "$1"
    cd "$1"
    for place in proc sys dev; do mount --rbind "/$place" "$place"; done
    mount --bind "$2" check
    mount -t tmpfs none tmp
    chmod 1777 tmp
    pivot_root . host
    cd /
    umount --lazy host
    exec setpriv --reuid=1000 --regid=1000 --clear-groups /check.sh inside /check
  ' bash "$tree" "$folder/run"
else
  echo 'no apptainer here, and no way to get one: nothing was checked'
fi
