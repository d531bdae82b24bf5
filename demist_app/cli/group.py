"""The group level at work: examples, folds, models, maps out of fold, scores, tables."""

import fcntl
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bids_layout.pairing import Unit
from boilerplate.methods import write_citations
from demist_app import __version__
from demist_app.cli.aggregate import aggregate, join_what_is_there
from demist_app.cli.claims import claim, held_elsewhere
from demist_app.cli.cohort import Cohort, splits_path
from demist_app.cli.convoy import Convoy
from demist_app.cli.graph import close_run, follow, open_run, resolve_device, run_graph, step_of
from demist_app.cli.verdict import ALL_DONE, Outcome, by_unit
from demist_app.engine.resources import available
from demist_app.model.backbone_files import BackboneError
from demist_app.model.bundle import Bundle, BundleError
from demist_app.settings import Settings, SettingsError
from demist_app.training.examples import Example
from demist_app.training.fit import Machine, TrainingError
from demist_app.training.folds import FoldError, Splits, settle
from demist_app.workflows.crossvalidation import (
    Task,
    check_unseen,
    final_task,
    finished_model,
    fold_task,
    forget,
    train_model,
    train_stages,
)
from demist_app.workflows.examples import Prepared, init_examples_wf, init_out_of_fold_wf
from demist_app.workflows.methods import describe_training
from demist_app.workflows.participant import workflow_name

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

LOGGER = logging.getLogger('demist')
_STOPPED = 'the run was stopped; run the same command again to go on'


class _StoppedError(Exception):
    """Something failed, and ``--stop-on-first-crash`` was given."""


