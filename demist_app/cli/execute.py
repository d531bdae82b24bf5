"""The participant level at work: graph, plugin, traces, reports, verdict."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from bids_layout.dataset import write_dataset_description, write_whole
from bids_layout.names import derivative_path, report_path, summary_path
from bids_layout.pairing import Pairing, Unit
from boilerplate.methods import write_citations
from demist_app import __version__
from demist_app.cli.logs import configure_nipype, start_logs
from demist_app.cli.progress import RunProgress
from demist_app.cli.verdict import (
    Outcome,
    by_unit,
    exit_code,
    read_crashes,
    sentence,
    to_tsv,
)
from demist_app.engine.failures import Failure, NodesFailedError
from demist_app.engine.plugin import DemistMultiProc
from demist_app.engine.resources import available
from demist_app.interfaces.report import write_unit_report
from demist_app.model.bundle import Bundle
from demist_app.settings import Settings
from demist_app.workflows.participant import init_demist_wf, workflow_name

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


class Execution:
    """One participant-level run.

    Parameters
    ----------
    settings : Settings
    pairing : Pairing
        At least one unit.
    bundle : Bundle
        Verified model.
    console : Console
    """

    def __init__(
        self, settings: Settings, pairing: Pairing, bundle: Bundle, console: Console
    ) -> None:
        self.settings = settings
        self.pairing = pairing
        self.bundle = bundle
        self.console = console
        self.labels = {workflow_name(unit): unit.label for unit in pairing.units}

    def write_dataset(self) -> None:
        """Make the output folder a BIDS derivative data set and open the run's own folder."""
        settings = self.settings
        write_dataset_description(
            settings.inputs.out_dir,
            bids_dir=settings.inputs.bids_dir,
            derivatives=settings.inputs.derivatives,
            version=__version__,
        )
        settings.log_dir.mkdir(parents=True)
        write_whole(settings.log_dir / 'settings.json', settings.to_json() + '\n')
        start_logs(settings)
        configure_nipype(settings)  # workflows copy the configuration when they are made

    @cached_property
    def workflow(self) -> 'LiterateWorkflow':
        """The graph of all units."""
        device = self.settings.processing.device
        if device == 'auto':
            device = 'cuda' if available().gpus else 'cpu'
        if self.bundle.metadata['network'] == 'linear':  # three coefficients need no GPU
            device = 'cpu'
        return init_demist_wf(
            units=self.pairing.units, settings=self.settings, bundle=self.bundle, device=device
        )

    def write_boilerplate(self, *, markdown_only: bool) -> None:
        """Describe the methods of this run in ``logs/CITATION.*``."""
        unit_wf = self.workflow.get_node(workflow_name(self.pairing.units[0]))
        logs, description = self.settings.log_dir.parent, unit_wf.visit_desc()
        if markdown_only:
            write_whole(logs / 'CITATION.md', description.strip() + '\n')
        else:
            write_citations(description, logs)

    def write_reports(self) -> int:
        """Write the reports anew from results that exist."""
        outcomes = []
        for unit in self.pairing.units:
            if self._results_exist(unit):
                report = write_unit_report(self.settings.inputs.out_dir, unit)
                outcomes.append(Outcome(unit.label, 'done', report=report.name))
            else:
                reason = 'no results of this unit exist; run the participant level first'
                outcomes.append(Outcome(unit.label, 'failed', reason=reason))
        return self._close(outcomes)

    def process(self, *, markdown_only: bool) -> int:
        """Run the graph and return the exit code."""
        self.write_boilerplate(markdown_only=markdown_only)
        settings, execution = self.settings, self.settings.execution
        if execution.clean_workdir:
            shutil.rmtree(execution.work_dir / self.workflow.name, ignore_errors=True)
        execution.work_dir.mkdir(parents=True, exist_ok=True)
        if execution.write_graph:
            self._write_graph()
        for unit in self.pairing.units:
            # a report speaks of one run: what an earlier one showed must not appear in it
            summary = summary_path(settings.inputs.out_dir, unit)
            shutil.rmtree(summary.parent, ignore_errors=True)
        steps = Counter(
            self.labels[name.split('.', 1)[0]]
            for name in self.workflow.list_node_names()
            if not name.endswith(('inputnode', 'outputnode'))
        )
        progress = RunProgress(self.console, self.labels, steps)
        self.console.print(
            f'demist {__version__}: {len(self.labels)} unit(s), {execution.nprocs} processor(s), '
            f'{execution.memory_gb:.1f} GB; log in {self.settings.log_dir}',
            markup=False,
            highlight=False,
        )
        failures: Sequence[Failure] = ()
        stopped = False
        plugin = self._plugin(progress)
        try:
            with progress:
                self.workflow.run(**plugin)
        except NodesFailedError as error:
            failures, stopped = error.failures, execution.stop_on_first_crash
        except Exception:
            # nipype's own plugins, chosen with --use-plugin, say it with crash files only
            if not (failures := read_crashes(settings.log_dir)):
                raise
        except BaseException:
            self._close(self._outcomes(progress, failures, interrupted=True))
            raise
        finally:
            shutil.rmtree(settings.log_dir / 'staging', ignore_errors=True)
            if execution.resource_monitor and isinstance(plugin['plugin'], DemistMultiProc):
                write_whole(
                    settings.log_dir / 'resources.tsv', _usage_table(plugin['plugin'], progress)
                )
        return self._close(self._outcomes(progress, failures, interrupted=stopped))

    def _write_graph(self) -> None:
        """Draw the workflow; without Graphviz, leave the drawing to whoever has it."""
        path = self.settings.log_dir / 'graph.dot'
        try:
            self.workflow.write_graph(dotfilename=str(path), graph2use='colored', format='svg')
        except OSError:
            LOGGER.warning('no "dot" of Graphviz on this machine: wrote %s without its SVG', path)

    def _plugin(self, progress: RunProgress) -> dict[str, Any]:
        """Return the arguments of `Workflow.run`."""
        execution = self.settings.execution
        if execution.plugin_file:
            # YAML is a superset of JSON
            chosen = yaml.safe_load(execution.plugin_file.read_text('utf-8'))
            arguments = {'status_callback': progress.callback, **chosen.get('plugin_args', {})}
            return {'plugin': chosen['plugin'], 'plugin_args': arguments}
        arguments = {
            'n_procs': execution.nprocs,
            'memory_gb': execution.memory_gb,
            'n_gpu_procs': execution.n_gpu_procs,
            'preload': PRELOADED,
            'status_callback': progress.callback,
        }
        return {'plugin': DemistMultiProc(plugin_args=arguments)}

    def _outcomes(
        self, progress: RunProgress, failures: Sequence[Failure], *, interrupted: bool
    ) -> list[Outcome]:
        """Judge every unit by the traces it left."""
        out_dir = self.settings.inputs.out_dir
        failed = by_unit(failures, self.labels)
        outcomes = []
        for unit in self.pairing.units:
            label, seconds = unit.label, progress.seconds(unit.label)
            if unit_failures := failed.get(label):
                first = unit_failures[0]
                report = self._report_failure(unit, unit_failures)
                step = _step(first.node)
                outcomes.append(Outcome(label, 'failed', seconds, step, first.message, report))
            elif label in progress.finished and self._results_exist(unit):
                report_name = report_path(out_dir, unit).name
                outcomes.append(Outcome(label, 'done', seconds, report=report_name))
            elif interrupted:
                reason = 'the run was stopped; run the same command again to go on'
                outcomes.append(Outcome(label, 'interrupted', seconds, reason=reason))
            else:
                reason = 'the engine ended without results for this unit; see demist.log'
                outcomes.append(Outcome(label, 'failed', seconds, reason=reason))
        return outcomes

    def _report_failure(self, unit: Unit, failures: Sequence[Failure]) -> str:
        """Write the report of a failed unit; return its name, empty if that failed as well."""
        errors = [(_step(f.node), f.message, f.traceback) for f in failures]
        try:
            return write_unit_report(self.settings.inputs.out_dir, unit, errors).name
        except OSError as error:  # the disk may be what failed the unit
            LOGGER.error('%s: its report could not be written: %s', unit.label, error)
            return ''

    def _results_exist(self, unit: Unit) -> bool:
        out_dir = self.settings.inputs.out_dir
        result = {'desc': 'preproc', 'suffix': 'T1w'}
        if not self.settings.processing.anat_only:
            result = {'desc': 'synth', 'space': 'T1w', 'suffix': 'PSRmap'}
        return (
            derivative_path(out_dir, unit, **result).exists()
            and summary_path(out_dir, unit).exists()
        )

    def _close(self, outcomes: list[Outcome]) -> int:
        """Write the verdict everywhere it is read, and return it as exit code."""
        everything = [
            *outcomes,
            *(Outcome(skip.label, 'skipped', reason=skip.reason) for skip in self.pairing.skipped),
        ]
        try:
            write_whole(self.settings.log_dir / 'status.tsv', to_tsv(everything))
        except OSError as error:
            LOGGER.error('status.tsv could not be written: %s', error)
        for outcome in everything:
            if outcome.status != 'done':
                at = f' at {outcome.step}' if outcome.step else ''
                LOGGER.error('%s %s%s: %s', outcome.unit, outcome.status, at, outcome.reason)
            elif outcome.report:
                LOGGER.warning('%s done: %s', outcome.unit, outcome.report)
        LOGGER.warning(sentence(everything))
        return exit_code(everything)


def _step(node: str) -> str:
    """Return a node's name without the names every node of its unit shares."""
    return '.'.join(node.split('.')[2:])


def _usage_table(engine: DemistMultiProc, progress: RunProgress) -> str:
    lines = ['unit\tstep\tseconds\tpeak_gb']
    for node, usage in engine.usage.items():
        unit = progress.unit_of(node)
        lines.append(f'{unit}\t{_step(node)}\t{usage.seconds:.2f}\t{usage.peak_gb:.3f}')
    return '\n'.join(lines) + '\n'
