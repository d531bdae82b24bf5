"""The methods of a cross-validation compared: tests between them, and agreement by tissue."""

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from bids_layout.dataset import write_whole
from bids_layout.names import derivative_path
from demist_app.evaluation.agreement import Agreement, agreement_by
from demist_app.evaluation.statistics import ALPHA, compare
from demist_app.model.bundle import Bundle
from demist_app.training.folds import Splits
from demist_app.workflows.cohort import unit_of_row
from demist_app.workflows.cohort_tables import regions_in_order
from demist_app.workflows.examples import out_of_fold

PEOPLE = 3
"""Fewer participants have no limits of agreement."""
_NOT_SCORES = {'participant_id', 'session_id', 'group', 'method', 'fold', 'draws', 'model_sha256'}
_OUT_OF_FOLD = 'maps made out of fold'
COMPARISON_COLUMNS: dict[str, dict[str, Any]] = {
    'metric': {'Description': 'Score, as in group_scores.tsv'},
    'method': {'Description': 'Method, as in group_scores.tsv'},
    'reference': {'Description': 'Method that it is compared with'},
    'scans': {'Description': 'Scans that both scored'},
    'participants': {'Description': 'Participants of these scans'},
    'mean': {'Description': 'Mean over participants; scans of one are averaged first'},
    'sd': {'Description': 'SD over participants'},
    'difference': {'Description': 'Mean of method − reference over participants'},
    'lower': {'Description': 'Lower end of its 95 % interval, whole participants drawn 2000 times'},
    'upper': {'Description': 'Upper end of this interval'},
    't': {'Description': 'Paired t-test on participant means'},
    'p_t': {'Description': 'p of the t-test, two-sided'},
    'p_t_holm': {'Description': 'p_t Holm-adjusted over the methods, for this score'},
    'w': {'Description': 'Wilcoxon signed-rank test on participant means'},
    'p_wilcoxon': {'Description': 'p of this test, two-sided'},
    'p_wilcoxon_holm': {'Description': 'p_wilcoxon Holm-adjusted likewise'},
    'dz': {'Description': "Cohen's d_z: mean difference over the SD of the differences"},
    'rank_biserial': {'Description': 'Matched-pairs rank-biserial correlation'},
    'stars': {'Description': f'* where p_t_holm < {ALPHA}'},
}
"""Sidecar of ``group_comparison.tsv``; its keys are the columns."""
AGREEMENT_COLUMNS: dict[str, dict[str, Any]] = {
    'method': {'Description': 'Method, as in group_scores.tsv'},
    'region': {'Description': 'Tissue or region; lesions and NAWM where a lesion mask is known'},
    'n': {'Description': 'Participants; scans of one are averaged first'},
    'r': {'Description': f"Pearson's correlation of synthetic ({_OUT_OF_FOLD}) and measured means"},
    'ccc': {'Description': "Lin's concordance correlation coefficient"},
    'icc': {'Description': 'ICC(2,1), absolute agreement'},
    'bias': {'Description': 'Mean of synthetic − measured', 'Units': 'percentage points'},
    'bias_low': {'Description': 'Lower end of its 95 % interval', 'Units': 'percentage points'},
    'bias_high': {'Description': 'Upper end of this interval', 'Units': 'percentage points'},
    'sd': {'Description': 'SD of the differences', 'Units': 'percentage points'},
    'lower': {
        'Description': 'Lower limit of agreement, bias − 1.96 SD',
        'Units': 'percentage points',
    },
    'lower_low': {'Description': 'Lower end of its 95 % interval', 'Units': 'percentage points'},
    'lower_high': {'Description': 'Upper end of this interval', 'Units': 'percentage points'},
    'upper': {
        'Description': 'Upper limit of agreement, bias + 1.96 SD',
        'Units': 'percentage points',
    },
    'upper_low': {'Description': 'Lower end of its 95 % interval', 'Units': 'percentage points'},
    'upper_high': {'Description': 'Upper end of this interval', 'Units': 'percentage points'},
    'slope': {'Description': 'Of the line measured = intercept + slope · synthetic'},
    'intercept': {'Description': 'Of this line', 'Units': 'percent'},
}
"""Sidecar of ``group_agreement.tsv``; its keys are the columns."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of the methods of one cross-validation.

    Attributes
    ----------
    out_dir : Path
    splits : Splits
    folds : dict of str to dict of int to Bundle
        Method to its models by fold; each has at least one.
    reference : str
        Method that the others are compared with.
    scores : DataFrame
        As `demist_app.workflows.scores.out_of_fold_scores` gives them, of all methods; not empty.
    missing : dict of str to str
        What has no score, and why.
    """

    out_dir: Path
    splits: Splits
    folds: Mapping[str, Mapping[int, Bundle]]
    reference: str
    scores: pd.DataFrame
    missing: Mapping[str, str]


