"""Lesions and uncertainty on the evaluation page: from tables to figures and words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from boilerplate.evaluation_report import Calibration, LesionRow, Lesions
from boilerplate.report import number
from boilerplate.squares import Square, amounts, shares, style
from demist_app.evaluation.calibration import ENOUGH_DRAWS, half_widths
from demist_app.evaluation.lesions import BRIGHT, PARTNERS
from demist_app.evaluation.roc import roc_points
from demist_app.training.methods import METHODS
from demist_app.workflows.evaluation_calibration import BRAIN, COVERAGE
from demist_app.workflows.evaluation_lesions import MEASURED, OTHERS, labelled, subjects
from demist_app.workflows.evaluation_words import p_value

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
"""Method and comparator to their row."""

_NINE_TENTHS = 0.9
_TITLES = {'combined': 'pNAWM and dNAWM', 'pNAWM': 'pNAWM', 'dNAWM': 'dNAWM'}
_OTHERS = {
    MEASURED: ('measured PSR', 'oracle'),
    BRIGHT: ('FLAIR alone', 'flair'),
    'T1w': ('T1w alone', 't1w'),
}
"""Name and classes of what stands beside the methods."""


def lesion_section(
    lesions: pd.DataFrame, table: pd.DataFrame, methods: Sequence[str]
) -> Lesions | None:
    """Make the section on lesions.

    Parameters
    ----------
    lesions, table : DataFrame
        As `demist_app.workflows.evaluation_lesions.lesion_means` and `lesion_table` give them.
    methods : sequence of str
        All of the page, in the order of their colours.

    Returns
    -------
    Lesions or None
        None for an empty table.
    """
    if table.empty:
        return None
    named = _named(methods) | _OTHERS
    found: Rows = {
        (row['method'], row['comparator']): {str(key): value for key, value in row.items()}
        for row in table.to_dict('records')
    }
    return Lesions(
        squares=tuple(_roc(lesions, found, named)),
        rows=tuple(
            _lesion_row(name, named[name], found)
            for name in (*methods, *OTHERS)
            if (name, 'combined') in found
        ),
    )


def calibration_section(
    table: pd.DataFrame,
    spread: Mapping[str, Sequence[tuple[float, float]]],
    methods: Sequence[str],
) -> Calibration | None:
    """Make the section on uncertainty.

    Parameters
    ----------
    table : DataFrame
        As `demist_app.workflows.evaluation_calibration.calibration_table` gives it.
    spread : mapping of str to sequence of (float, float)
        As `spread_and_error` of the same module gives it.
    methods : sequence of str
        All of the page, in the order of their colours.

    Returns
    -------
    Calibration or None
        None for an empty table.
    """
    if table.empty:
        return None
    regions = {name: style(number) for number, name in enumerate(_parts(table))}
    present = set(table['method'])
    rows = {name: table[table['method'] == name] for name in methods if name in present}
    lines = [name for name in rows if name in spread]
    named = _named(methods)
    words = {name: tuple(_calibration_rows(found)) for name, found in rows.items()}
    return Calibration(
        coverage=tuple(_coverage(name, found, regions) for name, found in rows.items()),
        regions=tuple(regions.items()),
        enough=ENOUGH_DRAWS,
        widths=_widths(table),
        spread=amounts(
            'Brain',
            {named[name][0]: (named[name][1], spread[name]) for name in lines},
            said='; '.join(
                f'{named[name][0]} from {low[0]:.2f} and {low[1]:.2f} to {high[0]:.2f} and '
                f'{high[1]:.2f} percentage points'
                for name in lines
                for low, high in [(spread[name][0], spread[name][-1])]
            ),
        )
        if lines
        else None,
        methods=tuple(named[name] for name in lines),
        levels=tuple(f'{level:.0%}'.replace('%', '\u00a0%') for level in COVERAGE),
        brain=tuple(row for of_method in words.values() for row in of_method if row[1] == BRAIN),
        rows=tuple(row for of_method in words.values() for row in of_method if row[1] != BRAIN),
    )


def _widths(table: pd.DataFrame) -> str:
    """Say how far the interval of nine tenths reaches."""
    counts = sorted({int(n) for of in table['draws'] for n in of.split(', ') if int(n) > 1})
    words = [f'{half_widths()[_NINE_TENTHS]:.2f} where the model states its SD']
    words += [f'{half_widths(n)[_NINE_TENTHS]:.2f} for the SD of {n} draws' for n in counts]
    return ', '.join(words)


def _named(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the title of every method, and the classes of its lines."""
    return {name: (METHODS[name].title, style(number)) for number, name in enumerate(methods)}


def _roc(
    lesions: pd.DataFrame,
    found: Rows,
    named: Mapping[str, tuple[str, str]],
) -> Iterator[Square]:
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


def _lesion_row(
    name: str,
    named: tuple[str, str],
    found: Rows,
) -> LesionRow:
    row = found[name, 'combined']
    areas = []
    for partner in PARTNERS:
        of_partner = found.get((name, partner))
        if not of_partner:
            areas.append(('–', '', ''))
            continue
        area = [of_partner[key] for key in ('auc', 'lower', 'upper')]
        above = area[0] > found[MEASURED, partner]['auc']
        areas.append((number(area[0], 3), '†' if above else '', _between(*area[1:])))
    agreed = [number(row[key], 2) for key in ('limit_lower', 'limit_upper')]
    return LesionRow(
        name=named[0],
        style=named[1],
        counted=f'{row["lesions"]} ({row["participants"]})',
        areas=tuple(areas),
        p=(p_value(row['p_reference_holm']), p_value(row['p_measured_holm'])),
        agreement=(number(row['r'], 2), number(row['ccc'], 2), number(row['bias'], 2)),
        limits='' if math.isnan(row['bias']) else ' to '.join(agreed),
        voxels=(
            number(row['auc_voxels'], 3),
            _between(row['voxels_lower'], row['voxels_upper']),
        ),
    )


def _between(low: float, high: float) -> str:
    """Write an interval; without a variance there is none."""
    return f'{number(low, 3)} to {number(high, 3)}' if low < high else ''


def _parts(table: pd.DataFrame) -> list[str]:
    """Return the regions of all methods in their order, without the brain."""
    return [str(name) for name in table['region'].unique() if name != BRAIN]


def _coverage(method: str, rows: pd.DataFrame, regions: Mapping[str, str]) -> Square:
    lines, said = {}, []
    for row in rows.to_dict('records'):
        if row['region'] in regions:
            points = [(level, row[column]) for level, column in COVERAGE.items()]
            lines[row['region']] = (regions[row['region']], points)
            said.append(
                f'{row["region"]} '
                + ', '.join(f'{found:.0%} of {stated:.0%}' for stated, found in points)
            )
    return shares(METHODS[method].title, lines, said='; '.join(said), dots=True)


def _calibration_rows(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    for row in rows.to_dict('records'):
        yield (
            METHODS[row['method']].title,
            row['region'],
            row['draws'],
            str(row['participants']),
            *(number(row[key], 2) for key in ('bias', 'rmse', 'sd', 'ratio')),
            *(f'{100 * row[column]:.1f} %' for column in COVERAGE.values()),
        )
