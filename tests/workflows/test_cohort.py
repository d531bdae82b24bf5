import dataclasses

import pytest

from bids_layout.query import QueryError
from demist_app.workflows.cohort import STATUSES, find_traces

LATER = '20260102-100000_later'
WM = {'WM': 11.0}
HEADER = 'region\tvolume_ml\tpsr_mean\tpsr_sd\tpsr_median\tsynthsd_mean'


def statuses(cohort, **labels):
    inputs = dataclasses.replace(cohort.inputs, **labels)
    found = find_traces(inputs)
    assert {trace.status for trace in found} <= set(STATUSES)
    return {trace.label: trace.status for trace in found}


def test_every_unit_that_anything_knows_has_a_status(cohort):
    for folder in ('sub-01/anat', 'sub-2/anat', 'sub-10/ses-A/anat', 'sub-10/ses-B'):
        (cohort.bids / folder).mkdir(parents=True)
    cohort.add('sub-01', WM)
    cohort.end_run(sub01='done', sub03_sesA='skipped: no FLAIR')
    found = find_traces(cohort.inputs)
    assert {trace.label: trace.status for trace in found} == {
        'sub-01': 'done',
        'sub-2': 'not started',
        'sub-03_ses-A': 'skipped',
        'sub-10_ses-A': 'not started',
        'sub-10_ses-B': 'not started',
    }
    assert [trace.label for trace in found][-1] == 'sub-10_ses-B'  # natural order
    assert found[0].medians == {'WM': 11.0}
    assert found[0].report == 'sub-01.html'


def test_the_last_run_counts(cohort):
    cohort.add('sub-01', WM)
    cohort.end_run(sub01='done', sub02='failed: no brain')
    cohort.end_run(LATER, sub01='failed: disk full')
    traces = {trace.label: trace for trace in find_traces(cohort.inputs)}
    assert (traces['sub-01'].status, traces['sub-01'].reason) == ('failed', 'disk full')
    assert traces['sub-01'].step == 'wf.step'
    assert traces['sub-01'].table is None  # of another run than the one that failed
    assert traces['sub-02'].reason == 'no brain'


def test_a_unit_that_a_run_finished_before_it_ended_is_done(cohort):
    cohort.end_run(sub01='failed: no brain')
    cohort.end_run(LATER)
    cohort.add('sub-01', WM, run=LATER)
    assert statuses(cohort) == {'sub-01': 'done'}


def test_a_run_without_an_end_leaves_units_unfinished(cohort):
    (cohort.bids / 'sub-01' / 'anat').mkdir(parents=True)
    cohort.end_run(LATER)
    assert statuses(cohort) == {'sub-01': 'unfinished'}


def test_maps_without_summary_are_of_an_earlier_run(cohort):
    cohort.add('sub-01', WM)
    cohort.end_run(sub01='done')
    next(cohort.out.rglob('*summary_psr.json')).unlink()  # as a run does when it begins
    (trace,) = find_traces(cohort.inputs)
    assert (trace.status, trace.table, trace.report) == ('unfinished', None, '')
    assert 'run the participant level again' in trace.reason


def test_an_anatomical_run_is_done_without_the_values_of_an_earlier_one(cohort):
    cohort.add('sub-01', WM)
    cohort.add('sub-01')
    (trace,) = find_traces(cohort.inputs)
    assert (trace.status, trace.table, trace.medians) == ('done', None, {})


def test_group_level_runs_do_not_judge(cohort):
    cohort.add('sub-01', WM)
    cohort.end_run(LATER, level='group', sub01='failed: training')
    assert statuses(cohort) == {'sub-01': 'done'}


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('*summary_psr.json', '{'),
        ('*summary_psr.json', '[]'),
        ('*_psr.tsv', ''),
        ('*_psr.tsv', 'region\tpsr_median\nWM\t1\n'),
        ('*_psr.tsv', f'{HEADER}\nWM\tx\tx\tx\tx\tx\n'),
        ('*PSRmap.json', 'null'),
        ('*PSRmap.json', None),
    ],
)  # fmt: skip
def test_damaged_files_are_said_and_hurt_one_unit(cohort, name, content):
    cohort.add('sub-01', WM)
    path = next(cohort.out.rglob(name))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    cohort.add('sub-02', WM)
    first, second = find_traces(cohort.inputs)
    assert (first.status, second.status) == ('unfinished', 'done')
    assert 'damaged' in first.reason


def test_labels_narrow_the_cohort(cohort):
    for label in ('sub-01_ses-A', 'sub-01_ses-B', 'sub-02_ses-A'):
        cohort.add(label, WM)
    assert set(statuses(cohort, participant_label=('01',))) == {'sub-01_ses-A', 'sub-01_ses-B'}
    assert set(statuses(cohort, session_label=('A',))) == {'sub-01_ses-A', 'sub-02_ses-A'}


@pytest.mark.parametrize('content', ['', '[]', '{"inputs": {}}'])
def test_a_damaged_log_is_named(cohort, content):
    cohort.end_run()
    (cohort.out / 'logs' / '20260101-100000_first' / 'settings.json').write_text(content)
    with pytest.raises(QueryError, match='20260101-100000_first is a damaged log'):
        find_traces(cohort.inputs)