Told = tuple[dict[str, Any], dict[str, Any]]
"""A row of ``Evaluation.scores``, and the sidecar of that map."""


def sidecars(out_dir: Path, scores: pd.DataFrame) -> list[Told]:
    """Read what the sidecars of the scored maps say.

    Parameters
    ----------
    out_dir : Path
    scores : DataFrame
        As of `Evaluation`.
    """
    found = []
    for row in scores.to_dict('records'):
        path = derivative_path(
            out_dir, unit_of_row(row), extension='.json', **out_of_fold(row['method'])
        )
        found.append(
            ({str(k): v for k, v in row.items()}, json.loads(path.read_text(encoding='utf-8')))
        )
    return found


def write_table(
    out_dir: Path, name: str, table: pd.DataFrame, columns: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write ``group_<name>.tsv`` with its sidecar.

    A table without a row is not written, and removed if an earlier run left one.
    """
    path = out_dir / f'group_{name}.tsv'
    if table.empty:
        path.unlink(missing_ok=True)
        path.with_suffix('.json').unlink(missing_ok=True)
        return
    write_whole(path, table.to_csv(sep='\t', index=False, na_rep='n/a', float_format='%.6g'))
    described = json.dumps(columns, indent=2, ensure_ascii=False) + '\n'
    write_whole(path.with_suffix('.json'), described)


def comparison_table(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare all methods with one of them, by every score.

    Parameters
    ----------
    scores : DataFrame
        As of `Evaluation`.
    reference : str

    Returns
    -------
    DataFrame
        Columns as in `COMPARISON_COLUMNS`. A method is left out where it and the reference have
        not scored two participants together, and a score that no method is left for.
    """
    tables = []
    for metric in [str(name) for name in scores if name not in _NOT_SCORES]:
        known = scores.dropna(subset=metric).astype({metric: float})
        unit = ['participant_id', 'session_id']
        shared = known.merge(known.loc[known['method'] == reference, unit], on=unit)
        people = shared.groupby('method')['participant_id'].nunique()
        kept = shared[shared['method'].isin(people.index[people >= 2])]
        if kept['method'].nunique() >= 2:
            with warnings.catch_warnings():  # what does not vary has no t: n/a says so
                warnings.simplefilter('ignore', RuntimeWarning)
                table = compare(kept, metric, reference).reset_index()
            tables.append(table.assign(metric=metric, reference=reference))
    if not tables:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(COMPARISON_COLUMNS)]


def regional_means(told: Iterable[Told]) -> pd.DataFrame:
    """Gather what sidecars say of the regions.

    Parameters
    ----------
    told : iterable of Told
        As `sidecars` gives them.

    Returns
    -------
    DataFrame
        One row per scan, method and region: ``participant_id``, ``session_id``, ``group``,
        ``method``, ``region``, ``volume_ml``, ``synthetic`` and ``measured`` (mean PSR in
        percent). Maps that were made before sidecars had regions have no row.
    """
    names = ['participant_id', 'session_id', 'group', 'method']
    rows = [
        {
            **{name: row[name] for name in names},
            'region': region,
            'volume_ml': values['Volume'],
            'synthetic': values['Synthetic'],
            'measured': values['Measured'],
        }
        for row, sidecar in told
        for region, values in sidecar.get('Regions', {}).items()
    ]
    return pd.DataFrame(rows, columns=[*names, 'region', 'volume_ml', 'synthetic', 'measured'])


def agreement_table(regions: pd.DataFrame) -> pd.DataFrame:
    """Say how well synthetic and measured means of every region agree, method by method.

    Parameters
    ----------
    regions : DataFrame
        As `regional_means` gives them.

    Returns
    -------
    DataFrame
        Columns as in `AGREEMENT_COLUMNS`. Left out are regions known of fewer than three
        participants, or with the same mean in all.
    """
    keys = ['method', 'region']
    means = regions.groupby([*keys, 'participant_id'], sort=False)[['synthetic', 'measured']].mean()
    # a model that says the same of everybody correlates with nothing
    kept = regions.set_index(keys).loc[
        [
            name
            for name, values in means.groupby(keys, sort=False)
            if len(values) >= PEOPLE and values.nunique().min() > 1
        ]
    ]
    columns = [*keys, *(field.name for field in fields(Agreement))]
    if kept.empty:
        return pd.DataFrame(columns=columns)
    table = agreement_by(kept.reset_index(), keys).reset_index()
    ranks = {
        'method': list(regions['method'].unique()),
        'region': regions_in_order(table['region']),
    }
    return table.sort_values(
        keys, key=lambda names: names.map(ranks[str(names.name)].index), ignore_index=True
    )[columns]
