"""The memory of this process: the largest it has had, and what becomes of what it frees."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path('/proc/self')
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_ALWAYS = 2**31 - 1
_LARGEST = 2**25  # what the GNU C library raises the latter to by itself; twice it the former


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


@contextmanager
def reusing_freed() -> Iterator[None]:
    """Let large arrays take over the memory of those before them; give it back at the end.

    Usually the GNU C library maps each of them anew, and the kernel clears its pages: a tenth of
    the time of a network without training. With another C library nothing changes.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, 'mallopt'):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _ALWAYS)
    library.mallopt(_TRIM_THRESHOLD, _ALWAYS)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)
        library.malloc_trim(0)
