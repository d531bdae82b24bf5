import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from demist_app.evaluation.bootstrap import cluster_interval, mean_interval
from demist_app.evaluation.roc import (
    auc,
    auc_interval,
    delong,
    delong_interval,
    delong_test,
    roc_points,
)


@st.composite
def rated(draw, columns=1):
    """Labels of both kinds and scores with many ties."""
    positive, negative = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    n = positive + negative
    scores = [draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)) for _ in range(columns)]
    return np.arange(n) < positive, *map(np.array, scores)


def components(labels, scores):
    """Structural components of DeLong 1988, equation 4, by counting all pairs."""
    above, below = scores[labels], scores[~labels]
    wins = np.sign(above[:, None] - below) / 2 + 0.5
    return wins.mean(1), wins.mean(0)


def covariance(labels, first, second):
    pairs = zip(components(labels, first), components(labels, second), strict=True)
    return sum(np.cov(a, b)[0, 1] / len(a) for a, b in pairs)


@settings(deadline=None)
@given(rated())
def test_area_is_that_of_scikit_learn(case):
    labels, scores = case
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@settings(deadline=None)
@given(rated())
def test_variance_is_that_of_all_pairs_counted(case):
    labels, scores = case
    area, variance = delong(labels, scores)
    assert area == pytest.approx(components(labels, scores)[0].mean())
    assert variance == pytest.approx(covariance(labels, scores, scores), abs=1e-12)


@settings(deadline=None)
@given(rated(columns=2))
def test_paired_test_is_that_of_all_pairs_counted(case):
    labels, first, second = case
    difference = components(labels, first)[0].mean() - components(labels, second)[0].mean()
    variance = (
        covariance(labels, first, first)
        + covariance(labels, second, second)
        - 2 * covariance(labels, first, second)
    )
    found = delong_test(labels, first, second)
    if variance > 1e-9:
        assert found == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))
    assert 0 <= found <= 1
    assert found == pytest.approx(delong_test(labels, second, first))


def test_ratings_of_hanley_and_mcneil():
    # Hanley & McNeil, Radiology 1982, 143:29, table 1: 109 CT images rated 1 to 5; AUC there 0.893.
    # Area, DeLong's standard error and interval: Stata manual, [R] roctab, example 1.
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.repeat([1, 2, 3, 4, 5] * 2, normal + abnormal)
    labels = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    area, variance = delong(labels, scores)
    assert area == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(variance) == pytest.approx(0.0307, abs=5e-5)
    half = norm.ppf(0.975) * np.sqrt(variance)
    assert (area - half, area + half) == pytest.approx((0.83295, 0.95339), abs=2e-5)
    # ours is of the logit: still about as wide, but further from 1
    found = delong_interval(labels, scores)
    assert found.auc == area
    assert 0.8 < found.lower < area - half
    assert area < found.upper < area + half


def test_interval_covers_the_true_area():
    # two normal distributions one SD apart: the true area is Φ(1/√2)
    rng = np.random.default_rng(0)
    labels = np.arange(60) < 30
    inside = 0
    for _ in range(400):
        found = delong_interval(labels, rng.normal(size=60) + labels)
        inside += found.lower <= norm.cdf(1 / np.sqrt(2)) <= found.upper
    assert 0.92 <= inside / 400 <= 0.98


def test_perfect_separation():
    labels, scores = [0, 0, 1, 1], [1, 2, 3, 4]
    found = delong_interval(labels, scores)
    assert (found.auc, found.lower, found.upper) == (1, 1, 1)
    assert delong_test(labels, scores, [1, 2, 30, 40]) == 1
    assert np.isnan(delong_test(labels, scores, [4, 3, 2, 1]))


def test_rows_of_one_kind_have_no_area():
    with pytest.raises(ValueError, match='both kinds'):
        auc([1, 1], [2, 3])


@settings(deadline=None)
@given(rated())
def test_curve_encloses_the_area(case):
    labels, scores = case
    false_positives, true_positives = roc_points(labels, scores)
    assert (false_positives[0], true_positives[0]) == (0, 0)
    assert (false_positives[-1], true_positives[-1]) == (1, 1)
    assert np.trapezoid(true_positives, false_positives) == pytest.approx(auc(labels, scores))


def test_participants_make_the_interval_wider():
    # the rows of a participant are copies of each other: ten participants, not 200 rows
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1], 100)
    scores = np.repeat(rng.normal([0, 1], size=(10, 2)), 10, axis=0).ravel()
    alone = delong_interval(labels, scores)
    lower, upper = auc_interval(labels, scores, np.repeat(np.arange(10), 20), draws=500)
    assert lower < alone.auc < upper
    assert upper - lower > 1.5 * (alone.upper - alone.lower)
    assert auc_interval(labels, scores, np.repeat(np.arange(10), 20), draws=500) == (lower, upper)


def test_cluster_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(2).normal(size=400)
    lower, upper = cluster_interval(lambda rows: values[rows].mean(), np.arange(400))
    half = 1.96 * values.std() / 20
    assert (lower, upper) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_means_of_many_values_have_the_intervals_of_each():
    values = np.random.default_rng(5).normal(size=(12, 3))
    low, high = mean_interval(values, draws=300)
    for number, ends in enumerate(zip(low, high, strict=True)):
        column = values[:, number]
        found = cluster_interval(
            lambda rows, column=column: column[rows].mean(), np.arange(12), draws=300
        )
        assert found == pytest.approx(ends)


def test_one_participant_has_no_interval():
    assert np.isnan(cluster_interval(lambda rows: float(len(rows)), ['01', '01'])).all()


def test_the_cluster_interval_is_that_of_drawing_the_rows():
    rng = np.random.default_rng(4)
    owners = rng.permutation(np.repeat(np.arange(6), [2, 3, 4, 5, 6, 20]))
    labels = np.zeros(len(owners), bool)
    for owner in range(6):
        labels[np.flatnonzero(owners == owner)[::2]] = True
    scores = np.round(labels + rng.normal(size=len(owners)))  # with ties
    slowly = cluster_interval(lambda rows: auc(labels[rows], scores[rows]), owners, draws=200)
    assert auc_interval(labels, scores, owners, draws=200) == pytest.approx(slowly)
    others = np.round(0.5 * labels + rng.normal(size=len(owners)))
    slowly = cluster_interval(
        lambda rows: auc(labels[rows], scores[rows]) - auc(labels[rows], others[rows]),
        owners,
        draws=200,
    )
    found = auc_interval(labels, scores, owners, minus=others, draws=200)
    assert found == pytest.approx(slowly)
    assert auc_interval(labels, scores, owners, minus=scores, draws=200) == (0, 0)
