"""Small examples and a preset that trains in seconds."""

from dataclasses import replace

import numpy as np
import pytest

from demist_app.model.presets import load_preset
from demist_app.training.examples import write_example

EDGE = 32


@pytest.fixture(scope='session')
def micro():
    """The tiny preset with a handful of updates per stage."""
    preset = load_preset('tiny')
    budgets = {
        name: replace(
            getattr(preset.training, name), updates=4, batch=1, patch=EDGE, patch_min=0
        )
        for name in (
            'psr_autoencoder', 'cond_autoencoder', 'alignment', 'backbone', 'conditional',
        )
    }  # fmt: skip
    training = replace(
        preset.training, **budgets, adversarial_start=2, validate_every=2, latent_versions=2
    )
    return replace(preset, training=training)


def ball(centre, radius):
    """A filled sphere on the grid of the examples."""
    axes = np.meshgrid(*[np.arange(EDGE)] * 3, indexing='ij')
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


@pytest.fixture(scope='session')
def examples(tmp_path_factory):
    """Six participants: a ball of a brain with a core of white matter."""
    store = tmp_path_factory.mktemp('store')
    made = []
    for number in range(6):
        rng = np.random.default_rng(number)
        brain = ball(rng.uniform(14, 18, 3), rng.uniform(11, 13))
        core = ball(rng.uniform(14, 18, 3), rng.uniform(6, 8)) & brain
        psr = 6.0 * brain + rng.uniform(5, 7) * core
        t1w = 0.5 * brain + 0.4 * core + 0.02 * rng.standard_normal(brain.shape)
        flair = 0.8 * brain - 0.2 * core + 0.02 * rng.standard_normal(brain.shape)
        images = np.stack([[t1w, flair], [0.9 * t1w, 1.1 * flair]])
        made.append(
            write_example(
                store,
                f'sub-{number}',
                images,
                psr,
                brain,
                participant=f'sub-{number}',
                group='patient' if number % 2 else 'control',
            )
        )
    return made
