"""What both levels do alike: open a run, and run one graph to its end."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bids_layout.dataset import write_dataset_description, write_whole
from demist_app import __version__
from demist_app.cli.logs import configure_nipype, start_logs
from demist_app.cli.plugins import Plugin
from demist_app.cli.progress import RunProgress
from demist_app.cli.verdict import Outcome, exit_code, sentence, to_tsv
from demist_app.engine.failures import Failure, NodesFailedError
from demist_app.engine.plugin import DemistMultiProc
from demist_app.engine.resources import available
from demist_app.model.bundle import Bundle
from demist_app.model.predictor import wants_gpu
from demist_app.settings import Settings

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

LOGGER = logging.getLogger('demist')
PRELOADED = (
    'demist_app.interfaces.derivatives',
    'demist_app.interfaces.report',
    'demist_app.imaging.brain_extraction',
    'demist_app.imaging.registration',
    'demist_app.model.predictor',
    'boilerplate.figures',
)
"""Slow imports that all workers share."""
_CONTAINERS = {'APPTAINER_CONTAINER': 'apptainer', 'IS_DOCKER_8395080871': 'docker'}


def open_run(settings: Settings) -> None:
    """Make the output folder a BIDS derivative data set and open the run's own folder.

    Raises
    ------
    SettingsError
        If the plugin that was chosen cannot be used.
    """
    chosen_plugin(settings)  # before anything is written
    containers = [kind for variable, kind in _CONTAINERS.items() if variable in os.environ]
    write_dataset_description(
        settings.inputs.out_dir,
        bids_dir=settings.inputs.bids_dir,
        derivatives=settings.inputs.derivatives,
        version=__version__,
        container={'Type': containers[0]} if containers else None,
    )
    settings.log_dir.mkdir(parents=True)
    write_whole(settings.log_dir / 'settings.json', settings.to_json() + '\n')
    start_logs(settings)
    configure_nipype(settings)  # workflows copy the configuration when they are made


def follow(
    workflow: 'LiterateWorkflow', labels: Mapping[str, str], console: Console
) -> RunProgress:
    """Return the progress display of a graph.

    Parameters
    ----------
    workflow : LiterateWorkflow
    labels : mapping of str to str
        Name of a unit's branch to the label of the unit.
    console : Console
    """
    steps = Counter(
        labels[name.split('.', 1)[0]]
        for name in workflow.list_node_names()
        if not name.endswith(('inputnode', 'outputnode'))
    )
    return RunProgress(console, dict(labels), steps)


def run_graph(
    workflow: 'LiterateWorkflow', settings: Settings, progress: RunProgress
) -> Sequence[Failure]:
    """Run a graph to its end.

    Returns
    -------
    sequence of Failure
        Empty if all went well.
    """
    execution = settings.execution
    execution.work_dir.mkdir(parents=True, exist_ok=True)
    if execution.write_graph:
        _write_graph(workflow, settings)
    # nipype's own drawing of the graph, which runs that share the work folder would overwrite
    workflow.config['execution']['create_report'] = 'false'
    try:
        with progress:
            if plugin := chosen_plugin(settings):
                return plugin.run(workflow, settings, progress)
            _run_here(workflow, settings, progress)
    except NodesFailedError as error:
        return error.failures
    finally:
        shutil.rmtree(settings.log_dir / 'staging', ignore_errors=True)
    return ()


def chosen_plugin(settings: Settings) -> Plugin | None:
    """Return the plugin of ``--use-plugin``; None without one.

    Raises
    ------
    SettingsError
        If it cannot be used.
    """
    file = settings.execution.plugin_file
    if not file:
        return None
    return Plugin.read(file, settings.inputs.out_dir, settings.execution.work_dir)


def step_of(node: str) -> str:
    """Return a node's name without the names every node of its unit shares."""
    return '.'.join(node.split('.')[2:])


def _write_graph(workflow: 'LiterateWorkflow', settings: Settings) -> None:
    """Draw the workflow; without Graphviz, leave the drawing to whoever has it."""
    path = settings.log_dir / 'graph.dot'
    try:
        workflow.write_graph(dotfilename=str(path), graph2use='colored', format='svg')
    except OSError:
        LOGGER.warning('no "dot" of Graphviz on this machine: wrote %s without its SVG', path)


def _run_here(workflow: 'LiterateWorkflow', settings: Settings, progress: RunProgress) -> None:
    """Run a graph on this machine."""
    execution = settings.execution
    engine = DemistMultiProc(
        plugin_args={
            'n_procs': execution.nprocs,
            'memory_gb': execution.memory_gb,
            'n_gpu_procs': execution.n_gpu_procs,
            'preload': PRELOADED,
            'status_callback': progress.callback,
        }
    )
    try:
        workflow.run(plugin=engine)
    finally:
        if execution.resource_monitor:
            _add_usage(settings.log_dir / 'resources.tsv', engine, progress)


def _add_usage(path: Path, engine: DemistMultiProc, progress: RunProgress) -> None:
    """Write what each step took, below what earlier graphs of this run took."""
    text = path.read_text('utf-8') if path.exists() else 'unit\tstep\tseconds\tpeak_gb\n'
    for node, usage in engine.usage.items():
        unit = progress.unit_of(node)
        text += f'{unit}\t{step_of(node)}\t{usage.seconds:.2f}\t{usage.peak_gb:.3f}\n'
    write_whole(path, text)


def resolve_device(settings: Settings, bundle: Bundle) -> str:
    """Return where a model runs: ``cpu`` or ``cuda[:N]``."""
    if not wants_gpu(bundle):
        return 'cpu'
    device = settings.processing.device
    if device == 'auto':
        return 'cuda' if available().gpus else 'cpu'
    return device


def close_run(settings: Settings, outcomes: Sequence[Outcome]) -> int:
    """Write the verdict everywhere it is read, and return it as exit code."""
    try:
        write_whole(settings.log_dir / 'status.tsv', to_tsv(outcomes))
    except OSError as error:
        LOGGER.error('status.tsv could not be written: %s', error)
    for outcome in outcomes:
        if outcome.status != 'done':
            at = f' at {outcome.step}' if outcome.step else ''
            LOGGER.error('%s %s%s: %s', outcome.unit, outcome.status, at, outcome.reason)
        elif outcome.report:
            LOGGER.warning('%s done: %s', outcome.unit, outcome.report)
    LOGGER.warning(sentence(outcomes))
    return exit_code(outcomes)
