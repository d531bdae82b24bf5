"""One run at a time works on a unit: claims in the work folder, which a killed run lets go of."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOGGER = logging.getLogger('demist')
CLAIMS = '.claims'


@contextmanager
def claim(work_dir: Path, names: Iterable[str]) -> Iterator[set[str]]:
    """Claim units until the context ends; yield those that another run holds.

    Parameters
    ----------
    work_dir : Path
        Runs that share it are kept apart.
    names : iterable of str
        Of units, or of models to train.

    Yields
    ------
    set of str
        Names another run has claimed; this run has claimed all others.

    Notes
    -----
    Each name is one byte of one file, locked as POSIX defines it: that works between the nodes of
    a cluster on NFS, takes one open file for any number of units, and ends with the process,
    however it ends. The file must not be opened twice in one process, which is why claims do not
    nest.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work_dir / CLAIMS, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield set(_taken(descriptor, names))
    finally:
        os.close(descriptor)


def _taken(descriptor: int, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            yield name
        except OSError as error:  # Lustre and others, where they are mounted without locks
            LOGGER.warning(
                'the work folder cannot lock files (%s): make sure that no two runs work on the '
                'same unit at a time',
                error.strerror,
            )
            return


def held_elsewhere(work_dir: Path) -> str:
    """Return why a unit is refused, and what to do."""
    return (
        f'another run is working on it with the same work folder {work_dir}; '
        'when that one has ended, run the same command again if anything is missing'
    )
