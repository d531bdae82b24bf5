import csv
import json

import numpy as np
import pytest

from bids_layout.query import QueryError
from demist_app.evaluation.roc import delong_interval
from demist_app.workflows.group import report_cohort


def rows(path):
    with path.open(encoding='utf-8') as file:
        return list(csv.DictReader(file, delimiter='\t', quoting=csv.QUOTE_NONE))


@pytest.fixture
def study(cohort):
    people = ['participant_id\tgroup']
    for number in range(1, 7):
        people.append(f'sub-{number}\t{"patient" if number % 2 else "control"}')
        for session in (1, 2):
            white = 11 + 0.05 * number - 0.1 * session - (5 if (number, session) == (6, 2) else 0)
            thick = (f'FLAIR: The slices are {number}.0 mm thick.',)
            values = {'CSF': 2.0, 'WM': white} | ({'lesions': 6.0} if number == 1 else {})
            cohort.add(f'sub-{number}_ses-{session}', values, warnings=thick)
    cohort.end_run(sub7_ses1='failed: no brain in the T1w', sub8_ses1='skipped: no FLAIR')
    (cohort.bids / 'sub-9' / 'ses-1').mkdir(parents=True)
    cohort.write(cohort.bids / 'participants.tsv', '\n'.join(people) + '\n')
    return cohort


def test_tables_and_page_agree(study):
    words = report_cohort(study.inputs)
    assert words.startswith('15 units: 12 done, 1 failed, 1 skipped, 1 not started; see ')
    psr, qc = rows(study.out / 'group_psr.tsv'), rows(study.out / 'group_qc.tsv')
    assert len(psr) == 26
    assert (psr[0]['participant_id'], psr[0]['session_id']) == ('sub-1', 'ses-1')
    assert [row['status'] for row in qc].count('done') == 12
    flagged = [row for row in qc if row['outliers'] != 'n/a']
    assert [(row['participant_id'], row['session_id']) for row in flagged] == [('sub-6', 'ses-2')]
    for name, table in (('psr', psr), ('qc', qc)):
        described = json.loads((study.out / f'group_{name}.json').read_text('utf-8'))
        assert list(described) == list(table[0])
    page = (study.out / 'group.html').read_text('utf-8')
    for said in (
        'synthetic, not measured',
        'href="sub-1_ses-1.html"',
        'no brain in the T1w (step wf.step)',
        'FLAIR: The slices are … mm thick.',
        '12 units',
        '0.6745',
        'Change between sessions',
        '−5.1',
        'sub-9_ses-1',
        'control',
        '<td>−0.1 ± 0.0</td>',  # of the controls
    ):
        assert said in page, said
    assert '– ± –' not in page


def test_the_same_files_give_the_same_bytes(study):
    report_cohort(study.inputs)
    before = {path.name: path.read_bytes() for path in study.out.glob('group*')}
    assert set(before) == {
        'group.html', 'group_psr.tsv', 'group_psr.json', 'group_qc.tsv', 'group_qc.json'
    }  # fmt: skip
    report_cohort(study.inputs)
    assert {path.name: path.read_bytes() for path in study.out.glob('group*')} == before


def test_units_made_differently_are_said(cohort):
    cohort.add('sub-1', {'WM': 11.0})
    cohort.add('sub-2', {'WM': 10.0}, model='bb')
    report_cohort(cohort.inputs)
    page = (cohort.out / 'group.html').read_text('utf-8')
    assert 'different models: small 1 (1 unit), small 1 (1 unit); do not compare them' in page
    assert 'fewer than 5 units' in page


def test_one_unit_is_a_cohort(cohort):
    cohort.add('sub-1', {'WM': 11.0})
    assert report_cohort(cohort.inputs).startswith('1 unit: 1 done')
    assert 'Change between sessions' not in (cohort.out / 'group.html').read_text('utf-8')


