"""The stock recipe of ``benchmarks/speed`` samples what demist's own networks and samplers give."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from demist_app.model.demist import Demist
from demist_app.model.diffusion import convert, scaled_linear
from demist_app.model.samplers import ddim

BENCHMARKS = str(Path(__file__).parents[2] / 'benchmarks')
EDGE, STEPS = 32, 3


@pytest.fixture(scope='module')
def reference():
    sys.path.insert(0, BENCHMARKS)
    try:
        from speed import reference
    finally:
        sys.path.remove(BENCHMARKS)
    return reference


@pytest.fixture
def model(tiny, fill):
    torch.manual_seed(0)
    return fill(Demist(tiny)).eval()


@torch.no_grad()
def by_hand(model, images, generator_seed):
    """DDIM over MONAI's grid, whose steps end beside the next one."""
    preset, diffusion = model.preset, model.preset.diffusion
    schedule = scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
    z_c = model.encode_cond(torch.from_numpy(images)[None])
    torch.manual_seed(generator_seed)
    noisy = torch.randn_like(z_c)
    conditioning = model.denoiser.condition(z_c, torch.full((1, 3), -EDGE / 2))

    def denoise(noisy, t):
        prediction = model.denoiser(noisy, torch.tensor([t]), conditioning)
        return convert(prediction, noisy, schedule.at(t), diffusion.prediction)

    times = torch.linspace(diffusion.steps - 1, 0, STEPS).round().int().tolist()
    pairs = [(t, max(t - diffusion.steps // STEPS, -1)) for t in times]
    latent = ddim(denoise, noisy, pairs, schedule, None)
    return preset.psr_scale * model.decode(latent).clamp(0, 1)[0, 0].numpy()


def test_one_window_is_what_the_model_gives(reference, model, monkeypatch):
    monkeypatch.setattr(reference, 'WINDOW', EDGE)
    rng = np.random.default_rng(0)
    images = rng.random((2, EDGE, EDGE, EDGE), np.float32)
    mask = np.ones((EDGE,) * 3, bool)
    recipe = reference.Reference(model, 'ddim', STEPS, STEPS)
    found = recipe.synthesise(images, mask, 3, torch.device('cpu'))
    expected = by_hand(model, images, 3)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_it_samples_anew_in_every_window(reference, model, monkeypatch):
    monkeypatch.setattr(reference, 'WINDOW', EDGE)
    images = np.full((2, EDGE, EDGE, 2 * EDGE), 0.5, np.float32)
    mask = np.ones(images.shape[1:], bool)
    found = reference.Reference(model, 'ddim', STEPS, STEPS).synthesise(
        images, mask, 3, torch.device('cpu')
    )
    assert found.shape == mask.shape
    assert np.abs(found[..., :EDGE] - found[..., EDGE:]).max() > 0.1


def test_fewer_steps_are_the_last_ones(reference, model):
    whole = reference.Reference(model, 'ddpm', 1000, 1000).scheduler().timesteps
    some = reference.Reference(model, 'ddpm', 1000, 5).scheduler().timesteps
    assert some.tolist() == whole[-5:].tolist() == [4, 3, 2, 1, 0]
