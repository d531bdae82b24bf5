"""Whether the uncertainty that methods state out of fold is the size of their errors."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from demist_app.evaluation.bootstrap import mean_interval
from demist_app.evaluation.calibration import ENOUGH_DRAWS, LEVELS
from demist_app.workflows.cohort_tables import regions_in_order
from demist_app.workflows.evaluation import Told

BRAIN = 'brain'
TENTHS = 10
_KEYS = ['method', 'region']
_SD = 'SD that the map states for one voxel, as it is'
COVERAGE = {level: f'coverage_{100 * level:.0f}' for level in LEVELS}
"""Nominal coverage to the column that holds the actual one."""
CALIBRATION_COLUMNS: dict[str, dict[str, Any]] = {
    'method': {'Description': 'Method, as in group_scores.tsv, if its maps have an SD'},
    'region': {'Description': 'Brain, tissue or region'},
    'draws': {'Description': 'Draws that mean and SD are of; 1 for a method that does not sample'},
    'participants': {
        'Description': 'Participants; everything is a mean over voxels first, then over the scans '
        'of one, then over participants'
    },
    'voxels': {'Description': 'Voxels of all their scans'},
    'bias': {'Description': 'Mean of synthetic − measured', 'Units': 'percentage points'},
    'rmse': {
        'Description': 'Root mean square of synthetic − measured, the noise of the measurement '
        'included',
        'Units': 'percentage points',
    },
    'sd': {'Description': f'Root mean square of the {_SD}', 'Units': 'percentage points'},
    'ratio': {'Description': 'rmse / sd: above 1, the SD is too small'},
    **{
        column: {
            'Description': f'Share of the voxels whose measured PSR lies in the {level:.0%} '
            f"interval, mean ± SD times the quantile of the normal distribution, or of Student's t "
            f'for the SD of draws; {level:g} if calibrated'
        }
        for level, column in COVERAGE.items()
    },
    **{
        f'{column}_{end}': {
            'Description': f'{words} end of the 95 % interval of {column}, whole participants '
            'drawn 2000 times'
        }
        for column in COVERAGE.values()
        for end, words in (('lower', 'Lower'), ('upper', 'Upper'))
    },
}
"""Sidecar of ``group_calibration.tsv``; its keys are the columns."""


def calibration_means(told: Iterable[Told]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gather what sidecars say of errors and stated SD.

    Parameters
    ----------
    told : iterable of Told
        As `demist_app.workflows.evaluation.sidecars` gives them.

    Returns
    -------
    regions : DataFrame
        One row per scan, method and region: ``participant_id``, ``method``, ``draws``, ``region``,
        ``voxels``, ``bias``, ``square``, ``variance`` (means over voxels) and ``coverage_50``, ...
    tenths : DataFrame
        One row per scan, method and tenth of the voxels of the brain, by their stated SD:
        ``participant_id``, ``method``, ``tenth``, ``square``, ``variance``. Not of maps of a few
        draws (`demist_app.evaluation.calibration.spread_skill`).
    """
    regions: list[dict[str, Any]] = []
    tenths: list[dict[str, Any]] = []
    for row, sidecar in told:
        who = {name: row[name] for name in ('participant_id', 'method')}
        found = sidecar.get('Calibration', {'Regions': {}, 'Tenths': {}})
        regions += [
            {
                **who,
                'draws': row['draws'],
                'region': region,
                'voxels': values['Voxels'],
                'bias': -values['Error'],
                'square': values['SquaredError'],
                'variance': values['Variance'],
                **{column: values['Coverage'][f'{level:g}'] for level, column in COVERAGE.items()},
            }
            for region, values in found['Regions'].items()
        ]
        draws = found.get('Draws', row['draws'])
        told_apart = draws == 1 or draws >= ENOUGH_DRAWS
        tenths_of = found['Tenths'] if told_apart else {}
        pairs = zip(*(tenths_of.get(k, ()) for k in ('Variance', 'SquaredError')), strict=True)
        tenths += [
            {**who, 'tenth': tenth, 'variance': variance, 'square': square}
            for tenth, (variance, square) in enumerate(pairs, 1)
        ]
    means = ['bias', 'square', 'variance', *COVERAGE.values()]
    names = ['participant_id', 'method', 'draws', 'region', 'voxels', *means]
    return (
        pd.DataFrame(regions, columns=names),
        pd.DataFrame(tenths, columns=['participant_id', 'method', 'tenth', 'variance', 'square']),
    )


def calibration_table(regions: pd.DataFrame) -> pd.DataFrame:
    """Pool all scans of every method and region.

    Parameters
    ----------
    regions : DataFrame
        As `calibration_means` gives them.

    Returns
    -------
    DataFrame
        Columns as in `CALIBRATION_COLUMNS`; methods in their order, the brain before its regions.
    """
    if regions.empty:
        return pd.DataFrame(columns=list(CALIBRATION_COLUMNS))
    pooled = _pooled(regions, _KEYS, ['bias', 'square', 'variance', *COVERAGE.values()])
    groups = regions.groupby(_KEYS, sort=False)
    table = (
        pooled.join(_coverage_intervals(regions))
        .assign(
            draws=groups['draws'].agg(lambda draws: ', '.join(map(str, sorted(set(draws))))),
            participants=groups['participant_id'].nunique(),
            voxels=groups['voxels'].sum(),
            rmse=np.sqrt(pooled['square']),
            sd=np.sqrt(pooled['variance']),
            ratio=np.sqrt(pooled['square'] / pooled['variance']),
        )
        .reset_index()
    )
    names = [name for name in table['region'] if name != BRAIN]
    ranks = {
        'method': list(regions['method'].unique()),
        'region': [BRAIN, *regions_in_order(pd.Series(names))],
    }
    return table.sort_values(
        _KEYS, key=lambda names: names.map(ranks[str(names.name)].index), ignore_index=True
    )[list(CALIBRATION_COLUMNS)]


def spread_and_error(tenths: pd.DataFrame) -> dict[str, list[tuple[float, float]]]:
    """Pool the tenths of all scans.

    Parameters
    ----------
    tenths : DataFrame
        As `calibration_means` gives them.

    Returns
    -------
    dict of str to list of (float, float)
        Method to the stated SD and the error of every tenth, both root mean squares in percentage
        points.
    """
    if tenths.empty:
        return {}
    roots = _pooled(tenths, ['method', 'tenth'], ['variance', 'square']) ** 0.5
    return {
        str(method): list(rows.itertuples(index=False, name=None))
        for method, rows in roots.groupby(level='method', sort=False)
    }


def _coverage_intervals(regions: pd.DataFrame) -> pd.DataFrame:
    """Draw participants: voxels of one err alike."""
    columns = list(COVERAGE.values())
    found = {
        keys: np.stack(mean_interval(people[columns].to_numpy()))
        for keys, people in _of_people(regions, _KEYS, columns).groupby(level=_KEYS, sort=False)
    }
    names = [f'{column}_{end}' for column in columns for end in ('lower', 'upper')]
    rows = {keys: ends.T.ravel() for keys, ends in found.items()}
    index = pd.MultiIndex.from_tuples(rows, names=_KEYS)
    return pd.DataFrame(list(rows.values()), index, names)


def _of_people(table: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Average the scans of one participant."""
    return table.groupby([*keys, 'participant_id'], sort=False)[values].mean()


def _pooled(table: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Average the scans of one participant, then participants."""
    people = _of_people(table, keys, values)
    return people.groupby(level=keys, sort=False).mean()
