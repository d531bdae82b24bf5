"""What this process may use of the machine: processors, memory and GPUs.

nipype asks ``os.cpu_count`` and ``/proc/meminfo`` only, and so overruns the limits of containers
and batch jobs, which end it. Standard library only: the command line imports this module.
"""

import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

GB = 1e9
SHARE_FOR_STEPS = 0.9  # the rest is for the operating system and the idle parts of every process

Limit = tuple[float, str]


@dataclass(frozen=True)
class Resources:
    """What this process may use.

    Attributes
    ----------
    cpus : int
        Processors, at least 1.
    memory_gb : float
        Nine tenths of the memory this process may fill, in 10^9 bytes.
    gpus : int
        NVIDIA GPUs this process may use.
    sources : mapping
        For each of the three, what set the limit.
    """

    cpus: int
    memory_gb: float
    gpus: int
    sources: Mapping[str, str]


def available(root: Path = Path('/'), environ: Mapping[str, str] = os.environ) -> Resources:
    """Return the tightest of the limits set by system, container and batch job.

    Memory in use now is not subtracted: it changes by the minute, and a limit that depended on it
    would make two runs of one command schedule differently. CUDA is not initialised.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` lie.
    environ : mapping
        Environment variables.

    Returns
    -------
    Resources

    Notes
    -----
    Read are the CPU affinity; ``cpu.max`` and ``memory.max`` of cgroup v2,
    ``cpu.cfs_quota_us`` and ``memory.limit_in_bytes`` of v1, for the process's own group and all
    groups around it; ``MemTotal``; ``SLURM_CPUS_PER_TASK``, ``SLURM_CPUS_ON_NODE``,
    ``SLURM_MEM_PER_NODE``, ``SLURM_MEM_PER_CPU``; ``CUDA_VISIBLE_DEVICES`` and ``nvidia-smi``.
    """
    cpus, cpus_source = min(_cpu_limits(root, environ))
    memory, memory_source = min(_memory_limits(root, environ))
    gpus, gpus_source = min(_gpu_limits(environ))
    return Resources(
        cpus=max(1, math.floor(cpus)),
        memory_gb=SHARE_FOR_STEPS * memory / GB,
        gpus=int(gpus),
        sources={'cpus': cpus_source, 'memory_gb': memory_source, 'gpus': gpus_source},
    )


def parse_memory(text: str) -> float:
    """Read an amount of memory.

    Parameters
    ----------
    text : str
        A number with one of the units B, K, M, G, T (also KB, ... in powers of 1000; KiB, ... in
        powers of 1024). A number without a unit is in megabytes, as in fMRIPrep.

    Returns
    -------
    float
        In GB, 10^9 bytes.

    Raises
    ------
    ValueError
        In one sentence, if the text is anything else.

    Examples
    --------
    >>> parse_memory('1.5G'), parse_memory('16000'), parse_memory('2TB')
    (1.5, 16.0, 2000.0)
    """
    amount = r'([0-9]+\.?[0-9]*|\.[0-9]+)\s*(?:([KMGT])(I?)B?|(B))?'
    match = re.fullmatch(amount, text.strip().upper())
    if not match or not float(match[1]):
        raise ValueError(
            f'{text!r} is not an amount of memory; give a number above zero with a unit, e.g. 12G'
        )
    number, prefix, binary, plain = match.groups()
    power = 0 if plain else 'KMGT'.index(prefix or 'M') + 1
    return float(number) * float(1024 if binary else 1000) ** power / GB


def _cpu_limits(root: Path, environ: Mapping[str, str]) -> Iterator[Limit]:
    yield len(os.sched_getaffinity(0)), 'CPU affinity'
    for file in _cgroup_files(root, 'cpu', 'cpu.max', 'cpu.cfs_quota_us'):
        if file.name == 'cpu.max':
            quota, period = file.read_text().split()
        else:
            quota, period = file.read_text(), file.with_name('cpu.cfs_period_us').read_text()
        if quota != 'max' and int(quota) > 0:
            yield int(quota) / int(period), f'cgroup {file}'
    for name in ('SLURM_CPUS_PER_TASK', 'SLURM_CPUS_ON_NODE'):
        if count := _positive(environ, name):
            yield count, name


def _memory_limits(root: Path, environ: Mapping[str, str]) -> Iterator[Limit]:
    meminfo = (root / 'proc/meminfo').read_text()
    total = re.search(r'^MemTotal:\s*(\d+) kB', meminfo, re.MULTILINE)
    assert total, 'proc/meminfo names MemTotal on every Linux'
    yield int(total[1]) * 1024, 'memory of the machine'
    for file in _cgroup_files(root, 'memory', 'memory.max', 'memory.limit_in_bytes'):
        if (limit := file.read_text().strip()) != 'max':
            yield int(limit), f'cgroup {file}'
    if megabytes := _positive(environ, 'SLURM_MEM_PER_NODE'):
        yield megabytes * 1024**2, 'SLURM_MEM_PER_NODE'
    if megabytes := _positive(environ, 'SLURM_MEM_PER_CPU'):
        cpus = _positive(environ, 'SLURM_CPUS_ON_NODE') or _positive(environ, 'SLURM_CPUS_PER_TASK')
        yield megabytes * 1024**2 * (cpus or 1), 'SLURM_MEM_PER_CPU'


def _gpu_limits(environ: Mapping[str, str]) -> Iterator[Limit]:
    try:
        listing = subprocess.run(
            ['nvidia-smi', '-L'],
            capture_output=True, text=True, timeout=60, check=True, env=dict(environ),
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        yield 0, 'no answer from nvidia-smi'
        return
    yield sum(line.startswith('GPU ') for line in listing.splitlines()), 'nvidia-smi'
    if (visible := environ.get('CUDA_VISIBLE_DEVICES')) is not None:
        names = [name.strip() for name in visible.split(',')]
        invalid = [not name or name.startswith('-') for name in names]
        # CUDA sees the devices before the first invalid one
        yield (invalid.index(True) if any(invalid) else len(names)), 'CUDA_VISIBLE_DEVICES'


def _cgroup_files(root: Path, controller: str, v2: str, v1: str) -> Iterator[Path]:
    """Yield the limit files of the process's control group and of all groups around it.

    In a container, ``/proc/self/cgroup`` may name the group as the host sees it, which does not
    exist below the container's mount; the mount itself is then the container's group.
    """
    try:
        lines = (root / 'proc/self/cgroup').read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(':', 2)
        if controllers and controller not in controllers.split(','):
            continue
        mount = root / 'sys/fs/cgroup' / controllers
        inner = PurePosixPath(group.lstrip('/'))
        for folder in (inner, *inner.parents):
            file = mount / folder / (v1 if controllers else v2)
            if '..' not in folder.parts and file.is_file():
                yield file


def _positive(environ: Mapping[str, str], name: str) -> int:
    """Return the variable's value, 0 (SLURM's word for "all") where it holds no number."""
    value = environ.get(name, '')
    return int(value) if value.isdecimal() else 0