def test_a_cohort_without_values_says_so(cohort):
    cohort.add('sub-1')
    cohort.end_run(sub2='failed: no brain')
    report_cohort(cohort.inputs)
    assert rows(cohort.out / 'group_psr.tsv') == []
    assert 'No unit has regional values yet' in (cohort.out / 'group.html').read_text('utf-8')


def test_nothing_to_join_says_what_to_do(cohort):
    (cohort.bids / 'sub-1').mkdir()
    with pytest.raises(QueryError, match='run the participant level first'):
        report_cohort(cohort.inputs)
    assert not cohort.out.exists()


def of_lesions(rng, count=6):
    """Return what a sidecar says of lesions; the last has no distal NAWM."""
    dark = rng.normal([8.0, 10.0, 10.2], 1.0, (count, 3)).tolist()
    bright, grey = (rng.normal([m, 1.0, 1.0], 0.1, (count, 3)).tolist() for m in (1.3, 0.9))
    for table in (dark, bright, grey):
        table[-1][2] = None
    areas = {'combined': 0.9, 'pNAWM': 0.8, 'dNAWM': None}
    return {
        'Volume': [0.1] * count, 'Synthetic': dark, 'FLAIR': bright, 'T1w': grey,
        'VoxelAUC': {'Synthetic': areas, 'FLAIR': areas, 'T1w': areas},
    }  # fmt: skip


def test_lesions_of_a_cohort_are_told_from_white_matter_without_measured_maps(cohort):
    rng = np.random.default_rng(0)
    told = {f'sub-{who}_ses-1': of_lesions(rng) for who in (1, 2, 3)}
    for label, lesions in told.items():
        cohort.add(label, {'WM': 11.0, 'lesions': 8.0}, lesions=lesions)
    cohort.add('sub-1_ses-2', {'WM': 11.0}, lesions=of_lesions(rng))  # the same ones again
    cohort.add('sub-4_ses-1', {'WM': 11.0})
    report_cohort(cohort.inputs)

    table = rows(cohort.out / 'group_psr_lesions.tsv')
    found = {(row['method'], row['comparator']): row for row in table}
    assert {name for name, _ in found} == {'synthetic', 'FLAIR', 'T1w'}
    means = np.array([row[:2] for one in told.values() for row in one['Synthetic']])
    expected = delong_interval(np.repeat([True, False], len(means)), -means.T.ravel())
    row = found['synthetic', 'pNAWM']
    assert float(row['auc']) == pytest.approx(expected.auc, rel=1e-5)
    assert float(row['lower']) == pytest.approx(expected.lower, rel=1e-5)
    assert (row['lesions'], row['participants'], row['auc_voxels']) == ('18', '3', '0.8')
    assert found['synthetic', 'dNAWM']['lesions'] == '15'
    assert found['synthetic', 'dNAWM']['auc_voxels'] == 'n/a'
    assert (row['p_reference'], row['reference']) == ('n/a', 'synthetic')
    assert 0 < float(found['FLAIR', 'combined']['p_reference']) < 1
    described = json.loads((cohort.out / 'group_psr_lesions.json').read_text('utf-8'))
    assert list(described) == list(table[0])
    assert not any('measured' in name for name in table[0])

    page = (cohort.out / 'group.html').read_text('utf-8')
    assert 'no evidence that its PSR is right' in page
    assert '<td>18 (3)</td>' in page
    assert 'href="group_psr_lesions.tsv"' in page
    section = page.split('id="lesions"')[1].split('</section>')[0]
    assert 'measured PSR' not in section
    assert 'CCC' not in section

    for path in cohort.out.glob('sub-*/ses-*/anat/*PSRmap.json'):  # of runs without the masks
        sidecar = json.loads(path.read_text('utf-8'))
        path.write_text(json.dumps({k: v for k, v in sidecar.items() if k != 'LesionPairs'}))
    report_cohort(cohort.inputs)
    assert not list(cohort.out.glob('group_psr_lesions*'))
    assert 'id="lesions"' not in (cohort.out / 'group.html').read_text('utf-8')
