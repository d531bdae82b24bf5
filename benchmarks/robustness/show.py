"""The tables, Markdown, and the figure of scores against levels."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from drawing import drawn
from matplotlib.axes import Axes
from robustness.cells import CELLS, PANELS, Cell
from robustness.sites import FOLDERS, scores

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.lesions import LESION, pair_scores
from demist_app.evaluation.roc import auc
from demist_app.evaluation.statistics import compare, holm
from demist_app.training.methods import METHODS

COLUMNS = (
    'scans', 'level', 'model', 'PSNR (dB)', 'SSIM', 'MAE (pp)', 'MAE, noise-free (pp)',
    'bias in WM (pp)', 'in GM (pp)', 'lesion AUC', 'lesion r', 'lesion CCC',
    'lesion bias, limits (pp)', 'lesions (ml)', 'mean SD (pp)',
    'distance', 'mask Dice', 'alarms', 'units',
)  # fmt: skip
NUMBERS = {
    'ssim': '.3f', 'mae': '.2f', 'mae_fit': '.2f', 'bias, white matter': '+.2f',
    'bias, grey matter': '+.2f',
}  # fmt: skip
LAST = {'lesions_ml': '.1f', 'sd': '.2f', 'distance': '.1f', 'dice': '.3f'}
COLOURS = '#d55e00', '#0072b2', '#009e73', '#cc79a7', '#56b4e9'
ACROSS = 3  # panels
SITES = 'trained on'
SITE_METRICS = {'psnr': ('PSNR (dB)', 2, 1), 'ssim': ('SSIM', 3, 1), 'mae': ('MAE (pp)', 2, -1)}
"""Score to its title, digits, and the sign of what is better."""


@dataclass(frozen=True)
class Results:
    """All that is done.

    Attributes
    ----------
    units : mapping
        Name of the cell and model to what `robustness.scores.judge` returned, by unit.
    models : tuple of str
    """

    units: Mapping[tuple[str, str], list[dict[str, Any]]]
    models: tuple[str, ...]

    def of(self, cell: Cell, model: str) -> list[dict[str, Any]]:
        """Return the units that have a map."""
        return [unit for unit in self.units.get((cell.name, model), []) if 'failed' not in unit]


def read(folder: Path, models: Iterable[str]) -> Results:
    """Read the cells that are done."""
    units: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted((folder / 'cells').glob('*/*.json')):
        key = path.parent.name, path.stem.partition('_desc-')[2]
        units.setdefault(key, []).append(json.loads(path.read_text('utf-8')))
    return Results(units, tuple(models))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    return '\n'.join([*lines, *('| ' + ' | '.join(row) + ' |' for row in rows)])


def cell_rows(found: Results) -> list[list[str]]:
    """Return the rows of the first table."""
    rows = []
    for cell in CELLS:
        for model in found.models:
            every = found.units.get((cell.name, model), [])
            good = found.of(cell, model)
            title = '–' if cell.panel == 'none' else PANELS[cell.panel]
            count = f'{len(good)} of {len(every)}'
            if not good:
                if every:
                    blank = ['–'] * (len(COLUMNS) - 4)
                    rows.append([title, cell.level, model, *blank, count])
                continue
            psnr = [unit['psnr'] for unit in good]
            rows.append(
                [
                    *(title, cell.level, model),
                    f'{np.mean(psnr):.2f} ({", ".join(f"{value:.2f}" for value in psnr)})',
                    *means_of(good, NUMBERS),
                    *lesion_cells(good),
                    *means_of(good, LAST),
                    alarms(good),
                    count,
                ]
            )
    return rows


def means_of(units: Sequence[Mapping[str, Any]], formats: Mapping[str, str]) -> list[str]:
    """Write the means over units."""
    return [f'{np.mean([unit[key] for unit in units]):{form}}' for key, form in formats.items()]


def lesion_cells(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write the AUC of lesions against NAWM, and how right their means are."""
    ours, measured = (
        np.concatenate([np.array(unit[key], float).reshape(-1, 3) for unit in units])
        for key in ('lesions', 'measured')
    )
    labels, values, _ = pair_scores(ours, 'combined')
    agreed = agreement(ours[:, LESION], measured[:, LESION])
    return [
        f'{auc(labels, values):.3f}',
        f'{agreed.r:.2f}',
        f'{agreed.ccc:.2f}',
        f'{agreed.bias:+.2f} ({agreed.lower:+.2f} to {agreed.upper:+.2f})',
    ]


def alarms(units: Sequence[Mapping[str, Any]]) -> str:
    """Write how many units raised an alarm."""
    told = [unit['alarm'] for unit in units if unit['alarm'] is not None]
    return f'{sum(told)} of {len(told)}' if told else '–'


def failures(found: Results) -> list[str]:
    """Return a line for every unit without a map."""
    return [
        f'- {name}, {model}: {unit["failed"]}'
        for (name, model), units in found.units.items()
        for unit in units
        if 'failed' in unit
    ]


def site_rows(folder: Path) -> list[list[str]]:
    """Return the rows of the second table."""
    both = [scores(folder, split) for split in FOLDERS]
    rows = []
    for method in of_both(both):
        parts = [part[part['method'] == method] for part in both]
        for site in 'AB':
            cells = []
            for metric, (_, digits, _) in SITE_METRICS.items():
                values = [part.loc[part['site'] == site, metric].mean() for part in parts]
                cells += [f'{value:.{digits}f}' for value in values]
            rows.append([METHODS[method].title, site, *cells])
    return rows


def of_both(both: Sequence[pd.DataFrame]) -> list[str]:
    """Return the methods that were trained on both sites and on one."""
    return [m for m in METHODS if all(len(part) and m in set(part['method']) for part in both)]


