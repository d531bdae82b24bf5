"""How much memory this process took."""

from pathlib import Path


def largest_gb() -> float:
    """Return the largest resident set of this process, 10^9 bytes.

    Not that of `resource.getrusage`, which a process inherits from the one that started it.
    """
    for line in Path('/proc/self/status').read_text('utf-8').splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError('/proc/self/status does not tell VmHWM')
