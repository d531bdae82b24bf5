"""The tables of the page, Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from common import Map, cases
from heldout import SPLIT, split_rows
from lesions import BRIGHT, ORACLE, TRUTH, Table, agreements, curves
from numpy.typing import NDArray
from table1.gather import RETEST, Results, lesion_means, title_of

from demist_app.evaluation.lesions import pair_scores
from demist_app.evaluation.roc import auc_interval, delong_test
from demist_app.evaluation.statistics import caption, compare, holm

PUBLISHED = json.loads((Path(__file__).parent / 'published.json').read_text('utf-8'))
OURS = ('ftldm+controlnet', 'ftldm+lora', 'demist-tokens', 'demist')
"""The paper's method and its parts; all others are baselines."""
PAPERS_BASELINE = 'cwdm'
CONSTANT = 1e-3  # percent; lesions of a map that differ by less do not agree with anything
UNIT = ['participant_id', 'session_id']


@dataclass(frozen=True)
class Metric:
    """How a score is shown; `best` is a method of pandas."""

    title: str
    factor: float
    digits: int
    best: str

    def show(self, mean: float, sd: float) -> str:
        return f'{self.factor * mean:.{self.digits}f} ± {self.factor * sd:.{self.digits}f}'

    def change(self, difference: float) -> str:
        return f'{self.factor * difference:+.{self.digits}f}'


METRICS = {
    'psnr': Metric('PSNR (dB)', 1, 2, 'idxmax'),
    'ssim': Metric('SSIM', 1, 4, 'idxmax'),
    'ssim_eroded': Metric('SSIM, eroded', 1, 4, 'idxmax'),
    'mse': Metric('MSE (1e-3)', 1e3, 3, 'idxmin'),
    'l1': Metric('L1 (1e-3)', 1e3, 2, 'idxmin'),
    'ncc': Metric('NCC', 1, 4, 'idxmax'),
    'mae': Metric('MAE (pp)', 1, 3, 'idxmin'),
}
"""By the column of the scores."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    return '\n'.join([*lines, *('| ' + ' | '.join(row) + ' |' for row in rows)])


def best_baseline(found: Results) -> str:
    """Return the baseline with the highest mean PSNR."""
    means_of = found.scores.groupby('method')['psnr'].mean()
    return max((m for m in found.methods if m not in OURS), key=means_of.get)


def comparisons(found: Results) -> pd.DataFrame:
    """Compare all methods with the best baseline, the paper's and DEMIST, by every metric."""
    references = dict.fromkeys([best_baseline(found), PAPERS_BASELINE, 'demist'])
    tables = []
    for metric in METRICS:
        scores = found.scores.dropna(subset=[metric])  # a constant map has no correlation
        for reference in references:
            if reference in set(scores['method']):
                made = compare(scores, metric, reference).reset_index()
                made.insert(0, 'reference', reference)
                made.insert(0, 'metric', metric)
                tables.append(made)
    return pd.concat(tables, ignore_index=True)


def main_table(found: Results, compared: pd.DataFrame) -> str:
    """Write Table 1: our scores, and the paper's in columns of their own."""
    baseline = best_baseline(found)
    against = compared.query('reference == @baseline').set_index(['metric', 'method'])
    winners = {key: getattr(against['mean'][key], metric.best)() for key, metric in METRICS.items()}
    rows = []
    for name in found.methods:
        cells = []
        for key, metric in METRICS.items():
            if (key, name) in against.index:
                row = against.loc[key, name]
                text = metric.show(row['mean'], row['sd']) + row['stars'].replace('*', r'\*')
                cells.append(f'**{text}**' if winners[key] == name else text)
            else:
                cells.append('–')
        published = PUBLISHED['rows'].get(name, [])
        theirs = published or ['–'] * len(PUBLISHED['columns'])
        rows.append([title_of(name), *cells, *theirs])
    for title, limits in found.limits.groupby('method', sort=False):
        people = limits.groupby('participant_id')[list(METRICS)].mean()
        cells = [m.show(people[key].mean(), people[key].std(ddof=1)) for key, m in METRICS.items()]
        rows.append([title, *cells, *['–'] * len(PUBLISHED['columns'])])
    titles = [metric.title for metric in METRICS.values()]
    titles += [f'paper: {METRICS[key].title}' for key in PUBLISHED['columns']]
    people, scans = found.scores['participant_id'].nunique(), found.scores[UNIT].drop_duplicates()
    text = (
        f'Ours: {len(scans)} scans of {people} digital phantoms, out of fold; mean ± SD over '
        'participants (scans of one averaged first), inside the brain as demist finds it; both '
        'maps divided by the 99.5th percentile of the measured one and clipped to [0, 1], MAE '
        'unscaled; SSIM over the brain and over the voxels whose whole window is brain '
        '(*eroded*). Best in bold. '
        + caption(title_of(baseline)).replace('*', r'\*', 1)
        + f' {title_of(baseline)} is the best baseline here. *fit* is the measurement without '
        'noise, which no method can be expected to beat, *retest* its repetition.\n\n'
        f'Paper: {PUBLISHED["source"]}; {PUBLISHED["scans"]} scans of {PUBLISHED["participants"]} '
        'people, which are not public, and definitions of its own: **its columns and ours cannot '
        'be compared**, but for the order of the methods within each.'
    )
    return text + '\n\n' + table(['method', *titles], rows)


