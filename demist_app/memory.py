"""The largest memory that this process has had."""

from contextlib import suppress
from pathlib import Path

PROC = Path('/proc/self')


def largest_resident() -> float:
    """Return the largest resident set of this process, libraries included, 10^9 bytes.

    Not that of `resource.getrusage`, which a process inherits from the one that started it.
    """
    for line in (PROC / 'status').read_text('utf-8').splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError(f'{PROC / "status"} has no VmHWM, which every Linux tells')


def forget_largest_resident() -> None:
    """Begin anew with the resident set of now, where the kernel lets a process do so."""
    with suppress(OSError):
        (PROC / 'clear_refs').write_text('5', 'utf-8')
