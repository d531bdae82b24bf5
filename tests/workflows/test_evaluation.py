"""Tables and page of a cross-validation, from files like those it leaves."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from browsing import browse, foreign

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.statistics import compare
from demist_app.model.bundle import Bundle
from demist_app.training.folds import Assignment, Splits
from demist_app.workflows.evaluation import (
    AGREEMENT_COLUMNS,
    COMPARISON_COLUMNS,
    Evaluation,
    agreement_table,
    comparison_table,
    regional_means,
    sidecars,
)
from demist_app.workflows.evaluation_calibration import CALIBRATION_COLUMNS
from demist_app.workflows.evaluation_lesions import LESION_COLUMNS
from demist_app.workflows.evaluation_page import report_evaluation
from demist_app.workflows.examples import out_of_fold

PEOPLE = 6
METHODS = ('demist', 'linear', 'mean')
EVIL = "<img src=x onerror=document.title='pwned'>"


def sessions(person):
    return ('ses-A', 'ses-B') if person == 0 else ('n/a',)


def label(person, session):
    return f'sub-{person}' + ('' if session == 'n/a' else f'_{session}')


@pytest.fixture
def scores():
    """Linear is 2 dB below demist and the mean 8, with some noise; the mean has no NCC."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(PEOPLE):
        for session in sessions(person):
            level = 24 + rng.normal()
            for method, below in zip(METHODS, (0, 2, 8), strict=True):
                psnr = level - below + 0.1 * rng.normal()
                rows.append(
                    {
                        'participant_id': f'sub-{person}',
                        'session_id': session,
                        'group': 'patient' if person % 2 else EVIL,
                        'method': method,
                        'fold': 1 + person % 2,
                        'psnr': psnr,
                        'ssim': 0.8 - 0.01 * below + 0.001 * rng.normal(),
                        'ssim_eroded': 0.7 - 0.01 * below,
                        'psnr_absolute': psnr + 3,
                        'ssim_absolute': 0.85 - 0.01 * below,
                        'mse': 10 ** (-psnr / 10),
                        'ncc': None if method == 'mean' else 0.9 + 0.01 * rng.normal(),
                        'mae': 1 + 0.1 * below + 0.01 * rng.normal(),
                        'draws': 8 if method == 'demist' else 1,
                        'model_sha256': 'aa',
                    }
                )
    return pd.DataFrame(rows)


def regions_of(row, person):
    if row['method'] == 'mean':
        return {'WM': {'Volume': 500.0, 'Synthetic': 10.0, 'Measured': 10 + person}}
    found = {'WM': {'Volume': 500.0, 'Synthetic': 10 + 0.5 * person, 'Measured': 10 + person}}
    if person < 2:
        found['lesions'] = {'Volume': 5.0, 'Synthetic': 8.0 + person, 'Measured': 7.0}
    return found


def lesions_and_doubt(method, person):
    """Two lesions of the patients, all found by demist; SDs that are half as large as the errors.

    The mean says the same of everything, and has no SD.
    """
    told = {}
    if person % 2:
        lesion, white = 6 + person / 10, 12 + person / 10
        ours = [9.0] * 3 if method == 'mean' else [lesion + 0.5, white, white]
        told['LesionPairs'] = {
            'Volume': [0.1, 0.2],
            'Synthetic': [ours, [*ours[:2], None]],
            'Measured': [[lesion, white, white], [white, lesion, None]],
            'FLAIR': [[0.9, 0.5, 0.5], [0.8, 0.5, None]],
            'T1w': [[0.5, 0.7, 0.7], [0.6, 0.7, None]],
        }
    if method != 'mean':
        coverage = {'0.5': 0.3, '0.8': 0.5, '0.9': 0.6, '0.95': 0.7}
        half = {'Error': -0.5, 'SquaredError': 4.0, 'Variance': 1.0, 'Coverage': coverage}
        told['Calibration'] = {
            'Regions': {'brain': {'Voxels': 90} | half, 'WM': {'Voxels': 40} | half},
            'Tenths': {'Variance': [0.1 * n for n in range(10)], 'SquaredError': [4.0] * 10},
        }
    return told