def site_tests(folder: Path) -> list[list[str]]:
    """Return the rows of the third table: what a site never seen costs, of each metric."""
    both = [scores(folder, split) for split in FOLDERS]
    seen, unseen = FOLDERS
    rows = []
    for metric, (title, digits, sign) in SITE_METRICS.items():
        found = []
        for method in of_both(both):
            parts = [
                part[part['method'] == method].assign(method=split)
                for part, split in zip(both, FOLDERS, strict=True)
            ]
            joined = pd.concat(parts)
            wide = joined.pivot_table(metric, 'participant_id', 'method')
            worse = int((sign * (wide[unseen] - wide[seen]) < 0).sum())
            found.append((method, compare(joined, metric, seen).loc[unseen], worse))
        adjusted = [holm([row[p] for _, row, _ in found]) for p in ('p_t', 'p_wilcoxon')]
        for (method, row, worse), *p_values in zip(found, *adjusted, strict=True):
            difference, *ends = (f'{row[k]:+.{digits}f}' for k in ('difference', 'lower', 'upper'))
            rows.append([
                METHODS[method].title, title, f'{difference} ({" to ".join(ends)})',
                f'{worse} of {row["participants"]:.0f}', *(f'{p:.2g}' for p in p_values),
            ])  # fmt: skip
    return rows


def page(found: Results, sites: Path) -> str:
    """Write all tables."""
    text = (
        'PSNR, SSIM and MAE against the measured map of the scans as they were, inside the true '
        'brain, on the grid of the T1w as it was; in brackets every unit. Lesion AUC: lesions '
        'against proximal and distal NAWM, all units together; r, CCC, bias and limits of '
        'agreement: their means against the measured map. Distance: of the intensities from '
        'the training scans, the larger of the two scans. Alarms: scans that the model calls '
        'unlike those it learned from. Both scans are damaged where not said otherwise; a scan '
        'whose slices are so thick already stays as it is. With other lesions the measured map is '
        'another one: theirs.'
    )
    parts = ['# Damaged scans, and other scanners\n', text, table(COLUMNS, cell_rows(found))]
    parts += failures(found)
    if rows := site_rows(sites):
        named = [f'{m}, {SITES} {s}' for m, *_ in SITE_METRICS.values() for s in FOLDERS]
        words = (
            f'{SITES.capitalize()} {" minus ".join(reversed(FOLDERS))}: mean over participants and '
            'its 95 % interval, participants drawn; paired t-test and Wilcoxon, each Holm-adjusted '
            'over the methods. The participants share the models of two folds, of one seed.'
        )
        columns = 'method', 'metric', 'difference (95 %)', 'worse', 'p, t', 'p, Wilcoxon'
        parts += ['## A site held out', table(('method', 'tested on site', *named), rows)]
        parts += [words, table(columns, site_tests(sites))]
    return '\n\n'.join(parts) + '\n'


def draw(found: Results, sites: Path, path: Path) -> None:
    """Draw PSNR against level, SVG and PNG."""
    panels = [name for name in PANELS if name != 'none']
    lines = -(-(len(panels) + 1) // ACROSS)
    with drawn(path, (7.0, 1.9 * lines), 'constrained') as figure:
        axes = figure.subplots(lines, ACROSS, sharey=True, squeeze=False).ravel()
        for name, ax in zip(panels, axes, strict=False):
            levels = [cell for cell in CELLS if cell.panel == name]
            if name != 'load':  # as they are, each has a load of its own
                levels.insert(0, CELLS[0])
            for colour, model in zip(COLOURS, found.models, strict=False):
                values = [[unit['psnr'] for unit in found.of(cell, model)] for cell in levels]
                curve(ax, values, colour, model)
            ticks(ax, [cell.level for cell in levels])
            ax.set_xlabel(PANELS[name])
        ax = axes[len(panels)]
        both = [scores(sites, split) for split in FOLDERS]
        known = of_both(both)
        for number, (colour, method) in enumerate(zip(reversed(COLOURS), known, strict=False)):
            values = [list(part.loc[part['method'] == method, 'psnr']) for part in both]
            curve(ax, values, colour, METHODS[method].title, shift=0.05 * number)
        ticks(ax, list(FOLDERS))
        ax.set_xlabel(SITES)
        for panel in axes:
            panel.margins(x=0.15)
            panel.spines[['top', 'right']].set_visible(False)
            panel.grid(axis='y', color='#dddddd', linewidth=0.6)
        for panel in axes[::ACROSS]:
            panel.set_ylabel('PSNR (dB)')
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc='outside upper left',
            ncols=len(found.models),
            frameon=False,
            title='damaged scans',
            alignment='left',
        )
        if known:
            figure.legend(
                *ax.get_legend_handles_labels(),
                loc='outside upper right',
                ncols=2,
                frameon=False,
                title='a site held out (the last panel)',
                alignment='left',
            )


def ticks(ax: Axes, labels: Sequence[str]) -> None:
    """Name the places along the lower edge."""
    ax.set_xticks(range(len(labels)), [textwrap.fill(label, 9) for label in labels])


def curve(
    ax: Axes, values: Sequence[Sequence[float]], colour: str, label: str, shift: float = 0.0
) -> None:
    """Draw every unit, and a line through the means, all a little to the right."""
    for place, units in enumerate(values):
        ax.plot([place + shift] * len(units), units, 'o', color=colour, markersize=3, alpha=0.5)
    places = [place for place, units in enumerate(values) if units]
    means = [np.mean(values[place]) for place in places]
    ax.plot(np.array(places) + shift, means, color=colour, label=label)
