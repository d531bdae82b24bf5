import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.model.intensities import distance, profile, reference
from demist_app.model.linear import LinearFit, LinearPredictor
from demist_app.model.residuals import PSR_MAX


def subject(seed, coefficients, noise=0.0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 1, (2, 12, 11, 10)).astype(np.float32)
    mask = rng.random((12, 11, 10)) < 0.7
    constant, t1w, flair = coefficients
    psr = constant + t1w * images[0] + flair * images[1] + rng.normal(0, noise, mask.shape)
    return images, psr.astype(np.float32), mask


@given(st.tuples(st.floats(6, 9), st.floats(0, 8), st.floats(-6, 0)))
def test_noise_free_coefficients_are_recovered(coefficients):
    fit = LinearFit()
    for seed in range(2):
        fit.add(*subject(seed, coefficients))
    np.testing.assert_allclose(fit.solve().coefficients, coefficients, atol=1e-4)


def test_residual_sd_is_that_of_the_noise():
    fit = LinearFit()
    for seed in range(8):
        fit.add(*subject(seed, (8, 6, -4), noise=0.5))
    model = fit.solve()
    np.testing.assert_allclose(model.residual_sd, 0.5, rtol=0.15)


def test_by_hand():
    model = LinearPredictor(np.array([1.0, 10.0, -2.0]), np.arange(25.0))
    images = np.array([[[[0.5, 0.5, 1.0]]], [[[0.25, 0.25, 1.0]]]], np.float32)
    mask = np.array([[[True, False, True]]])
    mean, sd = model.predict(images, mask)
    np.testing.assert_allclose(mean, [[[5.5, 0, 9.0]]])
    np.testing.assert_allclose(sd, [[[5.0, 0, 8.5]]])  # centres of the bins are at i + 0.5


def test_prediction_stays_in_the_range_of_psr():
    model = LinearPredictor(np.array([-5.0, 100.0, 0.0]), np.ones(25))
    images = np.stack([np.linspace(0, 1, 8).reshape(2, 2, 2)] * 2).astype(np.float32)
    mean, _ = model.predict(images, np.ones((2, 2, 2), bool))
    assert mean.min() == 0
    assert mean.max() == PSR_MAX


def test_undetermined_fit_is_refused():
    fit = LinearFit()
    images = np.ones((2, 3, 3, 3), np.float32)
    fit.add(images, images[0], np.ones((3, 3, 3), bool))
    with pytest.raises(np.linalg.LinAlgError):
        fit.solve()


def test_distance_tells_training_scans_from_others():
    rng = np.random.default_rng(0)
    mask = np.ones((20, 20, 20), bool)
    scans = [np.clip(rng.normal([[0.6], [0.4]], 0.1, (2, 8000)), 0, 1) for _ in range(6)]
    scans = [scan.reshape(2, 20, 20, 20).astype(np.float32) for scan in scans]
    training = reference([profile(scan, mask) for scan in scans])
    assert max(distance(scans[0], mask, training).values()) < 1
    inverted = np.stack([1 - scans[0][0], scans[0][1]])
    scores = distance(inverted, mask, training)
    assert scores['T1w'] > 4 > scores['FLAIR']