@pytest.fixture
def found(scores, tmp_path):
    """All files that the page is made of."""
    for row in scores.to_dict('records'):
        person = int(row['participant_id'].removeprefix('sub-'))
        unit = label(person, row['session_id'])
        desc = out_of_fold(row['method'])['desc']
        path = tmp_path / 'out' / unit.replace('_', '/') / 'anat'
        path.mkdir(parents=True, exist_ok=True)
        sidecar = path / f'{unit}_space-T1w_desc-{desc}_PSRmap.json'
        told = {'Regions': regions_of(row, person)} | lesions_and_doubt(row['method'], person)
        sidecar.write_text(json.dumps(told))
        figures = path.with_name('figures')
        figures.mkdir(exist_ok=True)
        (figures / f'{unit}_desc-{desc}_PSRmap.svg').write_text(f'<svg id="of-{unit}-{desc}"/>')
    assignments = [
        Assignment(label(p, s), f'sub-{p}', 'patient' if p % 2 else EVIL, 1 + p % 2)
        for p in range(PEOPLE)
        for s in sessions(p)
    ]
    folds = {}
    for method in METHODS:
        for fold in (1, 2):
            facts = {'updates': 40, 'seconds': 60.0 * fold, 'device': 'CPU', 'parameters': 10}
            if method == 'demist':
                facts |= {'best_update': 20.0 * fold, 'validation_loss': 0.1 * fold}
                facts['history'] = [[20.0, 0.5], [40.0, 0.2]]
            metadata = {
                'stages': {'2-conditional' if method == 'demist' else method: facts},
                'parameters': {'all': 1234},
                'training_units': [{}] * 3,
                'validation_units': [{}],
            }
            bundle = Bundle(tmp_path / f'{method}-{fold}', metadata, f'{method}{fold}')
            folds.setdefault(method, {})[fold] = bundle
    return Evaluation(
        out_dir=tmp_path / 'out',
        splits=Splits(tuple(assignments)),
        folds=folds,
        reference='demist',
        scores=scores,
        missing={},
    )


def test_every_score_is_compared_as_compare_does(scores):
    table = comparison_table(scores, 'linear')
    assert list(table) == list(COMPARISON_COLUMNS)
    assert list(table['metric'].unique()) == [
        'psnr', 'ssim', 'ssim_eroded', 'psnr_absolute', 'ssim_absolute', 'mse', 'ncc', 'mae',
    ]  # fmt: skip
    psnr = table[table['metric'] == 'psnr'].set_index('method')
    expected = compare(scores, 'psnr', 'linear')
    assert psnr.loc['demist', 'p_t_holm'] == expected.loc['demist', 'p_t_holm']
    assert psnr.loc['demist', 'difference'] == pytest.approx(2, abs=0.2)
    assert psnr.loc['demist', 'stars'] == '*'
    # the mean of everybody has no correlation with anything
    assert list(table.loc[table['metric'] == 'ncc', 'method']) == ['demist', 'linear']


def test_what_cannot_be_compared_is_left_out(scores):
    alone = scores[scores['method'] == 'demist']
    assert comparison_table(alone, 'demist').empty
    one = scores[(scores['method'] == 'demist') | (scores['participant_id'] == 'sub-0')]
    assert comparison_table(one, 'demist').empty
    assert 'ncc' not in set(comparison_table(scores, 'mean')['metric'])


def test_regions_agree_as_participants_do(found):
    regions = regional_means(sidecars(found.out_dir, found.scores))
    assert len(regions[regions['participant_id'] == 'sub-0']) == 2 * (2 + 2 + 1)
    table = agreement_table(regions)
    assert list(table) == list(AGREEMENT_COLUMNS)
    # two have lesions, and the mean says the same of everybody
    rows = list(zip(table['method'], table['region'], strict=True))
    assert rows == [('demist', 'WM'), ('linear', 'WM')]
    people = np.arange(PEOPLE)
    expected = agreement(10 + 0.5 * people, 10 + people)
    assert table['n'].tolist() == [PEOPLE] * 2
    assert table['bias'].tolist() == pytest.approx([expected.bias] * 2)
    assert table['slope'].tolist() == pytest.approx([2.0] * 2)


def test_maps_of_before_have_no_regions(found):
    for path in found.out_dir.rglob('*.json'):
        path.write_text('{}')
    assert agreement_table(regional_means(sidecars(found.out_dir, found.scores))).empty
    page = report_evaluation(found).read_text('utf-8')
    assert not any(f'id="{name}"' in page for name in ('agreement', 'lesions', 'uncertainty'))
    names = {path.stem for path in found.out_dir.glob('group_*.tsv')}
    assert names == {'group_comparison'}


def test_tables_are_written_and_removed_with_what_they_told(found):
    report_evaluation(found)
    for name, columns in (
        ('comparison', COMPARISON_COLUMNS),
        ('agreement', AGREEMENT_COLUMNS),
        ('lesions', LESION_COLUMNS),
        ('calibration', CALIBRATION_COLUMNS),
    ):
        path = found.out_dir / f'group_{name}.tsv'
        assert path.read_text().splitlines()[0].split('\t') == list(columns)
        assert json.loads(path.with_suffix('.json').read_text()) == columns
    own = found.scores[found.scores['method'] == 'demist']
    report_evaluation(replace(found, folds={'demist': found.folds['demist']}, scores=own))
    assert not (found.out_dir / 'group_comparison.tsv').exists()
    assert not (found.out_dir / 'group_comparison.json').exists()
    assert (found.out_dir / 'group_agreement.tsv').exists()


