"""What went wrong in a graph of steps, said to the person who has to act on it."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

LOST = 255  # multiprocessing's word for a worker whose end nobody saw
OUT_OF_MEMORY = (
    'rerun with --low-mem, a smaller --nprocs or more memory (--mem, and the limit of the '
    'container or job, if it has one); finished steps are kept'
)
REMEDIES = (
    (
        re.compile(r'CUDA out of memory|CUDA error: out of memory|torch\.\S*OutOfMemoryError'),
        'The GPU ran out of memory: rerun with --n-gpu-procs 1 or --device cpu; '
        'finished steps are kept.',
    ),
    (
        re.compile(r'MemoryError\b|std::bad_alloc|annot allocate memory|can.t allocate memory'),
        f'The step ran out of memory: {OUT_OF_MEMORY}.',
    ),
    (
        re.compile(r'No space left on device|Disk quota exceeded'),
        'The disk is full: make room or give another folder with -w; finished steps are kept.',
    ),
)


@dataclass(frozen=True)
class Failure:
    """One step that failed.

    Attributes
    ----------
    node : str
        Full name of the step.
    unit : str or None
        Label of the participant (and session) it belongs to, e.g. ``sub-01_ses-A``.
    message : str
        What happened and what to do, for people.
    traceback : str
        For developers; a single sentence where a worker was killed.
    crash_file : Path or None
        nipype's report; None where it could not be written.
    not_run : tuple of str
        Full names of the steps that needed this one.
    """

    node: str
    unit: str | None
    message: str
    traceback: str
    crash_file: Path | None
    not_run: tuple[str, ...]


class NodesFailedError(RuntimeError):
    """Some steps of the graph failed; all steps that did not need them are done.

    Attributes
    ----------
    failures : tuple of Failure
    """

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        self.failures = failures
        others = f' ({len(failures) - 1} more failed)' if len(failures) > 1 else ''
        super().__init__(f'{failures[0].node}: {failures[0].message}{others}')


def unit_of(node: str) -> str | None:
    """Return the unit a step belongs to.

    Parameters
    ----------
    node : str
        Full name of the step; the workflow of a unit is named ``sub_01_wf`` or
        ``sub_01_ses_A_wf``, with ``_plus_`` for ``+``.

    Returns
    -------
    str or None
        Label such as ``sub-01_ses-A``; None for a step of no unit.

    Examples
    --------
    >>> unit_of('demist_wf.sub_01_ses_A_wf.anat_preproc_wf.bias')
    'sub-01_ses-A'
    """
    label = r'((?:_plus_|[^\W_])+)'
    match = re.search(rf'(?:^|\.)sub_{label}(?:_ses_{label})?_wf(?:\.|$)', node)
    if not match:
        return None
    unit = f'sub-{match[1]}' + (f'_ses-{match[2]}' if match[2] else '')
    return unit.replace('_plus_', '+')


def explain_death(node: str, exitcode: int) -> str:
    """Say in a sentence or two how the worker of a step died and what to do.

    Parameters
    ----------
    node : str
        Full name of the step that was running.
    exitcode : int
        As multiprocessing gives it: the negative number of the signal, or the exit status.
    """
    unit = unit_of(node)
    worker = f'The worker process running {node}' + (f' (unit {unit})' if unit else '')
    if exitcode == -signal.SIGKILL:
        return f'{worker} was killed by signal 9: most likely out of memory; {OUT_OF_MEMORY}.'
    if exitcode == -signal.SIGTERM:
        return f'{worker} was ended by signal 15 from outside; rerun, finished steps are kept.'
    if exitcode == LOST:
        return (
            f'{worker} was lost together with the process that started it: most likely out of '
            f'memory; {OUT_OF_MEMORY}.'
        )
    if exitcode < 0:
        return (
            f'{worker} crashed with signal {-exitcode} ({signal.Signals(-exitcode).name}) in '
            'compiled code; rerun, finished steps are kept. If it crashes again, check the '
            'scans of this unit and report the fault.'
        )
    return f'{worker} exited by itself with status {exitcode}; rerun, finished steps are kept.'


def explain_error(traceback: str) -> str:
    r"""Say what a Python traceback ends in, with the remedy where one is known.

    Examples
    --------
    >>> explain_error('Traceback ...\n\tdemist_app.imaging.volumes.InputError: a.nii is empty\n')
    'a.nii is empty'
    >>> explain_error('Traceback ...\n\tbuiltins.ValueError: broken\n')
    'ValueError: broken'
    """
    last = traceback.rstrip().rpartition('\n')[2].strip()
    # demist's own exceptions are whole sentences; the class of others helps who reports them
    message = re.sub(r'^(?:demist_app|bids_layout|boilerplate)\.[\w.]+: ', '', last)
    message = re.sub(r'^(?:\w+\.)+(?=\w+(?::|$))', '', message)
    remedies = [remedy for pattern, remedy in REMEDIES if pattern.search(traceback)]
    return ' '.join([message, *remedies[:1]])
