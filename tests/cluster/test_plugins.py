"""nipype's own plugins for SLURM, which submit a job for every step."""

import json
import subprocess
from dataclasses import replace

import pytest

pytestmark = pytest.mark.slurm


@pytest.fixture
def place(place):
    return replace(place, name="out of 'x'")  # nipype's plugins pass no "%" on


def run(place, plugin, *options):
    file = place.root / f'{plugin}.json'
    file.write_text(json.dumps({'plugin': plugin, 'plugin_args': {'sbatch_args': '--time=10'}}))
    command = place.command(
        'participant', '--model', 'linear', '--participant-label', '01', '--use-plugin', str(file)
    )
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_killed_step_fails_its_unit_and_the_other_plugin_goes_on(place):
    process = run(place, 'SLURM')

    def job_at(step):
        jobs = place.say('squeue', '--noheader', '--states=R', '--format=%i %j').splitlines()
        return next((job.split()[0] for job in jobs if job.split()[1].startswith(step)), None)

    place.say('scancel', place.until(lambda: job_at('bias_t1w'), 120))
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1, text
    (row,) = place.runs()[-1].values()
    assert row['status'] == 'failed'
    assert row['step'] == 'anat_preproc_wf.bias_t1w'
    assert 'SLURM ended the job of this step' in row['reason']

    process = run(place, 'SLURMGraph')
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    (row,) = place.runs()[-1].values()
    assert row['status'] == 'done'
    assert (place.out / 'sub-01_ses-01.html').exists()
    assert not place.say('squeue', '--noheader')


def test_a_stopped_run_takes_its_jobs_along(place):
    process = run(place, 'SLURMGraph')
    place.until(lambda: place.say('squeue', '--noheader'), 120)
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 143, text
    place.until(lambda: not place.say('squeue', '--noheader'), 60)
    (row,) = place.runs()[-1].values()
    assert row['status'] == 'interrupted'
