"""Whole runs under SLURM: what the scripts do, and what remains when the scheduler ends a job."""

import signal
import subprocess
import time

import pandas as pd
import psutil
import pytest

pytestmark = pytest.mark.slurm
LINEAR = ('--model', 'linear')
UNITS = {f'sub-0{number}_ses-01' for number in range(1, 5)}


def held_up(place, step):
    """Stop the worker that comes to a step, as if the step took for ever; return it."""

    def find():
        for process in psutil.process_iter():
            try:
                cwd = process.cwd()
            except psutil.Error:
                continue
            if cwd.startswith(str(place.work)) and step in cwd:
                return process
        return None

    worker = place.until(find, 120)
    worker.send_signal(signal.SIGSTOP)
    return worker


def test_an_array_runs_the_cohort_and_its_results_are_joined(finished):
    place = finished
    runs = place.runs()
    assert len(runs) == 4, place.printed()
    assert {unit: row['status'] for run in runs for unit, row in run.items()} == dict.fromkeys(
        UNITS, 'done'
    ), place.printed()
    table = pd.read_csv(place.out / 'group_psr.tsv', sep='\t')
    assert set(table['participant_id']) == {'sub-01', 'sub-02', 'sub-03', 'sub-04'}
    assert {path.stem for path in place.out.glob('sub-*.html')} == UNITS


def test_the_scheduler_ends_jobs_and_a_resubmission_goes_on(place):
    """One job reaches its time limit, another is cancelled; meanwhile a third run comes along."""
    place.write('participant', *LINEAR)
    late = place.submit('--array=1', '--time=1', script='participants')[0]
    held_up(place, 'sub_01_ses_01_wf/anat_preproc_wf/brain_mask')
    cancelled = place.submit('--array=2', script='participants')[0]
    held_up(place, 'sub_02_ses_01_wf/anat_preproc_wf/brain_mask')

    third = subprocess.run(
        place.command('participant', *LINEAR, '--participant-label', '01', '--clean-workdir'),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert third.returncode == 1
    assert 'another run is working on it' in third.stdout + third.stderr
    assert (place.work / 'demist_wf' / 'sub_01_ses_01_wf').exists()

    since = time.monotonic()
    place.say('scancel', cancelled)
    place.ended(cancelled)
    assert time.monotonic() - since < 10  # SLURM would kill after 30
    place.ended(late, seconds=150)
    assert 'DUE TO TIME LIMIT' in place.printed()
    first, second, refused = place.runs()
    assert first['sub-01_ses-01']['status'] == 'interrupted', place.printed()
    assert second['sub-02_ses-01']['status'] == 'interrupted', place.printed()
    assert 'run the same command again' in first['sub-01_ses-01']['reason']
    assert refused['sub-01_ses-01']['status'] == 'refused'

    place.ended(*place.submit('--array=1-2', script='participants'))
    *_, one, other = place.runs()
    again = {unit: row['status'] for unit, row in (one | other).items()}
    assert again == {'sub-01_ses-01': 'done', 'sub-02_ses-01': 'done'}, place.printed()
    for log in sorted(place.out.glob('logs/2*/demist.log'))[-2:]:
        text = log.read_text()
        assert 'Executing "brain_mask"' in text
        assert 'Executing "check_inputs"' not in text
