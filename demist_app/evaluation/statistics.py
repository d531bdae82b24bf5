"""Are the differences between methods more than chance?

Scans of one participant are not independent, so they are averaged first: the paired t-test, the
Wilcoxon signed-rank test and the effect sizes take one number per participant and method, and the
interval of the difference comes from drawing whole participants. Holm's correction is over the
methods compared with one reference, for one metric.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, ttest_1samp, wilcoxon

from demist_app.evaluation import bootstrap

ALPHA = 0.05
STAR = '*'
TESTS = (
    'difference', 'lower', 'upper', 't', 'p_t', 'p_t_holm', 'w', 'p_wilcoxon', 'p_wilcoxon_holm',
    'dz', 'rank_biserial',
)  # fmt: skip
COLUMNS = ('scans', 'participants', 'mean', 'sd', *TESTS)


def compare(
    scores: pd.DataFrame,
    metric: str,
    reference: str,
    *,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every method with one of them, on the scans that both scored.

    Parameters
    ----------
    scores : DataFrame
        Long: ``participant_id``, ``session_id``, ``method`` and the metrics; one row per scan and
        method. At least two participants.
    metric : str
        Column to compare.
    reference : str
        Method that the others are compared with.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per method, in the order of the table, its index ``method``:

        ``scans``, ``participants``
            That the method scored, and the reference too.
        ``mean``, ``sd``
            Of the method, over participants.
        ``difference``, ``lower``, ``upper``
            Mean of method − reference over participants, and its 95 % cluster bootstrap interval.
        ``t``, ``p_t``, ``p_t_holm``
            Paired t-test, two-sided; p also Holm-adjusted over all methods but the reference.
        ``w``, ``p_wilcoxon``, ``p_wilcoxon_holm``
            Wilcoxon signed-rank test (without the zeros), likewise.
        ``dz``, ``rank_biserial``
            Effect sizes, as `cohens_dz` and `rank_biserial` give them.
        ``stars``
            ``*`` where ``p_t_holm`` < 0.05, what `caption` says.

        The row of the reference has NaN from ``difference`` on.
    """
    # a table read from a file has NaN for the session of who has none, which pivoting would drop
    named = scores.assign(session_id=scores['session_id'].astype(object).fillna('n/a'))
    wide = named.pivot(index=['participant_id', 'session_id'], columns='method', values=metric)
    rows = {}
    for method in scores['method'].unique():
        both = wide[[method]].assign(reference=wide[reference]).dropna()
        means = both.groupby(level='participant_id').mean()
        row = {
            'scans': len(both),
            'participants': len(means),
            'mean': means[method].mean(),
            'sd': means[method].std(ddof=1),
        }
        if method != reference:
            row |= _tests((means[method] - means['reference']).to_numpy(), draws, seed)
        rows[method] = row
    table = pd.DataFrame.from_dict(rows, orient='index').reindex(columns=COLUMNS)
    table = table.rename_axis('method')
    others = table.index != reference
    for test in ('t', 'wilcoxon'):
        table.loc[others, f'p_{test}_holm'] = holm(table.loc[others, f'p_{test}'])
    return table.assign(stars=np.where(table['p_t_holm'] < ALPHA, STAR, ''))


def caption(reference: str) -> str:
    """Say what the star of `compare` means.

    Examples
    --------
    >>> caption('cWDM')
    '* differs from cWDM: paired t-test on participant means, Holm-adjusted p < 0.05.'
    """
    return (
        f'{STAR} differs from {reference}: paired t-test on participant means, '
        f'Holm-adjusted p < {ALPHA}.'
    )


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for being several (Holm, Scand. J. Stat. 1979, 6:65).

    Parameters
    ----------
    p_values : array_like, shape (tests,)
        NaN where there was nothing to test, which is no test.

    Examples
    --------
    >>> holm([0.01, 0.04, np.nan, 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN comes last
    adjusted = np.full_like(p, np.nan)
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return adjusted


def cohens_dz(differences: ArrayLike) -> float:
    """Return Cohen's d_z: mean of paired differences over their SD.

    Parameters
    ----------
    differences : array_like, shape (participants,)
    """
    values = np.asarray(differences, np.float64)
    return float(values.mean() / values.std(ddof=1))


def rank_biserial(differences: ArrayLike) -> float:
    """Return the matched-pairs rank-biserial correlation (Kerby 2014).

    The share of the ranks of |difference| that speaks for the method less the share against it:
    1 where it is higher in everybody, −1 where it is lower. Zeros are left out, as Wilcoxon does.

    Parameters
    ----------
    differences : array_like, shape (participants,)

    Examples
    --------
    >>> rank_biserial([1, 2, -3, 4])
    0.4
    """
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    ranks = rankdata(np.abs(values))
    return float(np.sum(ranks * np.sign(values)) / ranks.sum())


def _tests(differences: NDArray[np.float64], draws: int, seed: int) -> dict[str, float]:
    """Return the statistics of one method against the reference."""
    t = ttest_1samp(differences, 0)
    ranks = wilcoxon(differences)
    lower, upper = bootstrap.cluster_interval(
        lambda rows: float(differences[rows].mean()),
        np.arange(len(differences)),
        draws=draws,
        seed=seed,
    )
    return {
        'difference': float(differences.mean()),
        'lower': lower,
        'upper': upper,
        't': float(t.statistic),
        'p_t': float(t.pvalue),
        'w': float(ranks.statistic),
        'p_wilcoxon': float(ranks.pvalue),
        'dz': cohens_dz(differences),
        'rank_biserial': rank_biserial(differences),
    }
