"""Whether the stated uncertainty of synthetic PSR is the size of its errors.

Everything works on one-dimensional samples of voxels, regions or lesions; values are percent PSR.
Neighbouring voxels err alike, so that their number is not the number of observations: intervals of
what stands here come from whole participants (`demist_app.evaluation.bootstrap`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverage of the intervals that are checked."""

ENOUGH_DRAWS = 8
"""Fewer do not tell where errors are large from where draws happen to differ."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SpreadSkill:
    """Stated and actual errors where similar errors are stated; arrays of one length.

    Attributes
    ----------
    count : ndarray of int
    spread : ndarray
        Root mean square of the stated SD.
    skill : ndarray
        Root mean square error.
    """

    count: NDArray[np.intp]
    spread: Array
    skill: Array


def predictive_sd(
    sd: ArrayLike, *, scale: float = 1.0, draws: int | None = None, noise: ArrayLike = 0.0
) -> Array:
    """Return the SD of what is observed about the mean of draws.

    Parameters
    ----------
    sd : array_like
        SD over draws, or what a model without sampling states.
    scale : float
        Learned factor on `sd`.
    draws : int, optional
        How many draws mean and SD are of. The mean of n draws errs by 1 / n of their variance more
        than their expectation does (Fortin et al., J Hydrometeorol 2014, 15:1708).
    noise : array_like
        SD of the noise of the observation: 0 for a noise-free map.

    Examples
    --------
    >>> float(predictive_sd(3.0, noise=4.0))
    5.0
    """
    finite = 1 + 1 / draws if draws else 1.0
    return np.sqrt(finite * (scale * np.asarray(sd, float)) ** 2 + np.asarray(noise, float) ** 2)


def measurement_noise(first: ArrayLike, second: ArrayLike) -> float:
    """Return the SD of the noise of one of two repeated measurements, from their differences."""
    return float(np.std(np.asarray(first, float) - np.asarray(second, float)) / np.sqrt(2))


def half_widths(draws: int | None = None) -> dict[float, float]:
    """Return how many SDs to both sides of the mean an interval reaches.

    The SD of few draws is itself uncertain, so that intervals follow Student's t.

    Parameters
    ----------
    draws : int, optional
        How many draws the SD was estimated from; none, or 1, where a model states it.

    Returns
    -------
    dict
        By nominal coverage (0.5, 0.8, 0.9, 0.95).

    Examples
    --------
    >>> [round(width, 2) for width in half_widths().values()]
    [0.67, 1.28, 1.64, 1.96]
    >>> [round(width, 2) for width in half_widths(8).values()]
    [0.71, 1.41, 1.89, 2.36]
    """
    law = t(draws - 1) if draws and draws > 1 else norm
    return {level: float(law.ppf((1 + level) / 2)) for level in LEVELS}


def coverage(error: ArrayLike, sd: ArrayLike, *, draws: int | None = None) -> dict[float, float]:
    """Return how often intervals hold what was observed.

    Parameters
    ----------
    error : array_like, shape (n,)
        Observed minus predicted.
    sd : array_like, shape (n,)
        As `predictive_sd` returns it.
    draws : int, optional
        As for `half_widths`.

    Returns
    -------
    dict
        Nominal coverage (0.5, 0.8, 0.9, 0.95) to actual coverage.
    """
    size, stated = np.abs(np.asarray(error, float)), np.asarray(sd, float)
    return {
        level: float(np.mean(size <= width * stated)) for level, width in half_widths(draws).items()
    }


def spread_skill(error: ArrayLike, sd: ArrayLike, bins: int = 10) -> SpreadSkill:
    """Group by the stated SD and compare it with the error.

    The SD of few draws is large by chance where it is large, which flattens the line of a perfect
    model: with fewer than `ENOUGH_DRAWS` it tells nothing. Equal SDs are grouped at random.

    Parameters
    ----------
    error, sd : array_like, shape (n,)
        As for `coverage`.
    bins : int
        Groups of equal size.
    """
    errors, stated = np.asarray(error, float), np.asarray(sd, float)
    ties = np.random.default_rng(0).permutation(len(stated))  # not by their place in the brain
    groups = np.array_split(np.lexsort((ties, stated)), bins)

    def rms(values: Array) -> Array:
        return np.array([np.sqrt(np.mean(values[group] ** 2)) for group in groups])

    return SpreadSkill(np.array([len(group) for group in groups]), rms(stated), rms(errors))


def fit_scale(
    error: ArrayLike, sd: ArrayLike, *, draws: int | None = None, noise: ArrayLike = 0.0
) -> float:
    """Learn the one factor on the SD that makes the mean variance stated the mean square error.

    Moments and not the likelihood: a few voxels at the rim of the brain that no draw moves, but
    that are wrong, would pull the most likely factor beyond all bounds. The bias of the model
    counts as error.

    Parameters
    ----------
    error, sd : array_like, shape (n,)
        Of participants the model was not trained on, equally many values of each.
    draws : int, optional
    noise : array_like, scalar or shape (n,)
        As for `predictive_sd`.

    Returns
    -------
    float
        0 where the noise alone is larger than the errors.

    Examples
    --------
    >>> fit_scale([2.0, -2.0], [1.0, 1.0])
    2.0
    """
    unexplained = float(np.mean(np.square(error)) - np.mean(np.square(noise)))
    return float(np.sqrt(max(unexplained, 0.0) / np.mean(predictive_sd(sd, draws=draws) ** 2)))


def rank_histogram(
    draws: ArrayLike, observed: ArrayLike, *, noise: ArrayLike = 0.0, seed: int = 0
) -> Array:
    """Return how often the observation has each rank among the draws.

    Flat where observations are like draws; high at both ends where draws are too alike, in the
    middle where they differ too much, at one end where they are biased (Hamill, Mon Weather Rev
    2001, 129:550).

    Parameters
    ----------
    draws : array_like, shape (k, n)
    observed : array_like, shape (n,)
    noise : array_like, scalar or shape (n,)
        SD of the noise of the observation: as much is added to the draws.
    seed : int
        Of that noise and of the order of equal values.

    Returns
    -------
    ndarray, shape (k + 1,)
        Shares of the observations with 0, 1, ... k draws below them; sum 1.
    """
    rng = np.random.default_rng(seed)
    values, truth = np.asarray(draws, float), np.asarray(observed, float)
    values = values + np.asarray(noise, float) * rng.standard_normal(values.shape)
    below = (values < truth).sum(axis=0)
    ranks = below + rng.integers((values == truth).sum(axis=0) + 1)
    return np.bincount(ranks, minlength=len(values) + 1) / len(truth)
