"""What a training run is a function of, and the life of one of its stages on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from demist_app.model.presets import Preset, StagePreset
from demist_app.training.examples import Example
from demist_app.training.fit import Machine, TrainingError
from demist_app.training.patches import Patches

WEIGHTS = 'weights.safetensors'
FACTS = 'facts.json'

Trained = tuple[Mapping[str, Any], dict[str, Any]]
"""Weights of a stage, tensors or arrays, and its facts, JSON-able."""

Step = Callable[['Course', Path], Trained]
"""Trains one stage in its folder."""


@dataclass(frozen=True)
class Course:
    """What a training run is a function of.

    Attributes
    ----------
    preset : Preset
    training, validation : sequence of Example
        No participant is in both.
    work : Path
        A folder per stage.
    seed : int
    backbone : Path or None
        Pretrained backbone; without it, stage 1c makes one.
    machine : Machine
    """

    preset: Preset
    training: Sequence[Example]
    validation: Sequence[Example]
    work: Path
    seed: int
    backbone: Path | None
    machine: Machine

    def check(self) -> None:
        """Make sure that no participant is on both sides.

        Raises
        ------
        TrainingError
            If one is.
        """
        both = {e.participant for e in self.training} & {e.participant for e in self.validation}
        if both:
            raise TrainingError(
                f'{", ".join(sorted(both))} would be both trained and validated on: give each '
                'participant to one side'
            )

    def fingerprint(self, **recipe: Any) -> str:
        """Hash a recipe, JSON-able, together with the scans and the seed."""
        whole = recipe | {
            'training': [e.digest for e in self.training],
            'validation': [e.digest for e in self.validation],
            'seed': self.seed,
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def run_stage(course: Course, folder: Path, fingerprint: str, step: Step) -> dict[str, Any]:
    """Run a stage if it is not done yet.

    Parameters
    ----------
    course : Course
    folder : Path
        Of this stage alone.
    fingerprint : str
        Hash of all that its weights are a function of.
    step : callable

    Returns
    -------
    dict
        Its facts.

    Raises
    ------
    TrainingError
        If a participant is in both sets, `folder` belongs to another run, memory is short, or the
        loss became infinite.
    """
    course.check()
    _claim(folder, fingerprint)
    if not (folder / FACTS).exists():
        _finish(folder, *step(course, folder))
    while not (folder / FACTS).exists():  # the first of SLURM's processes is about to write it
        time.sleep(0.2)
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding='utf-8'))
    return facts


def kept_facts(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the facts of stages as a bundle keeps them.

    Of the course of a stage, ``history``, only updates and validation loss, in pairs: the page on
    how well methods do draws them, also when the work folder is gone.
    """
    return {
        name: {
            **facts,
            'history': [[past['updates'], past['val/loss']] for past in facts.get('history', ())],
        }
        for name, facts in stages.items()
    }


def patches(course: Course, budget: StagePreset) -> tuple[Patches, Patches]:
    """Return the patches that a stage trains on, and those it stops early by."""
    scale = course.preset.psr_scale
    return (
        Patches(course.training, budget, scale, course.seed),
        Patches(course.validation, budget, scale, course.seed + 1),
    )


def _claim(folder: Path, fingerprint: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / 'fingerprint'
    if mark.exists() and mark.read_text(encoding='utf-8') != fingerprint:
        raise TrainingError(
            f'{folder} holds a training with another preset, other scans or another seed: give '
            'another work folder (-w), or --no-resume to start anew'
        )
    mark.write_text(fingerprint, encoding='utf-8')


def _finish(folder: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write what a stage has to give; the facts last, since they say that it is done."""
    if int(os.environ.get('SLURM_PROCID', '0')):  # all processes share the folder
        return
    aside = folder / f'.{WEIGHTS}'
    tensors = {k: torch.as_tensor(v).detach().cpu().contiguous() for k, v in state.items()}
    save_file(tensors, aside)
    aside.replace(folder / WEIGHTS)
    aside = folder / f'.{FACTS}'
    aside.write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')
    aside.replace(folder / FACTS)