def significance(found: Results, compared: pd.DataFrame) -> str:
    """Write how every method differs from DEMIST, or from the best baseline without it."""
    reference = 'demist' if 'demist' in found.methods else best_baseline(found)
    rows = []
    for key in ('psnr', 'ssim', 'mse', 'mae'):
        metric = METRICS[key]
        chosen = compared.query('metric == @key and reference == @reference')
        for row in chosen[chosen['method'] != reference].itertuples():
            change = metric.change(row.difference)
            around = f'{metric.change(row.lower)} to {metric.change(row.upper)}'
            p_values = f'{row.p_t_holm:.3g}', f'{row.p_wilcoxon_holm:.3g}'
            effects = f'{row.dz:+.2f}', f'{row.rank_biserial:+.2f}'
            rows.append(
                [metric.title, title_of(row.method), f'{change} ({around})', *p_values, *effects]
            )
    columns = (
        'metric', 'method', f'method − {title_of(reference)} (95 %, participants drawn)',
        'p, t', 'p, Wilcoxon', 'd_z', 'rank-biserial',
    )  # fmt: skip
    text = 'Participant means, paired; p Holm-adjusted over the methods, for each metric by itself.'
    return text + '\n\n' + table(columns, rows)


def budgets(found: Results) -> str:
    """Write what training took."""
    rows = []
    for name, folds in found.bundles.items():
        stages = [list(fold['stages'].values()) for fold in folds]
        last, every = [of[-1] for of in stages], [stage for of in stages for stage in of]
        updates = [sum(s['updates'] for s in some) / len(folds) for some in (last, every)]
        minutes = [sum(s['seconds'] for s in some) / len(folds) / 60 for some in (last, every)]
        draws = sorted(set(found.scores.query('method == @name')['draws']))
        rows.append([
            title_of(name),
            str(len(folds)),
            f'{sum(folds[0]["parameters"].values()):,}',
            f'{last[0]["trainable_parameters"]:,}',
            ' / '.join(f'{value:,.0f}' for value in updates),
            ' / '.join(f'{value:.1f}' for value in minutes),
            '; '.join(dict.fromkeys(stage['device'] for stage in every)),
            ', '.join(map(str, draws)),
        ])  # fmt: skip
    columns = (
        'method', 'folds', 'parameters', 'trained in the last stage',
        'updates per fold, last stage / all', 'minutes per fold, last stage / all', 'on', 'draws',
    )  # fmt: skip
    text = (
        'Wall time. The latent diffusion methods share all stages of a fold but the last: these '
        'are counted for each method and were trained once.'
    )
    return text + '\n\n' + table(columns, rows)


def lesions(found: Results) -> str:
    """Write how well maps tell lesions from NAWM, and how right they are there."""
    titles = list(found.scans[0].maps)
    tables = {title: lesion_means(found, title) for title in titles}
    counts = np.isfinite(tables[ORACLE]).sum(axis=0)
    baseline = title_of(PAPERS_BASELINE)
    p_values = {one: _against(one, titles, tables) for one in (ORACLE, baseline)}
    rows = []
    for number, title in enumerate(titles):
        cells = curves(title, found.scans, tables, ORACLE)[:-1]
        against = [
            f'{p[number]:.3g} ({_difference(found, title, one, tables)})'.replace('nan ()', '–')
            for one, p in p_values.items()
        ]
        varies = np.ptp(tables[title][:, 0]) > CONSTANT
        agreed = agreements(title, tables) if varies else ['–'] * 6
        rows.append([title, *cells, *against, *agreed])
    columns = (
        'map', 'AUC, combined', 'participants drawn', 'AUC, pNAWM', 'AUC, dNAWM',
        'AUC, voxels pooled', 'p, measured', f'p, {baseline}', 'r, true', 'CCC, true',
        'bias, true (pp)', 'r, measured', 'CCC, measured', 'bias, measured (pp)',
    )  # fmt: skip
    text = (
        f'{counts[0]} lesions of {len(found.scans)} patients (first scans), {counts[1]} with '
        f'proximal and {counts[2]} with distal normal-appearing white matter. In brackets 95 % '
        'intervals of DeLong, for agreement the limits; p: DeLong test of the combined AUC, '
        f'Holm-adjusted over the rows. {ORACLE} is the oracle: an area above it is no accuracy '
        '(contrast copied from FLAIR raises it, and less noise); the agreement of mean PSR in '
        'lesions says how right a map is. DeLong takes lesions as independent: beside p the 95 % '
        'interval of the difference of areas, participants drawn.'
    )
    return text + '\n\n' + table(columns, rows)


