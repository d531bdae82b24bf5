import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.regression import compute_ssim_and_cs
from scipy.ndimage import binary_erosion
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio
from torchmetrics.functional import mean_absolute_error, pearson_corrcoef
from torchmetrics.functional.image import structural_similarity_index_measure

from demist_app.evaluation.metrics import DATA_RANGE, WINDOW, dice, score


def brain(shape=(24, 26, 22)):
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing='ij'))
    return (grid**2).sum(0) < 0.8


def pair(seed=0, noise=1.0):
    """A measured and a synthetic map with structure, and a brain that leaves a margin."""
    mask = np.pad(brain(), 6)
    rng = np.random.default_rng(seed)
    measured = np.where(rng.random(mask.shape) < 0.5, 6, 12) + rng.normal(0, 1, mask.shape)
    synthetic = measured + rng.normal(0.3, noise, mask.shape)
    return synthetic.astype(np.float32), measured.astype(np.float32), mask


def scaled(synthetic, measured, mask):
    """Scale as the paper does, written once more."""
    top = np.percentile(measured[mask], 99.5)
    return tuple(np.where(mask, np.clip(x / top, 0, 1), 0) for x in (synthetic, measured))


def test_identity_is_perfect():
    mask = brain()
    psr = np.random.default_rng(0).uniform(0, 15, mask.shape).astype(np.float32)
    scores = score(psr, psr, mask)
    for scaling in (scores, scores.absolute):
        assert scaling.psnr == np.inf
        assert scaling.ssim == pytest.approx(1)
        assert scaling.ssim_eroded == pytest.approx(1)
        assert (scaling.mse, scaling.l1) == (0, 0)
        assert scaling.ncc == pytest.approx(1)
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


def test_absolute_scaling_has_a_fixed_range_and_no_clipping():
    mask = brain()
    measured = np.full(mask.shape, 30, np.float32)
    scores = score(measured + 2, measured, mask)
    assert scores.absolute.psnr == pytest.approx(20)  # 2 of 20 %: a tenth
    assert scores.absolute.mse == pytest.approx(4)
    assert scores.mae == pytest.approx(2)
    assert scores.mse == 0  # both are above the 99.5th percentile


@pytest.mark.parametrize('scaling', ['paper', 'absolute'])
def test_voxelwise_scores_are_those_of_the_libraries(scaling):
    synthetic, measured, mask = pair()
    found = score(synthetic, measured, mask)
    data_range = 1.0
    if scaling == 'paper':
        synthetic, measured = scaled(synthetic, measured, mask)
    else:
        found, data_range = found.absolute, DATA_RANGE
    ours, theirs = synthetic[mask].astype(float), measured[mask].astype(float)
    assert found.mse == pytest.approx(mean_squared_error(theirs, ours), rel=1e-6)
    psnr = peak_signal_noise_ratio(theirs, ours, data_range=data_range)
    assert found.psnr == pytest.approx(psnr, rel=1e-6)
    tensors = torch.tensor(ours), torch.tensor(theirs)
    assert found.l1 == pytest.approx(float(mean_absolute_error(*tensors)), rel=1e-6)
    assert found.ncc == pytest.approx(float(pearson_corrcoef(*tensors)), rel=1e-6)


@pytest.mark.parametrize('scaling', ['paper', 'absolute'])
def test_ssim_is_that_of_the_libraries(scaling):
    synthetic, measured, mask = pair()
    found, data_range = score(synthetic, measured, mask), 1.0
    if scaling == 'paper':
        ours, theirs = scaled(synthetic, measured, mask)
    else:
        found, data_range = found.absolute, DATA_RANGE
        ours, theirs = np.where(mask, synthetic, 0), np.where(mask, measured, 0)
    first, second = (torch.tensor(x, dtype=torch.float32)[None, None] for x in (ours, theirs))
    # MONAI: only windows that lie in the image, so the map is smaller by half a window a side
    monai, _ = compute_ssim_and_cs(
        first, second, 3, (WINDOW,) * 3, (1.5,) * 3, data_range, 'gaussian'
    )
    half = WINDOW // 2
    inner = (slice(half, -half),) * 3
    assert mask[inner].sum() == mask.sum()
    assert found.ssim == pytest.approx(float(monai[0, 0][mask[inner]].mean()), abs=1e-4)
    eroded = binary_erosion(mask, np.ones((WINDOW,) * 3))
    assert 0 < eroded.sum() < mask.sum() / 4
    assert found.ssim_eroded == pytest.approx(float(monai[0, 0][eroded[inner]].mean()), abs=1e-4)
    assert found.ssim != pytest.approx(found.ssim_eroded, abs=0.01)
    # torchmetrics: all voxels, those of the border by reflection, which none of ours is
    _, full = structural_similarity_index_measure(
        first, second, sigma=1.5, data_range=data_range, return_full_image=True
    )
    assert found.ssim == pytest.approx(float(full[0, 0][mask].mean()), abs=1e-4)


def test_thin_brain_has_no_eroded_ssim():
    mask = np.zeros((20, 20, 20), bool)
    mask[4:14, 4:16, 4:16] = True  # ten voxels: no window of eleven fits
    psr = np.random.default_rng(0).uniform(0, 15, mask.shape).astype(np.float32)
    assert np.isnan(score(psr, psr, mask).ssim_eroded)
    mask[14] = mask[13]
    assert score(psr, psr, mask).ssim_eroded == pytest.approx(1)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 2), st.integers(0, 5))
def test_paper_scaling_does_not_depend_on_the_unit(scale, seed):
    synthetic, measured, mask = pair(seed)
    before, after = (
        score(synthetic, measured, mask),
        score(synthetic * scale, measured * scale, mask),
    )
    for name in ('psnr', 'ssim', 'ssim_eroded', 'mse', 'l1', 'ncc'):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-3)
    assert after.mae == pytest.approx(before.mae * scale, rel=1e-4)


def test_nothing_outside_the_mask_counts():
    synthetic, measured, mask = pair()
    inside = score(synthetic, measured, mask)
    synthetic[~mask] = 1000
    assert score(synthetic, measured, mask) == inside


def test_columns_of_a_table():
    scores = score(*pair())
    columns = scores.columns()
    assert list(columns) == [
        'psnr', 'ssim', 'ssim_eroded', 'mse', 'l1', 'ncc', 'mae', 'psnr_absolute',
        'ssim_absolute', 'ssim_eroded_absolute', 'mse_absolute', 'ncc_absolute',
    ]  # fmt: skip
    assert columns['mae'] == scores.mae == scores.absolute.l1
    assert columns['psnr_absolute'] == scores.absolute.psnr


def test_dice():
    first = np.zeros((4, 4), bool)
    second = first.copy()
    assert dice(first, second) == 1
    first[:2], second[1:3] = True, True
    assert dice(first, second) == 0.5
