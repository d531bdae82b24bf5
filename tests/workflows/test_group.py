import csv

import pytest

from bids_layout.query import QueryError
from demist_app.workflows.group import join_tables

HEADER = 'region\tvolume_ml\tpsr_mean\tpsr_sd\tpsr_median\tsynthsd_mean\n'


def add(out, unit, rows):
    folder = out / unit.replace('_', '/') / 'anat'
    folder.mkdir(parents=True)
    (folder / f'{unit}_desc-synth_psr.tsv').write_text(HEADER + rows)


def test_tables_are_joined_by_unit(tmp_path):
    add(tmp_path, 'sub-02', 'WM\t500.5\t11.25\t1\t11\t1.5\n')
    add(tmp_path, 'sub-01_ses-A', 'WM\t400\t10\t1\t10\t1.5\nlesions\t0\tn/a\tn/a\tn/a\tn/a\n')
    with join_tables(tmp_path).open() as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert [(row['participant_id'], row['session_id'], row['region']) for row in rows] == [
        ('sub-01', 'ses-A', 'WM'),
        ('sub-01', 'ses-A', 'lesions'),
        ('sub-02', 'n/a', 'WM'),
    ]
    assert rows[1]['psr_mean'] == 'n/a'
    assert float(rows[2]['psr_mean']) == 11.25


def test_nothing_to_join_says_what_to_do(tmp_path):
    with pytest.raises(QueryError, match='run the participant level first'):
        join_tables(tmp_path)
