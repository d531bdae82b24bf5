import csv
import json

import pytest

from bids_layout.query import QueryError
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
