"""The participant level at work: graph, plugin, traces, reports, verdict."""

import logging
import shutil
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console

from bids_layout.dataset import write_whole
from bids_layout.names import derivative_path, report_path, summary_path
from bids_layout.pairing import Pairing, Unit
from boilerplate.methods import write_citations
from demist_app import __version__
from demist_app.cli.claims import claim, held_elsewhere
from demist_app.cli.graph import close_run, follow, open_run, resolve_device, run_graph, step_of
from demist_app.cli.progress import RunProgress
from demist_app.cli.verdict import Outcome, by_unit
from demist_app.engine.failures import Failure
from demist_app.interfaces.report import write_unit_report
from demist_app.model.bundle import Bundle
from demist_app.settings import Settings
from demist_app.workflows.outputs import MAPS
from demist_app.workflows.participant import init_demist_wf, workflow_name
from demist_app.workflows.synthesis import map_kinds

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

LOGGER = logging.getLogger('demist')


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
        self.units = pairing.units

    def write_dataset(self) -> None:
        """Make the output folder a BIDS derivative data set and open the run's own folder."""
        open_run(self.settings)

    @cached_property
    def workflow(self) -> 'LiterateWorkflow':
        """The graph of all units of this run."""
        return init_demist_wf(
            units=self.units,
            settings=self.settings,
            bundle=self.bundle,
            device=resolve_device(self.settings, self.bundle),
        )

    def write_boilerplate(self, *, markdown_only: bool) -> None:
        """Describe the methods of this run in ``logs/CITATION.*``."""
        unit_wf = self.workflow.get_node(workflow_name(self.units[0]))
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
        """Run the graph and return the exit code; units of another run are left to it."""
        work_dir = self.settings.execution.work_dir
        with claim(work_dir, (unit.label for unit in self.pairing.units)) as held:
            self.units = tuple(unit for unit in self.pairing.units if unit.label not in held)
            reason = held_elsewhere(work_dir)
            refused = [Outcome(label, 'refused', reason=reason) for label in sorted(held)]
            try:
                outcomes = self._process(markdown_only=markdown_only) if self.units else []
            except (KeyboardInterrupt, SystemExit):
                self._close([*self._outcomes(self._progress, (), interrupted=True), *refused])
                raise
            return self._close([*outcomes, *refused])

    def _process(self, *, markdown_only: bool) -> list[Outcome]:
        """Run the graph of the units that this run has claimed."""
        settings, execution = self.settings, self.settings.execution
        self.write_boilerplate(markdown_only=markdown_only)
        for unit in self.units:
            if execution.clean_workdir:
                folder = execution.work_dir / self.workflow.name / workflow_name(unit)
                shutil.rmtree(folder, ignore_errors=True)
            # a report speaks of one run: what an earlier one showed must not appear in it
            summary = summary_path(settings.inputs.out_dir, unit)
            shutil.rmtree(summary.parent, ignore_errors=True)
            self._remove_old_maps(unit)
        self.console.print(
            f'demist {__version__}: {len(self.units)} unit(s), {execution.nprocs} processor(s), '
            f'{execution.memory_gb:.1f} GB; log in {settings.log_dir}',
            markup=False,
            highlight=False,
        )
        failures = run_graph(self.workflow, settings, self._progress)
        stopped = bool(failures) and execution.stop_on_first_crash
        return self._outcomes(self._progress, failures, interrupted=stopped)

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {workflow_name(unit): unit.label for unit in self.units}

    @cached_property
    def _progress(self) -> RunProgress:
        return follow(self.workflow, self._labels, self.console)

    def _remove_old_maps(self, unit: Unit) -> None:
        """Remove what this run does not make, lest it stand beside another run's mean."""
        if self.settings.processing.anat_only:
            return
        names = {'space': 'T1w', 'suffix': 'PSRmap'}
        for kind in set(MAPS) - set(map_kinds(self.bundle, self.settings)):
            path = derivative_path(self.settings.inputs.out_dir, unit, desc=MAPS[kind], **names)
            prefix, rest = path.name.split('_space-T1w')
            for old in path.parent.glob(f'{prefix}_space-*{rest.split(".")[0]}.*'):
                old.unlink()

    def _outcomes(
        self, progress: RunProgress, failures: Sequence[Failure], *, interrupted: bool
    ) -> list[Outcome]:
        """Judge every unit by the traces it left."""
        out_dir = self.settings.inputs.out_dir
        failed = by_unit(failures, self._labels)
        outcomes = []
        for unit in self.units:
            label, seconds = unit.label, progress.seconds(unit.label)
            if unit_failures := failed.get(label):
                first = unit_failures[0]
                report = self._report_failure(unit, unit_failures)
                step = step_of(first.node)
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
        errors = [(step_of(f.node), f.message, f.traceback) for f in failures]
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

    def _close(self, outcomes: Sequence[Outcome]) -> int:
        """Write the verdict everywhere it is read, and return it as exit code."""
        skipped = (Outcome(s.label, 'skipped', reason=s.reason) for s in self.pairing.skipped)
        return close_run(self.settings, [*outcomes, *skipped])
