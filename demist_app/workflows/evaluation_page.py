"""From the scores and models of a cross-validation to the page ``models/evaluation.html``."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from bids.utils import natural_sort

from bids_layout.names import derivative_path
from boilerplate.evaluation_report import (
    AgreementRow,
    Case,
    EvaluationReport,
    MethodAgreement,
    ScoreRow,
    TestRow,
    render_evaluation,
)
from boilerplate.plots import differences
from boilerplate.report import Headline, number
from boilerplate.squares import style
from demist_app import __version__
from demist_app.evaluation.metrics import DATA_RANGE
from demist_app.evaluation.statistics import caption
from demist_app.training.methods import METHODS
from demist_app.workflows.calibration_section import calibration_section
from demist_app.workflows.cohort import unit_of_row
from demist_app.workflows.evaluation import (
    AGREEMENT_COLUMNS,
    COMPARISON_COLUMNS,
    Evaluation,
    agreement_table,
    comparison_table,
    regional_means,
    sidecars,
    write_table,
)
from demist_app.workflows.evaluation_calibration import (
    CALIBRATION_COLUMNS,
    calibration_means,
    calibration_table,
    spread_and_error,
)
from demist_app.workflows.evaluation_lesions import (
    LESION_COLUMNS,
    first_scans,
    lesion_means,
    lesion_table,
    voxel_areas,
)
from demist_app.workflows.evaluation_training import training_of
from demist_app.workflows.evaluation_words import MINUS, interval, p_value
from demist_app.workflows.examples import out_of_fold
from demist_app.workflows.lesion_section import lesion_section

_GROUPS_SHOWN = 6
_SCAN = ('participant_id', 'session_id')
_SHOWN: dict[str, tuple[str, float, int, str]] = {
    'psnr': ('PSNR (dB)', 1, 2, 'higher'),
    'ssim': ('SSIM', 1, 3, 'higher'),
    'ncc': ('NCC', 1, 3, 'higher'),
    'mse': ('MSE (10⁻³)', 1e3, 2, 'lower'),
    'mae': ('MAE (pp)', 1, 2, 'lower'),
    'ssim_eroded': ('SSIM, eroded', 1, 3, 'higher'),
    'l1': ('L1 (10⁻³)', 1e3, 1, 'lower'),
    'psnr_absolute': ('PSNR, absolute (dB)', 1, 2, 'higher'),
    'ssim_absolute': ('SSIM, absolute', 1, 3, 'higher'),
    'ncc_absolute': ('NCC, absolute', 1, 3, 'higher'),
    'mse_absolute': ('MSE, absolute (pp²)', 1, 2, 'lower'),
}
"""Score to its name, factor and digits on the page, and the better end."""
_DEFINITIONS = (
    (
        'PSNR, SSIM, NCC, MSE, L1',
        'Of both maps divided by the 99.5th percentile of the measured one and clipped to [0, 1], '
        'inside the brain where it was measured, on the 1 mm grid. SSIM: Gaussian window of 11 '
        'voxels with an SD of 1.5, mean over the voxels of the brain; eroded: over those '
        'whose whole window is brain.',
    ),
    (
        'Absolute',
        'The same of percent PSR, neither divided nor clipped; PSNR and SSIM relative to '
        f'{DATA_RANGE:g} %.',
    ),
    ('NCC', 'Correlation of both maps over the voxels of the brain.'),
    ('MAE', 'Mean absolute difference, percentage points (pp) of PSR, unscaled.'),
    (
        'Draws',
        'Diffusion models sample: their maps are means of so many draws, of which a single one '
        'scores lower. Distilled models give one map, without drawing.',
    ),
)
_OUTPUTS = (
    ('../group_scores.tsv', 'all scores, one row per scan and method'),
    ('../group_comparison.tsv', 'tests against the reference, by every score'),
    ('../group_agreement.tsv', 'agreement by region'),
    ('../group_lesions.tsv', 'lesions against normal-appearing white matter'),
    ('../group_calibration.tsv', 'stated uncertainty against errors, by region'),
    ('splits.tsv', 'folds'),
    ('README.md', 'scores of the folds'),
    ('CITATION.html', 'methods text, with references'),
)


def report_evaluation(found: Evaluation) -> Path:
    """Write the tables of `demist_app.workflows.evaluation`, and the page.

    Parameters
    ----------
    found : Evaluation

    Returns
    -------
    Path
        ``models/evaluation.html``.
    """
    told = sidecars(found.out_dir, found.scores)
    comparison = comparison_table(found.scores, found.reference)
    regions = regional_means(told)
    agreement = agreement_table(regions)
    firsts = first_scans(told)
    lesions = lesion_means(firsts)
    of_lesions = lesion_table(lesions, found.reference, voxel_areas(firsts))
    uncertain, tenths = calibration_means(told)
    calibration = calibration_table(uncertain)
    for name, table, columns in (
        ('comparison', comparison, COMPARISON_COLUMNS),
        ('agreement', agreement, AGREEMENT_COLUMNS),
        ('lesions', of_lesions, LESION_COLUMNS),
        ('calibration', calibration, CALIBRATION_COLUMNS),
    ):
        write_table(found.out_dir, name, table, columns)
    methods = sorted(found.folds, key=lambda name: name != found.reference)
    named = {name: (METHODS[name].title, style(number)) for number, name in enumerate(methods)}
    folder = found.out_dir / 'models'
    reference = METHODS[found.reference].title
    people = found.scores['participant_id'].nunique()
    groups = _groups(found.scores)
    report = EvaluationReport(
        version=__version__,
        title=f'Evaluation of {len(found.folds)} {"method" if len(found.folds) == 1 else "methods"}'
        f' in {people} {"participant" if people == 1 else "participants"}',
        headline=tuple(_headline(found)),
        missing=tuple(found.missing.items()),
        metrics=tuple((name, f'{better} is better') for name, _, _, better in _SHOWN.values()),
        scores=tuple(_score_rows(found.scores, comparison)),
        caption='' if comparison.empty else caption(reference),
        tests=tuple(_tests(comparison)),
        agreements=tuple(_agreements(regions, agreement, groups, found.reference)),
        groups=tuple(groups),
        reference=reference,
        lesions=lesion_section(lesions, of_lesions, named, '../group_lesions.tsv'),
        calibration=calibration_section(calibration, spread_and_error(tenths), named),
        cases=tuple(_cases(found)),
        folds=tuple(_folds(found)),
        fold_names=tuple(f'fold {fold}' for fold in range(1, found.splits.n_splits + 1)),
        training=tuple(training_of(found, method) for method in methods),
        definitions=_DEFINITIONS,
        outputs=tuple(
            (path, words) for path, words in _OUTPUTS if (folder / path).resolve().exists()
        ),
        provenance=_provenance(found),
    )
    return render_evaluation(report, folder / 'evaluation.html')


def _means(scores: pd.DataFrame, metric: str) -> pd.Series:
    """Return participant to the mean of a score over the scans, of one method."""
    if metric not in scores:  # sidecars of an earlier version do not have them all
        return pd.Series(dtype=float)
    return scores.groupby('participant_id')[metric].mean().astype(float).dropna()


def _spread(values: pd.Series, factor: float, digits: int) -> str:
    """Say mean and SD; one participant has no SD."""
    if values.empty:
        return '–'
    mean, sd = values.mean() * factor, values.std() * factor
    spread = f' ± {sd:.{digits}f}' if sd == sd else ''
    return f'{mean:.{digits}f}{spread}'.translate(MINUS)


def _headline(found: Evaluation) -> Iterator[Headline]:
    units = len(found.splits.assignments)
    scored = len(found.scores[['participant_id', 'session_id']].drop_duplicates())
    yield Headline('Scans', str(scored), f'of {units}', f'in {found.splits.n_splits} folds')
    own = found.scores[found.scores['method'] == found.reference]
    for metric in ('psnr', 'ssim', 'mae'):
        name, factor, digits, _ = _SHOWN[metric]
        values = _means(own, metric)
        if len(values):
            label, _, unit = name.partition(' ')
            note = f'{METHODS[found.reference].title}, mean over participants'
            shown = f'{values.mean() * factor:.{digits}f}'
            yield Headline(label, shown, unit.strip('()'), note)


def _score_rows(scores: pd.DataFrame, comparison: pd.DataFrame) -> Iterator[ScoreRow]:
    of_method = {str(name): rows for name, rows in scores.groupby('method', sort=False)}
    best = {}
    scans = {frozenset(zip(*(rows[c] for c in _SCAN), strict=True)) for rows in of_method.values()}
    for metric, (_, _, _, better) in _SHOWN.items():
        means = {name: _means(rows, metric).mean() for name, rows in of_method.items()}
        known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        if len(known) > 1 and len(scans) == 1:  # else they are means of different scans
            best[metric] = (max if better == 'higher' else min)(known, key=known.__getitem__)
    stars = comparison.set_index(['metric', 'method'])['stars'].to_dict()
    for name, rows in of_method.items():
        cells = tuple(
            (
                _spread(_means(rows, metric), factor, digits),
                stars.get((metric, name), ''),
                best.get(metric) == name,
            )
            for metric, (_, factor, digits, _) in _SHOWN.items()
        )
        counted = f'{len(rows)} ({rows["participant_id"].nunique()})'
        yield ScoreRow(METHODS[name].title, name, counted, cells)


def _tests(comparison: pd.DataFrame) -> Iterator[TestRow]:
    others = comparison[comparison['method'] != comparison['reference']]
    for metric, (name, factor, digits, _) in _SHOWN.items():
        for row in others[others['metric'] == metric].to_dict('records'):
            values = [row[key] * factor for key in ('difference', 'lower', 'upper')]
            yield TestRow(
                metric=name,
                method=METHODS[row['method']].title,
                difference=interval(*values, digits=digits),
                p_t=p_value(row['p_t_holm']),
                p_wilcoxon=p_value(row['p_wilcoxon_holm']),
                dz=number(row['dz'], 2),
                rank_biserial=number(row['rank_biserial'], 2),
            )


def _groups(scores: pd.DataFrame) -> list[str]:
    """Return the groups that the plots tell apart; none if there is one, or too many."""
    names: list[str] = natural_sort(set(scores['group']))
    return names if 2 <= len(names) <= _GROUPS_SHOWN else []


def _agreements(
    regions: pd.DataFrame, agreement: pd.DataFrame, groups: Sequence[str], reference: str
) -> Iterator[MethodAgreement]:
    keys = ['method', 'region', 'participant_id']
    means = regions.groupby(keys)[['synthetic', 'measured']].mean()
    group_of = regions.groupby('participant_id')['group'].first()
    numbers = {str(who): groups.index(group) if groups else 0 for who, group in group_of.items()}
    # that of the reference is open, and so comes first
    of_method = sorted(agreement.groupby('method', sort=False), key=lambda one: one[0] != reference)
    for method, rows in of_method:
        plots, lines = [], []
        for row in rows.to_dict('records'):
            region = row['region']
            of_region = means.loc[(method, region)]
            pairs = {
                str(who): (synthetic, measured)
                for who, synthetic, measured in of_region.itertuples()
            }
            limits = (row['lower'], row['bias'], row['upper'])
            plots.append(differences(region, pairs, numbers, limits))
            lines.append(
                AgreementRow(
                    region=region,
                    n=str(row['n']),
                    bias=interval(row['bias'], row['bias_low'], row['bias_high'], digits=2),
                    limits=f'{number(row["lower"], 2)} to {number(row["upper"], 2)}',
                    r=number(row['r'], 2),
                    ccc=number(row['ccc'], 2),
                    icc=number(row['icc'], 2),
                    line=_line(row['intercept'], row['slope']),
                )
            )
        yield MethodAgreement(METHODS[str(method)].title, tuple(plots), tuple(lines))


def _cases(found: Evaluation) -> Iterator[Case]:
    """Choose by PSNR; a map that was made before there were figures is no case."""
    own = found.scores[found.scores['method'] == found.reference]
    figures = {}
    for row in own.sort_values('psnr', ascending=False).to_dict('records'):
        unit = unit_of_row(row)
        names = {'desc': out_of_fold(found.reference)['desc'], 'suffix': 'PSRmap'}
        path = derivative_path(found.out_dir, unit, datatype='figures', extension='.svg', **names)
        if path.exists():
            figures[unit.label] = (path, f'{row["psnr"]:.2f} dB')
    labels = list(figures)
    # of one or two units, the best comes first
    chosen = {len(labels) // 2: 'Median', len(labels) - 1: 'Worst', 0: 'Best'}
    for place, title in sorted(chosen.items()) if labels else ():
        path, score = figures[labels[place]]
        yield Case(title, labels[place], score, path.read_text('utf-8'))


def _folds(found: Evaluation) -> Iterator[tuple[str, ...]]:
    for fold in range(1, found.splits.n_splits + 1):
        tested = [a for a in found.splits.assignments if a.fold == fold]
        people = {a.participant: a.group for a in tested}
        counts = Counter(people.values())
        names = ', '.join(natural_sort(people))
        bundle = found.folds[found.reference].get(fold)
        learned = [
            str(len(bundle.metadata[key])) if bundle else '–'
            for key in ('training_units', 'validation_units')
        ]
        groups = ', '.join(f'{count} {name}' for name, count in sorted(counts.items()))
        yield (str(fold), str(len(tested)), str(len(people)), names, groups, *learned)


def _provenance(found: Evaluation) -> dict[str, str]:
    """Tell what was run, and with which seed and libraries models were trained."""
    bundles = [bundle for of in found.folds.values() for bundle in of.values()]
    facts = {'demist': __version__}
    runs = sorted(path.parent.name for path in found.out_dir.glob('logs/*/settings.json'))
    if runs:
        facts['Last run'] = f'{runs[-1]} (of {len(runs)}; settings and log in logs/)'
    for title, key in (('Preset', 'preset'), ('Random seed', 'seed')):
        values = {_word(bundle.metadata[key]) for bundle in bundles if key in bundle.metadata}
        if values:
            facts[title] = ', '.join(natural_sort(values))
    libraries = {
        f'{name} {number}'
        for bundle in bundles
        for name, number in bundle.metadata.get('libraries', {}).items()
    }
    if libraries:
        facts['Libraries'] = ', '.join(sorted(libraries, key=str.lower))
    return facts | {
        f'Models of {METHODS[method].title}': 'sha256 '
        + ', '.join(f'{bundle.sha256[:12]} (fold {fold})' for fold, bundle in of.items())
        for method, of in found.folds.items()
    }


def _word(value: object) -> str:
    """Name a preset, which is told whole, or a number."""
    return str(value['name'] if isinstance(value, dict) else value)


def _line(intercept: float, slope: float) -> str:
    sign = '−' if slope < 0 else '+'
    return f'{number(intercept, 2)} {sign} {abs(slope):.2f} · synthetic'
