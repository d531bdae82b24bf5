"""How well two ways of measuring agree, value by value: of regions, lesions or participants."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress, t

Z = 1.96
"""Limits of agreement are the bias and 1.96 standard deviations on either side."""
LEVEL = 0.95


@dataclass(frozen=True)
class Agreement:
    """Agreement of two measurements of the same things, in their unit where one is named.

    All intervals are of 95 % and take the pairs as independent: several lesions or scans of one
    participant are not (see `demist_app.evaluation.bootstrap.cluster_interval`).

    Attributes
    ----------
    n : int
        Pairs.
    r : float
        Pearson's correlation.
    ccc : float
        Lin's concordance correlation coefficient (Biometrics 1989, 45:255).
    icc : float
        ICC(2,1) of Shrout & Fleiss (1979), also called ICC(A,1).
    bias : float
        Mean of first − second, in the unit of the values.
    bias_low, bias_high : float
        Interval of the bias, Student's t.
    sd : float
        Of the differences, in the unit of the values.
    lower, upper : float
        Limits of agreement (Bland & Altman 1986): bias − and + 1.96 SD.
    lower_low, lower_high, upper_low, upper_high : float
        Intervals of the two limits (Bland & Altman 1999, section 2.1).
    slope, intercept : float
        Of the line second = intercept + slope · first, least squares.
    """

    n: int
    r: float
    ccc: float
    icc: float
    bias: float
    bias_low: float
    bias_high: float
    sd: float
    lower: float
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    slope: float
    intercept: float


def agreement(first: ArrayLike, second: ArrayLike) -> Agreement:
    """Compare two measurements of the same things.

    Parameters
    ----------
    first, second : array_like, shape (n,)
        Such as synthetic and measured (or true) mean PSR of every lesion, in percent. At least
        three pairs, neither of them constant.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    n = len(one)
    line = linregress(one, other)
    differences = one - other
    bias, sd = differences.mean(), differences.std(ddof=1)
    student = t.ppf((1 + LEVEL) / 2, n - 1)
    around_bias = student * sd / np.sqrt(n)
    around_limit = student * sd * np.sqrt(1 / n + Z**2 / (2 * (n - 1)))
    lower, upper = bias - Z * sd, bias + Z * sd
    return Agreement(
        n=n,
        r=float(line.rvalue),
        ccc=ccc(one, other),
        icc=icc(np.stack([one, other], axis=1)),
        bias=float(bias),
        bias_low=float(bias - around_bias),
        bias_high=float(bias + around_bias),
        sd=float(sd),
        lower=float(lower),
        lower_low=float(lower - around_limit),
        lower_high=float(lower + around_limit),
        upper=float(upper),
        upper_low=float(upper - around_limit),
        upper_high=float(upper + around_limit),
        slope=float(line.slope),
        intercept=float(line.intercept),
    )


def agreement_by(
    table: pd.DataFrame,
    by: str | Sequence[str],
    *,
    first: str = 'synthetic',
    second: str = 'measured',
) -> pd.DataFrame:
    """Compare two measurements within every tissue or region.

    Scans of one participant are averaged first, so that every participant counts once.

    Parameters
    ----------
    table : DataFrame
        Long: ``participant_id``, the columns ``by``, and the two measurements, one row per scan
        and region.
    by : str or sequence of str
        Such as ``'region'`` or ``['method', 'region']``.
    first, second : str
        Columns of the two measurements.

    Returns
    -------
    DataFrame
        One row per group, columns as in `Agreement`; its index are the columns ``by``.
    """
    keys = [by] if isinstance(by, str) else list(by)
    means = table.groupby([*keys, 'participant_id'], sort=False)[[first, second]].mean()
    rows = {
        name if len(keys) > 1 else name[0]: asdict(agreement(group[first], group[second]))
        for name, group in means.groupby(level=keys, sort=False)
    }
    found = pd.DataFrame.from_dict(rows, orient='index')
    found.index.names = keys
    return found


def ccc(first: ArrayLike, second: ArrayLike) -> float:
    """Return Lin's concordance correlation coefficient (Biometrics 1989, 45:255).

    With variances over n, as in the paper.

    Parameters
    ----------
    first, second : array_like, shape (n,)

    Examples
    --------
    >>> round(ccc([1, 2, 3], [2, 3, 4]), 4)
    0.5714
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    covariance = np.mean((one - one.mean()) * (other - other.mean()))
    shift = (one.mean() - other.mean()) ** 2
    return float(2 * covariance / (one.var() + other.var() + shift))


def icc(ratings: ArrayLike) -> float:
    """Return ICC(2,1): two-way random effects, absolute agreement, one rater.

    Shrout & Fleiss (Psychol. Bull. 1979, 86:420), ICC(A,1) of McGraw & Wong (1996).

    Parameters
    ----------
    ratings : array_like, shape (n, k)
        One row per thing measured, one column per way of measuring.

    Examples
    --------
    >>> round(icc([[1, 2], [2, 3], [3, 4]]), 4)
    0.6667
    """
    values = np.asarray(ratings, np.float64)
    n, k = values.shape
    rows, columns = values.mean(1), values.mean(0)
    between = k * rows.var(ddof=1)
    raters = n * columns.var(ddof=1)
    rest = values - rows[:, None] - columns + values.mean()
    error = np.sum(rest**2) / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error + k * (raters - error) / n))
