"""The environment variables and signals of a run.

demist must work for any user id, with a read-only root and HOME and no network. The libraries
below it look for writable folders and reach for the network when imported, so `prepare` comes
before those imports. Standard library only.
"""

import errno
import getpass
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

SWITCHES = {
    'MPLBACKEND': 'Agg',
    'NIPYPE_NO_ET': '1',  # telemetry
    'NO_ET': '1',
    'MIGAS_OPTOUT': '1',
    'DO_NOT_TRACK': '1',
}
THREAD_COUNTS = (
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'MKL_NUM_THREADS',
    'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS',
)
CACHES = {  # where the libraries write if nobody tells them otherwise
    'MPLCONFIGDIR': '$XDG_CONFIG_HOME/matplotlib',
    'NIPYPE_CONFIG_DIR': '$HOME/.nipype',
}
ARCHIVES = {  # read-only is good enough where there is something to read
    'TEMPLATEFLOW_HOME': '$XDG_CACHE_HOME/templateflow',
    'TORCH_HOME': '$XDG_CACHE_HOME/torch',
    'NILEARN_DATA': '$HOME/nilearn_data',
}
SECRET_NAME = re.compile(
    r'token|secret|passw|passphrase|credential|auth|jwt|cookie|(api|access|private)_?key'
    r'|_(key|pass|pwd|pat)$',
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(r'://[^/@\s]*:[^/@\s]+@')  # a proxy or data base with its password
LONGEST_TEMPORARY_FOLDER = 70  # names of Unix sockets end at 107 bytes; multiprocessing adds 32


def prepare(work_dir: Path, *, omp_nthreads: int, templates: bool = False) -> dict[str, str]:
    """Set this process's environment variables, which every worker inherits.

    Call it before nipype, niworkflows, matplotlib, torch or templateflow are imported and before
    the plugin is made.

    Parameters
    ----------
    work_dir : Path
        A folder that can be written; what cannot be written at its usual place goes to the folder
        ``.home`` in it.
    omp_nthreads : int
        Threads of one step.
    templates : bool
        Whether TemplateFlow will be asked for a template. If not, it gets an empty archive, as it
        indexes the real one, which takes seconds, in every process that imports
        ``niworkflows.interfaces.bids``.

    Returns
    -------
    dict
        The variables that changed, with their new values.

    Raises
    ------
    OSError
        If the work folder cannot be written, or the libraries cannot cope with a folder's name.
    """
    _check_names(work_dir.absolute())
    aside = work_dir.absolute() / '.home'
    aside.mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    os.environ.update(SWITCHES)
    os.environ.update(dict.fromkeys(THREAD_COUNTS, str(omp_nthreads)))
    try:
        getpass.getuser()  # torch and MONAI call it when imported
    except (KeyError, OSError):
        os.environ['USER'] = 'demist'
    try:
        os.environ['HOME'] = str(Path.home())
    except RuntimeError:
        os.environ['HOME'] = str(aside)
    for variable, usual in {'XDG_CACHE_HOME': '.cache', 'XDG_CONFIG_HOME': '.config'}.items():
        folder = Path(os.environ.get(variable) or Path.home() / usual)
        os.environ[variable] = str(folder if _writable(folder) else aside / usual)
    for variable, usual in {**CACHES, **ARCHIVES}.items():
        folder = Path(os.environ.get(variable) or os.path.expandvars(usual))
        if not (_writable(folder) or (variable in ARCHIVES and _filled(folder))):
            os.environ[variable] = str(aside / variable.lower())
    if not templates:
        archive = aside / 'no_templates'
        archive.mkdir(exist_ok=True)
        (archive / 'README').write_text('Empty, so that TemplateFlow has nothing to index.\n')
        os.environ['TEMPLATEFLOW_HOME'] = str(archive)
    tempfile.tempdir = os.environ['TMPDIR'] = _temporary_folder(aside)
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out the variables that look like passwords, tokens and keys.

    nipype writes the whole environment of a step into the work folder, where others may read it.

    Parameters
    ----------
    environ : mapping
        Environment variables.

    Examples
    --------
    >>> without_secrets({'GH_TOKEN': 'x', 'http_proxy': 'http://me:x@proxy:80', 'PWD': '/tmp'})
    {'PWD': '/tmp'}
    """
    return {
        name: value
        for name, value in environ.items()
        if not (SECRET_NAME.search(name) or SECRET_VALUE.search(value))
    }


def exit_on_sigterm() -> None:
    """Turn SIGTERM into `SystemExit` (code 143), so that ``finally`` clauses end the workers.

    Without a handler, Python as the first process of a container ignores the signal.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _check_names(work_dir: Path) -> None:
    if '\n' in (here := str(Path.cwd())):  # nipype writes it into a file of options and reads that
        reason = 'the name of this folder holds a line break; start demist in another one'
        raise OSError(errno.EINVAL, reason, here)
    try:
        str(work_dir).encode()
    except UnicodeEncodeError as error:  # TemplateFlow keeps names in a data base
        reason = 'the name of this folder is not UTF-8; give another one with -w'
        raise OSError(errno.EINVAL, reason, str(work_dir)) from error


def _writable(folder: Path) -> bool:
    """Tell whether files can be written to a folder, which need not exist yet."""
    folder = folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return os.access(nearest, os.W_OK | os.X_OK) and nearest.is_dir()


def _filled(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK) and folder.is_dir() and any(folder.iterdir())


def _temporary_folder(aside: Path) -> str:
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:  # a read-only container without /tmp
        usual = ''
    for folder in (usual, '/tmp'):  # noqa: S108
        if 0 < len(folder) <= LONGEST_TEMPORARY_FOLDER and _writable(Path(folder)):
            return folder
    (aside / 'tmp').mkdir(exist_ok=True)
    return str(aside / 'tmp')
