"""Uncertainty on the evaluation page: from tables to figures and words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from boilerplate.evaluation_report import Calibration, CalibrationRow
from boilerplate.report import number
from boilerplate.squares import Square, amounts, shares, style
from demist_app.evaluation.calibration import ENOUGH_DRAWS, half_widths
from demist_app.workflows.evaluation_calibration import BRAIN, COVERAGE

_NINE_TENTHS = 0.9


def calibration_section(
    table: pd.DataFrame,
    spread: Mapping[str, Sequence[tuple[float, float]]],
    named: Mapping[str, tuple[str, str]],
) -> Calibration | None:
    """Make the section on uncertainty.

    Parameters
    ----------
    table : DataFrame
        As `demist_app.workflows.evaluation_calibration.calibration_table` gives it.
    spread : mapping of str to sequence of (float, float)
        As `spread_and_error` of the same module gives it.
    named : mapping of str to (str, str)
        All methods of the page, to their titles and the classes of their lines.

    Returns
    -------
    Calibration or None
        None for an empty table.
    """
    if table.empty:
        return None
    regions = {name: style(number) for number, name in enumerate(_parts(table))}
    present = set(table['method'])
    rows = {name: table[table['method'] == name] for name in named if name in present}
    lines = [name for name in rows if name in spread]
    words = {name: tuple(_calibration_rows(named[name][0], found)) for name, found in rows.items()}
    return Calibration(
        coverage=tuple(_coverage(named[name][0], found, regions) for name, found in rows.items()),
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
        brain=tuple(row for of_method in words.values() for row in of_method if row[0][1] == BRAIN),
        rows=tuple(row for of_method in words.values() for row in of_method if row[0][1] != BRAIN),
    )


def _widths(table: pd.DataFrame) -> str:
    """Say how far the interval of nine tenths reaches."""
    counts = sorted({int(n) for of in table['draws'] for n in of.split(', ')})
    return ', '.join(
        f'{half_widths(n)[_NINE_TENTHS]:.2f} '
        + (f'for the SD of {n} draws' if n > 1 else 'where the model states its SD')
        for n in counts
    )


def _parts(table: pd.DataFrame) -> list[str]:
    """Return the regions of all methods in their order, without the brain."""
    return [str(name) for name in table['region'].unique() if name != BRAIN]


def _coverage(title: str, rows: pd.DataFrame, regions: Mapping[str, str]) -> Square:
    lines, said = {}, []
    for row in rows.to_dict('records'):
        if row['region'] in regions:
            points = [(level, row[column]) for level, column in COVERAGE.items()]
            lines[row['region']] = (regions[row['region']], points)
            said.append(
                f'{row["region"]} '
                + ', '.join(f'{found:.0%} of {stated:.0%}' for stated, found in points)
            )
    return shares(title, lines, said='; '.join(said), dots=True)


def _calibration_rows(title: str, rows: pd.DataFrame) -> Iterator[CalibrationRow]:
    for row in rows.to_dict('records'):
        texts = (
            title,
            row['region'],
            row['draws'],
            str(row['participants']),
            *(number(row[key], 2) for key in ('bias', 'rmse', 'sd', 'ratio')),
        )
        yield texts, tuple(_share(row, column) for column in COVERAGE.values())


def _share(row: Mapping[Any, Any], column: str) -> tuple[str, str]:
    share, low, high = (100 * row[f'{column}{end}'] for end in ('', '_lower', '_upper'))
    return f'{share:.1f} %', f'{low:.1f}–{high:.1f}' if low < high else ''
