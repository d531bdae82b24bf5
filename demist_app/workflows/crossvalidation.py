"""One model of a cross-validation: who it learns from, its training, its bundle."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demist_app.model.bundle import METADATA, Bundle, BundleError, load_bundle
from demist_app.model.intensities import profile, reference
from demist_app.model.presets import Preset
from demist_app.settings import DEFAULT_METHOD, Settings
from demist_app.training.course import Course
from demist_app.training.examples import Example, facts
from demist_app.training.fit import Machine
from demist_app.training.folds import FoldError, Splits, hold_out
from demist_app.training.methods import METHODS, Method


@dataclass(frozen=True)
class Task:
    """One model to train.

    Attributes
    ----------
    name : str
        As `model_name` gives it: the place of its bundle below ``models``.
    training, validation, test : tuple of Example
        No participant is in two of them; `test` is empty for the final model.
    """

    name: str
    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...] = ()

    @property
    def method(self) -> Method:
        """What is trained."""
        return METHODS[self.name.rpartition('/')[0] or DEFAULT_METHOD]

    @property
    def job(self) -> str:
        """What only one run at a time can do: methods that share stages are one job."""
        part = self.name.rpartition('/')[2]
        return part if self.method.shares_stages else f'{part}/{self.method.name}'

    def work(self, settings: Settings) -> Path:
        """Folder of checkpoints and logs."""
        return settings.execution.work_dir / 'demist_group' / self.job

    def bundle(self, settings: Settings) -> Path:
        """Folder of the finished model."""
        return settings.inputs.out_dir / 'models' / self.name


def model_name(part: str, method: str) -> str:
    """Name the model of one part of the work, ``fold-<k>`` or ``final``.

    Examples
    --------
    >>> model_name('fold-1', 'demist'), model_name('fold-1', 'unet')
    ('fold-1', 'unet/fold-1')
    """
    return part if method == DEFAULT_METHOD else f'{method}/{part}'


def fold_task(
    splits: Splits,
    examples: Sequence[Example],
    fold: int,
    seed: int,
    method: str = DEFAULT_METHOD,
) -> Task:
    """Part the examples for one fold, a tenth of the training participants for early stopping.

    All methods get the same parts.
    """
    rest, test = splits.select(examples, fold)
    training, validation = hold_out(rest, seed)
    name = model_name(f'fold-{fold}', method)
    return Task(name, tuple(training), tuple(validation), tuple(test))


def final_task(examples: Sequence[Example], seed: int, method: str = DEFAULT_METHOD) -> Task:
    """Take all examples, a tenth of the participants for early stopping."""
    training, validation = hold_out(examples, seed)
    return Task(model_name('final', method), tuple(training), tuple(validation))


def finished_model(task: Task, preset: Preset, settings: Settings) -> Bundle | None:
    """Return the bundle of a task if an earlier run made it from the same data and settings."""
    try:
        bundle = load_bundle(task.bundle(settings))
    except BundleError:  # none yet, or one that is broken: it is made anew
        return None
    return bundle if bundle.metadata.get('request') == _request(task, preset, settings) else None


def train_model(
    task: Task,
    preset: Preset,
    settings: Settings,
    machine: Machine,
    scores: Mapping[str, tuple[float, float]],
) -> Bundle:
    """Train one model, going on from where an earlier run stopped, and write its bundle.

    A bundle of another question that is in its place is removed at once: if training fails, it must
    not be taken for the answer.

    Parameters
    ----------
    task : Task
    preset : Preset
    settings : Settings
    machine : Machine
    scores : mapping
        Mean and SD of each metric out of fold, for the model card of the final model.

    Raises
    ------
    TrainingError
        If training cannot go on.
    """
    _remove_bundle(task, settings)
    profiles = [
        profile(np.asarray(example.images[0], np.float32), example.mask > 0)
        for example in task.training
    ]
    return task.method.fit(
        _course(task, preset, settings, machine),
        task.bundle(settings),
        facts={
            'request': _request(task, preset, settings),
            'seed': settings.processing.random_seed,
            'training_units': [facts(example) for example in task.training],
            'validation_units': [facts(example) for example in task.validation],
            'intensity_reference': reference(profiles),
            'metrics': dict(scores),
        },
    )


def train_stages(
    task: Task, preset: Preset, settings: Settings, machine: Machine
) -> dict[str, Any]:
    """Run the stages that are not done yet, as `train_model` does; write no bundle.

    This is for the other processes of a distributed training.
    """
    return task.method.train(_course(task, preset, settings, machine))


def forget(task: Task, settings: Settings) -> None:
    """Remove the stages that an earlier run left, but not those of methods that share none."""
    others = METHODS if task.method.shares_stages else ()
    for folder in task.work(settings).glob('*/'):
        if folder.name not in others:
            shutil.rmtree(folder, ignore_errors=True)


def check_unseen(bundle: Bundle, test: Sequence[Example]) -> None:
    """Make sure that a model was trained, and chosen, without the units it is about to meet.

    Raises
    ------
    FoldError
        If a participant, or the same image, is among what the bundle says it was trained on.
    """
    seen = [*bundle.metadata['training_units'], *bundle.metadata['validation_units']]
    participants, digests = ({unit[key] for unit in seen} for key in ('participant', 'digest'))
    for example in test:
        if example.participant in participants or example.digest in digests:
            raise FoldError(
                f'{bundle.path} was trained on {example.name}, or on another scan of the same '
                'participant, and cannot be scored on it: run again with --no-resume'
            )


def _course(task: Task, preset: Preset, settings: Settings, machine: Machine) -> Course:
    return Course(
        preset=preset,
        training=task.training,
        validation=task.validation,
        work=task.work(settings),
        seed=settings.processing.random_seed,
        backbone=settings.training.backbone,
        machine=machine,
    )


def _remove_bundle(task: Task, settings: Settings) -> None:
    if (task.bundle(settings) / METADATA).exists():
        shutil.rmtree(task.bundle(settings))


def _request(task: Task, preset: Preset, settings: Settings) -> dict[str, str]:
    """Hash what a model is a function of: how it is trained, and on whom."""
    recipe = {
        **task.method.recipe(preset),
        'seed': settings.processing.random_seed,
        'backbone': settings.training.backbone is not None,
    }
    scans = {
        'training': [example.digest for example in task.training],
        'validation': [example.digest for example in task.validation],
    }
    return {
        name: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        for name, content in (('recipe', recipe), ('scans', scans))
    }
