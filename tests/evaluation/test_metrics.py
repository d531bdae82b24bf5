import numpy as np
import pytest

from demist_app.evaluation.metrics import dice, score


def brain(shape=(24, 26, 22)):
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing='ij'))
    return (grid**2).sum(0) < 0.8


def test_identity_is_perfect():
    mask = brain()
    psr = np.random.default_rng(0).uniform(0, 15, mask.shape).astype(np.float32)
    scores = score(psr, psr, mask)
    assert scores.psnr == np.inf
    assert scores.ssim == pytest.approx(1)
    assert scores.mae == 0


def test_psnr_and_mae_of_a_constant_offset():
    mask = brain()
    measured = np.full(mask.shape, 5, np.float32)
    measured[mask] = np.linspace(2, 10, mask.sum())
    scores = score(measured + 0.5, np.minimum(measured, 9), mask)
    scale = np.percentile(np.minimum(measured, 9)[mask], 99.5)
    assert scale == 9
    first, second = np.clip((measured + 0.5) / 9, 0, 1), np.clip(measured / 9, 0, 1)
    expected = -10 * np.log10(np.mean((first - second)[mask] ** 2))
    assert scores.psnr == pytest.approx(expected, abs=1e-3)


def test_nothing_outside_the_mask_counts():
    mask = brain()
    rng = np.random.default_rng(1)
    measured = rng.uniform(0, 15, mask.shape).astype(np.float32)
    synthetic = measured + rng.normal(0, 1, mask.shape).astype(np.float32)
    inside = score(synthetic, measured, mask)
    synthetic[~mask] = 1000
    assert score(synthetic, measured, mask) == inside


def test_dice():
    first = np.zeros((4, 4), bool)
    second = first.copy()
    assert dice(first, second) == 1
    first[:2], second[1:3] = True, True
    assert dice(first, second) == 0.5
