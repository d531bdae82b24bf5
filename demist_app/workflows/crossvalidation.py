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
from demist_app.settings import Settings
from demist_app.training.examples import Example, facts
from demist_app.training.export import export
from demist_app.training.fit import Machine
from demist_app.training.folds import FoldError, Splits, hold_out
from demist_app.training.run import train


@dataclass(frozen=True)
class Task:
    """One model to train.

    Attributes
    ----------
    name : str
        ``fold-<k>`` or ``final``: the name of its bundle and of its work folder.
    training, validation, test : tuple of Example
        No participant is in two of them; `test` is empty for the final model.
    """

    name: str
    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...] = ()

    def work(self, settings: Settings) -> Path:
        """Folder of checkpoints and logs."""
        return settings.execution.work_dir / 'demist_group' / self.name

    def bundle(self, settings: Settings) -> Path:
        """Folder of the finished model."""
        return settings.inputs.out_dir / 'models' / self.name


def fold_task(splits: Splits, examples: Sequence[Example], fold: int, seed: int) -> Task:
    """Part the examples for one fold, a tenth of the training participants for early stopping."""
    rest, test = splits.select(examples, fold)
    training, validation = hold_out(rest, seed)
    return Task(f'fold-{fold}', tuple(training), tuple(validation), tuple(test))


def final_task(examples: Sequence[Example], seed: int) -> Task:
    """Take all examples, a tenth of the participants for early stopping."""
    training, validation = hold_out(examples, seed)
    return Task('final', tuple(training), tuple(validation))


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
    stages = train_stages(task, preset, settings, machine)
    profiles = [
        profile(np.asarray(example.images[0], np.float32), example.mask > 0)
        for example in task.training
    ]
    return export(
        task.work(settings),
        preset,
        task.bundle(settings),
        facts={
            'request': _request(task, preset, settings),
            'stages': stages,
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
    """Run the stages that are not done yet; all processes of a distributed training call this."""
    return train(
        preset,
        task.training,
        task.validation,
        task.work(settings),
        seed=settings.processing.random_seed,
        backbone=settings.training.backbone,
        machine=machine,
    )


def forget(task: Task, settings: Settings) -> None:
    """Remove what an earlier run left of a model."""
    shutil.rmtree(task.work(settings), ignore_errors=True)
    _remove_bundle(task, settings)


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


def _remove_bundle(task: Task, settings: Settings) -> None:
    if (task.bundle(settings) / METADATA).exists():
        shutil.rmtree(task.bundle(settings))


def _request(task: Task, preset: Preset, settings: Settings) -> dict[str, str]:
    """Hash what a model is a function of: how it is trained, and on whom."""
    recipe = {
        'preset': preset.as_dict(),
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
