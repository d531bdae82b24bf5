"""Receiver operating characteristic: how well a score tells two kinds of rows apart.

The area under the curve is the chance that a row of kind 1 scores higher than one of kind 0, ties
counted half. Its variance and the test between two scores of the same rows are those of DeLong et
al. (Biometrics 1988, 44:837), computed from midranks (Sun & Xu, IEEE Signal Process. Lett. 2014,
21:1389). They take rows as independent; for several lesions of one participant give
`auc_interval` beside them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_curve

from demist_app.evaluation import bootstrap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """Area under a curve.

    Attributes
    ----------
    auc : float
    lower, upper : float
        DeLong interval, on the logit scale.
    """

    auc: float
    lower: float
    upper: float


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return the corners of the curve.

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
    scores : array_like, shape (rows,)
        High where the label should be 1.

    Returns
    -------
    false_positives, true_positives : ndarray, shape (corners,)
        Rates, from 0 to 1.
    """
    false_positives, true_positives, _ = roc_curve(np.asarray(labels, bool), np.asarray(scores))
    return false_positives, true_positives


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the curve.

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
    scores : array_like, shape (rows,)
        High where the label should be 1.

    Raises
    ------
    ValueError
        Where there are not rows of both kinds.

    Examples
    --------
    >>> auc([0, 0, 1, 1], [1, 3, 3, 4])
    0.875
    """
    return float(np.mean(_placements(labels, scores)[0]))


def delong(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Return the area under the curve and its variance (DeLong 1988).

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
        At least two of each kind.
    scores : array_like, shape (rows,)
        High where the label should be 1.
    """
    positive, negative = _placements(labels, scores)
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    return float(positive.mean()), float(variance)


def delong_interval(
    labels: ArrayLike, scores: ArrayLike, *, level: float = bootstrap.LEVEL
) -> Area:
    """Return the area under the curve with its DeLong interval.

    The interval is symmetric on the logit scale, so that it stays within 0 and 1. It has no width
    where the two kinds do not overlap at all: the variance is 0 there, which says nothing about
    other rows.

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
        At least two of each kind.
    scores : array_like, shape (rows,)
        High where the label should be 1.
    level : float
        Coverage aimed at.
    """
    area, variance = delong(labels, scores)
    if variance == 0:
        return Area(area, area, area)
    half = norm.ppf((1 + level) / 2) * np.sqrt(variance) / (area * (1 - area))
    return Area(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))


def delong_test(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p of two scores of the same rows having one area (DeLong 1988).

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
        At least two of each kind.
    first, second : array_like, shape (rows,)
        High where the label should be 1.

    Returns
    -------
    float
        NaN where the difference has no variance, as for a map of one value beside one that tells
        all rows apart: nothing is known of other rows then.
    """
    pairs = zip(_placements(labels, first), _placements(labels, second), strict=True)
    positive, negative = (one - other for one, other in pairs)
    if not (positive.any() or negative.any()):  # the two order the rows alike
        return 1.0
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    if variance == 0:
        return float('nan')
    return float(2 * norm.sf(np.abs(positive.mean()) / np.sqrt(variance)))


def auc_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    clusters: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    level: float = bootstrap.LEVEL,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a participant-cluster bootstrap interval of the area under the curve.

    Parameters
    ----------
    labels : array_like of bool, shape (rows,)
        Every participant has rows of both kinds, as lesions and their normal-appearing partners.
    scores : array_like, shape (rows,)
        High where the label should be 1.
    clusters : array_like, shape (rows,)
        Participant of every row.
    minus : array_like, shape (rows,), optional
        Other scores of the same rows: the interval is that of the area minus theirs.
    level, draws, seed
        As `demist_app.evaluation.bootstrap.cluster_interval` takes them.
    """
    between, pairs = _contests(labels, scores, clusters)
    if minus is not None:
        between = between - _contests(labels, minus, clusters)[0]

    def area(drawn: NDArray[np.intp]) -> float:
        both = np.ix_(drawn, drawn)
        return float(between[both].sum() / pairs[both].sum())

    return bootstrap.cluster_interval(
        area, np.arange(len(pairs)), level=level, draws=draws, seed=seed
    )


def _contests(labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike) -> tuple[Array, Array]:
    """Return how often rows of one participant score above those of another, and of how many.

    With them no draw of participants has to compare rows again.
    """
    kinds, values = np.asarray(labels, bool), np.asarray(scores)
    below, above = values[~kinds], values[kinds]
    names, owner = np.unique(np.asarray(clusters), return_inverse=True)
    one_hot = owner[:, None] == np.arange(len(names))
    won = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    between = one_hot[kinds].T @ won @ one_hot[~kinds]
    return between, np.outer(one_hot[kinds].sum(axis=0), one_hot[~kinds].sum(axis=0))


def _placements(labels: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return the share of the other kind below (kind 1) or above (kind 0) every row.

    The mean of either is the area under the curve.
    """
    kinds = np.asarray(labels, bool)
    values = np.asarray(scores, np.float64)
    below, above = values[~kinds], values[kinds]
    if not (len(below) and len(above)):
        raise ValueError('an area under the curve needs rows of both kinds')
    ranks = rankdata(values)
    positive = (ranks[kinds] - rankdata(above)) / len(below)
    negative = 1 - (ranks[~kinds] - rankdata(below)) / len(above)
    return positive, negative