def _against(one: str, titles: Sequence[str], tables: Mapping[str, Table]) -> NDArray[np.float64]:
    """Return the adjusted p of all maps having the area of one of them; NaN where there is none."""

    def tested(title: str) -> float:
        if one not in tables or title == one:
            return np.nan
        labels, scores, _ = pair_scores(tables[title], 'combined', bright=title == BRIGHT)
        others = pair_scores(tables[one], 'combined', bright=one == BRIGHT)[1]
        return delong_test(labels, scores, others)

    return holm([tested(title) for title in titles])


def _difference(found: Results, title: str, one: str, tables: Mapping[str, Table]) -> str:
    """Return the interval of a difference of combined areas; empty where there is none."""
    if one not in tables or title == one:
        return ''
    labels, scores, rows = pair_scores(tables[title], 'combined', bright=title == BRIGHT)
    others = pair_scores(tables[one], 'combined', bright=one == BRIGHT)[1]
    owners = np.repeat(
        [scan.participant for scan in found.scans], [len(s.pairs) for s in found.scans]
    )
    low, high = auc_interval(labels, scores, owners[rows], minus=others)
    return f'{low:+.3f} to {high:+.3f}'


def noise_ceiling(found: Results) -> str:
    """Write how far every method is from the noise-free truth."""
    held, boxes = [], {}
    names = {unit.name for unit in found.units}
    for case in cases(found.units[0].folder / 'bids'):
        if case.name not in names:
            continue
        box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(case.mask))
        boxes[case.name] = box
        volumes = {name: value for name, value in vars(case).items() if np.ndim(value) == 3}
        held.append(replace(case, **{name: value[box] for name, value in volumes.items()}))

    def maps(title: str) -> dict[str, Map]:
        return {unit.name: unit.maps[title][boxes[unit.name]] for unit in found.units}

    shown = [RETEST, TRUTH, *(title_of(method) for method in found.methods)]
    with np.errstate(invalid='ignore'):  # a constant map is correlated with nothing
        rows = [row for title in shown for row in split_rows(title, maps(title), held)]
    cells = [row.replace('nan%', '–').strip('| ').split(' | ') for row in rows]
    regions = [region for region in dict.fromkeys(row[1] for row in cells) if region != 'CSF']
    cells = [[r, row[0], *row[2:]] for r in regions for row in cells if row[1] == r]
    text = (
        'Root mean squares inside the true brain, percentage points of PSR; where demist did not '
        'see the brain, its map is 0. *From noise-free* is what a better model might save, *left '
        'open* the share of the variance of noise-free PSR that the map does not explain (that of '
        'the best method is an upper bound of what T1w and FLAIR do not determine), *dB below '
        'noise-free* what is missing to the PSNR of a map without noise.'
    )
    return text + '\n\n' + table([SPLIT[1], SPLIT[0], *SPLIT[2:]], cells)


def page(found: Results, compared: pd.DataFrame) -> str:
    """Write the page; `compared` is what `comparisons` returned."""
    parts = {
        'Table 1': main_table(found, compared),
        'Differences': significance(found, compared),
        'What each took': budgets(found),
        'Lesions': lesions(found),
        'Noise ceiling': noise_ceiling(found),
    }
    sections = [f'## {title}\n\n{text}\n' for title, text in parts.items()]
    figures = (
        '## Figures\n\n![ROC curves of lesions against NAWM](roc.svg)\n\n'
        '![A patient and a control](examples.svg)\n'
    )
    return '\n'.join(['# The methods of the paper, on digital phantoms\n', *sections, figures])
