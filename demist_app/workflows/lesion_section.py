"""Lesions on the pages of the group level: from tables to figures and words."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from boilerplate.lesions import LesionRow, Lesions
from boilerplate.report import number
from boilerplate.squares import Square, shares
from demist_app.evaluation.lesions import BRIGHT, PARTNERS
from demist_app.evaluation.roc import roc_points
from demist_app.workflows.evaluation_lesions import MEASURED, labelled, subjects
from demist_app.workflows.evaluation_words import p_value

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
"""Method and comparator to their row."""
Named = Mapping[str, tuple[str, str]]
"""Method to its title and the classes of its lines."""

_TITLES = {'combined': 'pNAWM and dNAWM', 'pNAWM': 'pNAWM', 'dNAWM': 'dNAWM'}
_OTHERS = {
    MEASURED: ('measured PSR', 'oracle'),
    BRIGHT: ('FLAIR alone', 'flair'),
    'T1w': ('T1w alone', 't1w'),
}
"""Name and classes of what stands beside the methods."""


def lesion_section(
    lesions: pd.DataFrame, table: pd.DataFrame, named: Named, file: str
) -> Lesions | None:
    """Make the section on lesions.

    Parameters
    ----------
    lesions, table : DataFrame
        As `demist_app.workflows.evaluation_lesions.lesion_means` and `lesion_table` give them.
    named : mapping of str to (str, str)
        All methods of the page, the one that the others are compared with first.
    file : str
        Of the table, relative to the page.

    Returns
    -------
    Lesions or None
        None for an empty table.
    """
    if table.empty:
        return None
    titles = dict(named) | _OTHERS
    found: Rows = {
        (row['method'], row['comparator']): {str(key): value for key, value in row.items()}
        for row in table.to_dict('records')
    }
    return Lesions(
        squares=tuple(_roc(lesions, found, titles)),
        rows=tuple(
            _lesion_row(titles[name], name, found) for name in titles if (name, 'combined') in found
        ),
        reference=next(iter(named.values()))[0],
        measured=(MEASURED, 'combined') in found,
        table=file,
    )


def _roc(lesions: pd.DataFrame, found: Rows, named: Named) -> Iterator[Square]:
    for partner in PARTNERS:
        lines, said = {}, []
        for name, table, image in subjects(lesions):
            if (name, partner) not in found:
                continue
            title, classes = named[name]
            area = f'{title}, AUC {found[name, partner]["auc"]:.3f}'
            points = roc_points(*labelled(table, image, partner)[:2])
            lines[area] = (classes, list(zip(*points, strict=True)))
            said.append(area)
        if lines:
            yield shares(_TITLES[partner], lines, said='; '.join(said))


def _lesion_row(titled: tuple[str, str], name: str, found: Rows) -> LesionRow:
    row = found[name, 'combined']
    areas = []
    for partner in PARTNERS:
        of_partner = found.get((name, partner))
        if not of_partner:
            areas.append(('–', '', ''))
            continue
        area = [of_partner[key] for key in ('auc', 'lower', 'upper')]
        oracle = found.get((MEASURED, partner))
        above = oracle is not None and area[0] > oracle['auc']
        areas.append((number(area[0], 3), '†' if above else '', _between(*area[1:])))
    agreed = [number(row[key], 2) for key in ('limit_lower', 'limit_upper')]
    return LesionRow(
        name=titled[0],
        style=titled[1],
        counted=f'{row["lesions"]} ({row["participants"]})',
        areas=tuple(areas),
        against=tuple(_against(row, other) for other in ('reference', 'measured')),
        agreement=(number(row['r'], 2), number(row['ccc'], 2), number(row['bias'], 2)),
        limits='' if math.isnan(row['bias']) else ' to '.join(agreed),
        voxels=(
            number(row['auc_voxels'], 3),
            _between(row['voxels_lower'], row['voxels_upper']),
        ),
    )


def _against(row: Mapping[str, Any], other: str) -> tuple[str, str]:
    low, high = (row[f'difference_{other}_{end}'] for end in ('lower', 'upper'))
    ends = (number(end, 3) for end in (low, high))
    return p_value(row[f'p_{other}_holm']), ' to '.join(ends) if low < high else ''


def _between(low: float, high: float) -> str:
    """Write an interval; without a variance there is none."""
    return f'{number(low, 3)}–{number(high, 3)}' if low < high else ''
