"""Stage 3: few evaluations, from the estimate of stage 1b."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demist_app.model.diffusion import (
    Denoised,
    add_noise,
    bridge_noise,
    scaled_linear,
    time_pairs,
)
from demist_app.model.presets import BRIDGE
from demist_app.model.samplers import SAMPLERS
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.training.card import model_card, quality_text
from demist_app.training.course import kept_facts
from demist_app.training.fit import Machine
from demist_app.training.run import DISTILLED, STAGES, WEIGHTS, assemble, train

MACHINE = Machine(accelerator='cpu')
START = 249


def drawn(n, seed):
    return torch.randn(n, 1, 1, 1, 1, generator=torch.Generator().manual_seed(seed)).double()


def test_the_bridge_ends_at_the_estimate():
    schedule = scaled_linear()
    clean, estimate = drawn(5, 0), drawn(5, 1)
    t = torch.full((5,), START)
    noise = bridge_noise(schedule, clean, estimate, START)
    torch.testing.assert_close(
        add_noise(schedule, clean, noise, t), math.sqrt(schedule.at(START)) * estimate
    )


@pytest.mark.parametrize('steps', [1, 2, 8])
def test_whoever_knows_the_truth_walks_the_bridge_to_it(steps):
    """The states on the way are those of the training."""
    schedule = scaled_linear()
    clean, estimate = drawn(5, 0), drawn(5, 1)
    noise = bridge_noise(schedule, clean, estimate, START)

    def denoise(noisy, t):
        torch.testing.assert_close(noisy, add_noise(schedule, clean, noise, torch.full((5,), t)))
        return Denoised(noise=noise, clean=clean)

    start = math.sqrt(schedule.at(START)) * estimate
    pairs = time_pairs(START + 1, steps)
    found = SAMPLERS[BRIDGE](denoise, start, pairs, schedule, None)
    torch.testing.assert_close(found, clean)


@pytest.fixture(scope='module')
def distilled(tmp_path_factory, micro, examples):
    """A training with stage 3: (work folder, preset, facts)."""
    work = tmp_path_factory.mktemp('distilled')
    budget = dataclasses.replace(micro.training.conditional, learning_rate=0.01)
    training = dataclasses.replace(micro.training, distillation=budget)
    preset = dataclasses.replace(micro, training=training).distilled()
    return work, preset, train(preset, examples[:4], examples[4:], work, machine=MACHINE)


def test_stage_3_changes_the_streams_alone(distilled):
    work, _, facts = distilled
    assert tuple(facts) == (*STAGES, DISTILLED)
    before, after = (load_file(work / s / WEIGHTS) for s in ('2-conditional', DISTILLED))
    changed = {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'semantic', 'spatial', 'adaptive'}


def test_the_model_is_that_of_stage_3_and_samples_so(distilled):
    work, preset, _ = distilled
    model = assemble(preset, work)
    after = load_file(work / DISTILLED / WEIGHTS)
    assert torch.equal(model.denoiser.spatial.gate_in.weight, after['spatial.gate_in.weight'])
    images = np.random.default_rng(0).random((2, 32, 32, 32), np.float32)
    predictor = DiffusionPredictor(model)
    mask = np.ones((32,) * 3, bool)
    made = predictor.predict(images, mask, n_samples=1, seed=0, device='cpu')
    again = predictor.predict(images, mask, n_samples=4, seed=5, device='cpu')
    assert again.facts['Draws'] == 1  # there is no noise to draw
    np.testing.assert_array_equal(again.mean, made.mean)
    assert made.facts['SamplingSteps'] == 1
    assert made.facts['SamplingStrength'] == 0.25
    assert np.isfinite(made.mean).all()


def test_the_card_says_that_it_was_distilled(distilled):
    _, preset, facts = distilled
    card = model_card(
        {
            'name': 'one', 'preset': preset.as_dict(), 'training_data': 'phantoms', 'seed': 0,
            'validation_units': [], 'backbone': 'ours', 'version': '1', 'libraries': {},
            'parameters': {}, 'trainable_share': 0.3, 'stages': kept_facts(facts), 'metrics': {},
            'scored_on': '', 'network': 'demist',
            'uncertainty': {'residual_sd': [1.0], 'units': 3, 'voxels': 60_000},
        }
    )  # fmt: skip
    assert 'distilled: the map takes 1 evaluation(s)' in card
    assert '3-distilled: the same, for few evaluations' in card
    assert 'its errors on 3 scans' in card
    assert 'of means' not in card


def test_the_card_says_how_right_it_is_in_lesions_and_in_its_doubt():
    told = quality_text(
        {
            'lesions': {
                'count': 53, 'participants': 4,
                'auc': {'this model': [0.97, 0.94, 0.99], 'FLAIR alone': [0.95, 0.88, 0.98]},
                'truth': {'r': 0.8, 'ccc': 0.7, 'bias': 0.26, 'lower': -2.1, 'upper': 2.7},
            },
            'coverage': {'levels': [0.5, 0.95], 'regions': {'lesions': [0.34, 0.9]}},
        }
    )  # fmt: skip
    assert '53 lesions of 4 of them' in told
    assert 'this model 0.970 (0.940 to 0.990), FLAIR alone 0.950 (0.880 to 0.980)' in told
    assert 'CCC 0.70, bias +0.26 percentage\npoints, limits of agreement -2.10 to +2.70' in told
    assert '| interval | 50 % | 95 % |' in told
    assert '| lesions | 34 % | 90 % |' in told
    assert quality_text({}) == ''


def test_without_stage_3_the_same_folder_serves(distilled, micro, examples):
    """What comes before is shared, and not trained again."""
    work, preset, facts = distilled
    training = dataclasses.replace(preset.training, distill=False)
    plain = dataclasses.replace(micro, training=training)
    again = train(plain, examples[:4], examples[4:], work, machine=MACHINE)
    assert again == {name: facts[name] for name in STAGES}
