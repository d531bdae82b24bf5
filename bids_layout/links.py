"""Links among folders, where following one would break a promise."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from bids_layout.query import QueryError

_FOLDERS = ('*', 'sub-*/*', 'sub-*/ses-*/*')


def check_links(out_dir: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder with a link through which the input would be written to.

    Links to other places are followed: people keep parts of their results on another disk. Links
    to files are harmless, as files are replaced and not written to.

    Parameters
    ----------
    out_dir
        Root of the output; need not exist.
    inputs
        Roots of the data sets that are read.

    Raises
    ------
    QueryError
        Names the link.
    """
    own = out_dir.resolve()
    roots = [folder.resolve() for folder in inputs]
    for link in _linked_folders(out_dir):
        target = link.resolve()
        if not target.is_relative_to(own) and any(target.is_relative_to(root) for root in roots):
            raise QueryError(
                f'{link} is a link into the data set {target}, which demist must not write to: '
                'remove the link.'
            )


def _linked_folders(root: Path) -> Iterator[Path]:
    for pattern in _FOLDERS:
        for path in root.glob(pattern):
            if path.is_symlink() and path.is_dir():
                yield path
