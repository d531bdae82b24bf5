import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demist_app.evaluation.calibration import (
    LEVELS,
    coverage,
    fit_scale,
    measurement_noise,
    predictive_sd,
    rank_histogram,
    spread_skill,
)

N = 40_000


def sds(rng):
    return rng.uniform(0.3, 2.0, N)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 50), factor=st.floats(0.3, 3), noise=st.sampled_from([0.0, 0.6]))
def test_the_factor_is_found_and_makes_intervals_nominal(seed, factor, noise):
    rng = np.random.default_rng(seed)
    sd = sds(rng)
    error = rng.normal(0, np.hypot(factor * sd, noise))
    found = fit_scale(error, sd, noise=noise)
    assert found == pytest.approx(factor, rel=0.06)
    shares = coverage(error, predictive_sd(sd, scale=found, noise=noise))
    assert list(shares) == list(LEVELS)
    for level, share in shares.items():
        assert share == pytest.approx(level, abs=0.02)


def test_wrong_voxels_that_no_draw_moves_do_not_rule_the_factor():
    rng = np.random.default_rng(1)
    sd = sds(rng)
    error = rng.normal(0, 1.5 * sd)
    sd[:20], error[:20] = 1e-6, 3.0
    assert fit_scale(error, sd) == pytest.approx(1.5, rel=0.02)


def test_errors_smaller_than_the_noise_need_no_spread():
    assert fit_scale([0.1, -0.1], [1.0, 1.0], noise=0.6) == 0


@pytest.mark.parametrize('n', [2, 8])
def test_the_stated_sd_of_a_perfect_model_is_its_error(n):
    rng = np.random.default_rng(2)
    centre, sd = rng.normal(8, 3, N), sds(rng)
    drawn = centre + sd * rng.standard_normal((n, N))
    observed = centre + sd * rng.standard_normal(N)
    error = observed - drawn.mean(axis=0)
    spread = predictive_sd(drawn.std(axis=0, ddof=1), draws=n)
    assert np.sqrt(np.mean(spread**2)) == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.02)
    assert fit_scale(error, drawn.std(axis=0, ddof=1), draws=n) == pytest.approx(1, rel=0.02)


def test_coverage_of_a_normal_error():
    rng = np.random.default_rng(3)
    shares = coverage(rng.normal(0, 2, N), np.full(N, 1.0))
    # P(|z| < 1.96 / 2)
    assert shares[0.95] == pytest.approx(0.673, abs=0.01)


@pytest.mark.parametrize('n', [2, 4, 8])
def test_intervals_of_few_draws_of_a_perfect_model_are_nominal(n):
    rng = np.random.default_rng(7)
    drawn = rng.standard_normal((n, N))
    error = rng.standard_normal(N) - drawn.mean(axis=0)
    sd = predictive_sd(drawn.std(axis=0, ddof=1), draws=n)
    for level, share in coverage(error, sd, draws=n).items():
        assert share == pytest.approx(level, abs=0.01)
    assert coverage(error, sd)[0.9] < 0.87  # what they would seem to be


def test_noise_from_a_repetition():
    rng = np.random.default_rng(4)
    psr = rng.uniform(0, 14, N)
    first, second = (psr + rng.normal(0, 0.6, N) for _ in range(2))
    assert measurement_noise(first, second) == pytest.approx(0.6, rel=0.02)


def test_spread_and_skill_rise_together_where_the_sd_is_right():
    rng = np.random.default_rng(5)
    sd = sds(rng)
    bins = spread_skill(rng.normal(0, sd), sd, bins=5)
    assert bins.count.sum() == N
    assert (np.diff(bins.spread) > 0).all()
    np.testing.assert_allclose(bins.spread, bins.skill, rtol=0.05)
    flat = spread_skill(rng.normal(0, 1, N), sd, bins=5)
    np.testing.assert_allclose(flat.skill, 1, rtol=0.05)


def test_voxels_of_one_sd_are_grouped_at_random():
    error = np.repeat([0.0, 1.0], N // 2)  # as the upper half of a brain
    np.testing.assert_allclose(spread_skill(error, np.ones(N)).skill, 0.5**0.5, rtol=0.05)


def histogram(spread, shift=0.0, noise=0.0):
    rng = np.random.default_rng(6)
    observed = rng.normal(0, np.hypot(1, noise), N)
    return rank_histogram(spread * rng.standard_normal((4, N)) + shift, observed, noise=noise)


def test_ranks_tell_what_is_wrong():
    np.testing.assert_allclose(histogram(1.0), 0.2, atol=0.01)
    np.testing.assert_allclose(histogram(1.0, noise=2.0), 0.2, atol=0.01)
    narrow, wide, high = histogram(0.5), histogram(2.0), histogram(1.0, shift=1.0)
    assert narrow[[0, 4]].min() > 0.25 > narrow[2]
    assert wide[2] > 0.25 > wide[[0, 4]].max()
    assert high[0] > 0.4 > high[4]


def test_equal_values_are_spread_over_the_ranks():
    shares = rank_histogram(np.zeros((3, N)), np.zeros(N))
    np.testing.assert_allclose(shares, 0.25, atol=0.01)
