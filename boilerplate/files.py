"""Files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 beside `path`, then rename it into place.

    Parameters
    ----------
    path : Path
        Destination; its folder is made where missing.
    text : str
        Content. What UTF-8 cannot hold, as the bytes of a file name that is not UTF-8, is escaped.

    Returns
    -------
    Path
        `path`, which now holds `text` or, after an exception, what it held before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    aside = Path(name)
    try:
        with os.fdopen(handle, 'w', encoding='utf-8', errors='backslashreplace') as stream:
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return path
