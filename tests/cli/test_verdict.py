import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from demist_app.cli.verdict import (
    ALL_DONE,
    SOME_FAILED,
    Outcome,
    by_unit,
    exit_code,
    read_crashes,
    sentence,
    to_tsv,
)
from demist_app.engine.failures import Failure

outcomes = st.builds(
    Outcome,
    unit=st.text(),
    status=st.sampled_from(['done', 'failed', 'skipped', 'interrupted']),
    seconds=st.none() | st.floats(0, 1e6),
    reason=st.text(),
)


@given(st.lists(outcomes, max_size=5))
def test_table_sentence_and_exit_code_agree(found):
    table = list(csv.DictReader(io.StringIO(to_tsv(found)), delimiter='\t'))
    assert [row['status'] for row in table] == [outcome.status for outcome in found]
    bad = sum(outcome.status in ('failed', 'interrupted') for outcome in found)
    assert exit_code(found) == (SOME_FAILED if bad else ALL_DONE)
    words = sentence(found)
    assert ('failed' in words or 'interrupted' in words) == bool(bad)
    assert f'{len(found)} unit' in words


def test_failures_are_sorted_by_the_branch_they_happened_in():
    failures = [
        Failure(f'demist_wf.sub_{label}_wf.anat_preproc_wf.bias', None, 'm', 't', None, ())
        for label in ('01', '011', '01')
    ]
    found = by_unit(failures, {'sub_01_wf': 'sub-01', 'sub_011_wf': 'sub-011'})
    assert {label: len(items) for label, items in found.items()} == {'sub-01': 2, 'sub-011': 1}


def test_crash_files_of_other_plugins_are_read(tmp_path):
    (tmp_path / 'crash-20260101-000000-user-bias-1.txt').write_text(
        'Node: demist_wf.sub_01_wf.bias\nWorking directory: /work\n\nNode inputs:\n\nimage = a\n'
        'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: too bad\n'
    )
    (crash,) = read_crashes(tmp_path)
    assert crash.node == 'demist_wf.sub_01_wf.bias'
    assert 'too bad' in crash.message