class GroupRun:
    """One group-level run that trains.

    Parameters
    ----------
    cohort : Cohort
    console : Console
    """

    def __init__(self, cohort: Cohort, console: Console) -> None:
        self.cohort = cohort
        self.settings: Settings = cohort.settings
        self.console = console
        self.convoy = Convoy(cohort.settings)
        self.machine = _machine(cohort.settings)
        self._prepared: dict[Unit, Prepared] = {}
        self._preprocessing = ''
        self._failed: dict[str, Outcome] = {}
        self._seconds: dict[str, float] = {}
        self._forgotten: set[Path] = set()

    def process(self) -> int:
        """Train, synthesise and score what the settings ask for; return the exit code.

        Raises
        ------
        SettingsError
            If the folds let training data into a test or do not belong to this cohort, or if the
        pretrained backbone cannot be used.
        """
        if not self.convoy.leads:
            for task in self.convoy.orders():
                with suppress(
                    TrainingError, BackboneError, BundleError
                ):  # the first process says it
                    train_stages(task, self.cohort.preset, self.settings, self.machine)
            return ALL_DONE
        open_run(self.settings)
        try:
            self._process()
        except _StoppedError:
            return self._close('interrupted', _STOPPED)
        except (SettingsError, FoldError, BackboneError, BundleError) as error:
            self._close('failed', str(error))
            raise SettingsError(str(error)) from error
        except (KeyboardInterrupt, SystemExit):
            self._close('interrupted', _STOPPED)
            raise
        finally:
            self.convoy.tell(None)
        return self._close('done')

    def _process(self) -> None:
        settings, training = self.settings, self.settings.training
        seed = settings.processing.random_seed
        self._say(
            f'demist {__version__}: {len(self.cohort.units)} unit(s) with measured PSR maps, '
            f'log in {settings.log_dir}'
        )
        with self._alone():
            examples = self._prepare()
            splits = settle(splits_path(settings), examples, training.n_splits, seed)
            self._describe()
        if training.prepare:
            return
        folds = [training.fold] if training.fold else range(1, splits.n_splits + 1)
        for fold in folds:  # methods that share stages find them at hand
            for method in training.methods:
                task = fold_task(splits, examples, fold, seed, method)
                self._cross_validate(task, fold, splits)
        if training.fold:
            return
        together = aggregate(settings)
        assert together, 'folds were drawn above'
        first = training.methods[0]
        if training.final and not together.methods[first].missing:
            self._train(final_task(examples, seed, first), together.methods[first].summary)
            aggregate(settings)  # its summary names the final model as well
        self._say(together.words)
        self._say(join_what_is_there(settings))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one of the jobs of an array prepare the scans; the others find it done."""
        folder = self.settings.execution.work_dir / 'demist_group'
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / 'lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say('waiting for another job, which prepares the scans')
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare(self) -> list[Example]:
        """Make the training examples; units that fail are left out."""
        settings, units = self.settings, self.cohort.units
        workflow = init_examples_wf(units=units, settings=settings, groups=self.cohort.groups)
        self._preprocessing = workflow.get_node(workflow_name(units[0])).visit_desc()
        work_dir = settings.execution.work_dir
        with claim(work_dir, (unit.label for unit in units)) as held:
            if held:  # the folds must not depend on who is at work
                first = min(held)
                raise SettingsError(f'{first} cannot be prepared: {held_elsewhere(work_dir)}')
            if settings.execution.clean_workdir:
                for unit in units:
                    folder = work_dir / workflow.name / workflow_name(unit)
                    shutil.rmtree(folder, ignore_errors=True)
                for folder in (work_dir / 'demist_group').glob('*/'):
                    shutil.rmtree(folder, ignore_errors=True)
            self._run(workflow, units)
        for unit in units:
            if unit.label not in self._failed:
                self._prepared[unit] = Prepared.find(unit, settings)
                for warning in (*unit.notes, *self._prepared[unit].warnings):
                    LOGGER.warning('%s: %s', unit.label, warning)
        return [prepared.example for prepared in self._prepared.values()]

    def _describe(self) -> None:
        """Describe the methods in ``models/CITATION.*``."""
        units, training = list(self._prepared), self.settings.training
        text = describe_training(self._preprocessing, self.cohort.preset, training, units)
        write_citations(text, splits_path(self.settings).parent)

    def _cross_validate(self, task: Task, fold: int, splits: Splits) -> None:
        """Train one fold, synthesise the maps of its test units, and score them."""
        self._say(
            f'{task.method.name}, fold {fold} of {splits.n_splits}: {len(task.training)} unit(s) '
            f'to train on, {len(task.validation)} to stop early, {len(task.test)} to test'
        )
        bundle = self._train(task, {})
        if bundle is None:
            return
        check_unseen(bundle, task.test)
        tested = {example.name for example in task.test}
        units = {unit: made for unit, made in self._prepared.items() if unit.label in tested}
        workflow = init_out_of_fold_wf(
            units=units,
            settings=self.settings,
            bundle=bundle,
            method=task.method.name,
            fold=fold,
            device=resolve_device(self.settings, bundle),
        )
        self._run(workflow, units)

    def _train(self, task: Task, scores: Mapping[str, tuple[float, float]]) -> Bundle | None:
        """Train one model; where that fails, so do the units it was to be tested on."""
        with claim(self.settings.execution.work_dir, [task.job]) as held:
            if held:
                reason = held_elsewhere(self.settings.execution.work_dir)
                self._give_up(task, f'{task.name} is not trained: {reason}')
                return None
            return self._train_alone(task, scores)

    def _train_alone(self, task: Task, scores: Mapping[str, tuple[float, float]]) -> Bundle | None:
        preset, settings = self.cohort.preset, self.settings
        anew, work = not settings.training.resume, task.work(settings)
        if anew and work not in self._forgotten:  # stages that methods share are trained once
            forget(task, settings)
            self._forgotten.add(work)
        bundle = None if anew else finished_model(task, preset, settings)
        if not bundle:
            self.convoy.tell(task)
            try:
                bundle = train_model(task, preset, settings, self.machine, scores)
            except TrainingError as error:
                self._give_up(task, str(error))
                return None
        self._say(f'{task.name}: {bundle.path}, sha256 {bundle.sha256}')
        return bundle

    def _give_up(self, task: Task, reason: str) -> None:
        """Take note of a model that there is not, and of the units it was to be tested on."""
        for name in [example.name for example in task.test] or [task.name]:
            outcome = Outcome(name, 'failed', step=f'training {task.name}', reason=reason)
            self._failed.setdefault(name, outcome)
        self._say(f'{task.name} failed: {reason}')
        if self.settings.execution.stop_on_first_crash:
            raise _StoppedError

    def _run(self, workflow: 'LiterateWorkflow', units: Iterable[Unit]) -> None:
        """Run a graph and take note of the units that fail."""
        labels = {workflow_name(unit): unit.label for unit in units}
        progress = follow(workflow, labels, self.console)
        failures = run_graph(workflow, self.settings, progress)
        for label in labels.values():
            self._seconds[label] = self._seconds.get(label, 0) + progress.seconds(label)
        for label, (first, *_) in by_unit(failures, labels).items():
            self._failed[label] = Outcome(
                label, 'failed', self._seconds[label], step_of(first.node), first.message
            )
        if failures and self.settings.execution.stop_on_first_crash:
            raise _StoppedError

    def _close(self, status: str, reason: str = '') -> int:
        """Write the verdict; units that did not fail by themselves get `status`."""
        labels = [unit.label for unit in self.cohort.units]
        failed = self._failed
        outcomes = [
            failed.get(label, Outcome(label, status, self._seconds.get(label), reason=reason))
            for label in labels
        ]
        models = [outcome for name, outcome in failed.items() if name not in labels]
        skipped = [Outcome(s.label, 'skipped', reason=s.reason) for s in self.cohort.skipped]
        return close_run(self.settings, [*outcomes, *models, *skipped])

    def _say(self, text: str) -> None:
        LOGGER.info(text)
        self.console.print(text, markup=False, highlight=False)


def _machine(settings: Settings) -> Machine:
    """Divide the processors of this machine among the processes of a training."""
    wanted, training = settings.processing.device, settings.training
    gpu = wanted != 'cpu' and available().gpus > 0
    threads = max(1, settings.execution.nprocs // training.devices)
    return Machine(
        accelerator={'auto': 'auto', 'cpu': 'cpu'}.get(wanted, 'gpu'),
        devices=training.devices,
        num_nodes=training.num_nodes,
        threads=threads,
        workers=min(4, threads - 1) if gpu else 0,  # without a GPU they would take its place
    )