def test_the_page_says_who_is_best_and_what_the_star_means(found):
    page = report_evaluation(found).read_text('utf-8')
    assert 'Evaluation of 3 methods in 6 participants' in page
    assert '* differs from DEMIST: paired t-test on participant means' in page
    row, further = re.findall(r'<tr><th scope="row">DEMIST<br>.*</tr>', page)
    assert '<td>7 (6)</td>' in row
    assert row.count('class="best"') == 4  # but for NCC, by chance
    assert further.count('class="best"') == 3
    assert EVIL not in page
    assert '&lt;img src=x' in page


def test_the_page_says_who_is_in_a_fold_and_what_was_run(found):
    for name in ('20260101-000000_a', '20260102-000000_b'):
        settings = found.out_dir / 'logs' / name / 'settings.json'
        settings.parent.mkdir(parents=True)
        settings.write_text('{}')
    for bundle in found.folds['demist'].values():
        bundle.metadata['seed'] = 13
    page = report_evaluation(found).read_text('utf-8')
    assert '<details><summary>3</summary>sub-0, sub-2, sub-4</details>' in page
    facts = page[page.index('<section id="provenance"') :]
    for words in ('20260102-000000_b (of 2;', 'Random seed</dt><dd class="mono">13<'):
        assert words in facts


def test_a_browser_shows_the_page_as_it_was_written(found, tmp_path):
    document = browse(report_evaluation(found), tmp_path / 'profile')
    assert '<title>Evaluation of 3 methods' in document
    assert foreign(document) == []
    assert document.count('<section id=') == 10


def test_the_page_warns_of_contrast_and_of_doubt_that_is_too_small(found):
    page = report_evaluation(found).read_text('utf-8')
    assert 'An AUC above that of the measured maps is no accuracy' in page
    section = page[page.index('<section id="lesions"') : page.index('<section id="uncertainty"')]
    assert section.count('role="img"') == 3
    (row,) = re.findall(r'<tr><th scope="row">DEMIST</th><td>6 \(3\)</td>.*</tr>', section)
    assert row.count('†') == 2  # of measured dNAWM all are told apart as well
    (row,) = re.findall(r'<tr><th scope="row">measured PSR</th>.*</tr>', section)
    assert '†' not in row
    doubt = page[page.index('<section id="uncertainty"') : page.index('<section id="cases"')]
    assert doubt.count('role="img"') == 3  # two methods, and both in one
    assert '<td>2.00</td><td>30.0 %<small></small></td>' in doubt  # error over SD, 50 % interval


def test_the_page_shows_best_median_and_worst(found):
    page = report_evaluation(found).read_text('utf-8')
    own = found.scores[found.scores['method'] == 'demist'].sort_values('psnr', ascending=False)
    labels = [
        label(int(row['participant_id'][4:]), row['session_id']) for row in own.to_dict('records')
    ]
    assert re.findall(r'id="of-([^"]*)-outoffold"', page) == [labels[0], labels[3], labels[6]]
    assert re.findall(r'<h3>(Best|Median|Worst): ([^,]*),', page) == [
        ('Best', labels[0]), ('Median', labels[3]), ('Worst', labels[6]),
    ]  # fmt: skip


def test_the_page_shows_the_courses_that_the_models_kept(found):
    page = report_evaluation(found).read_text('utf-8')
    assert page.count('<polyline class="line') == 2
    assert '1,234' in page
    assert '<td>1.5</td>' in page  # minutes of a fold
    del found.folds['demist'][1].metadata['stages']['2-conditional']['history']  # as of before
    assert report_evaluation(found).read_text('utf-8').count('<polyline class="line') == 1


def test_the_page_of_one_unfinished_fold(found):
    """One participant, no models of the other fold, no losses, something missing."""
    del found.folds['demist'][2].metadata['stages']['2-conditional']['history']
    some = found.scores[found.scores['participant_id'] == 'sub-1']
    some = some[some['method'] == 'demist']
    page = report_evaluation(
        replace(
            found,
            folds={'demist': {2: found.folds['demist'][2]}},
            scores=some,
            missing={'sub-0_ses-A': 'fold 1 is not trained yet'},
        )
    ).read_text('utf-8')
    assert 'fold 1 is not trained yet' in page
    assert 'id="agreement"' not in page
    assert 'differs from' not in page
    assert '<polyline class="line' not in page
    assert re.findall(r'<h3>(Best|Median|Worst)', page) == ['Best']
    assert not re.search(r'\bnan\b', page.lower())
