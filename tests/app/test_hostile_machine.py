"""Killed workers, full disks, no network, no HOME."""

import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest
from running import Run, arguments, demist

IN_A_NAMESPACE = ('unshare', '--map-root-user')


def namespace(*kinds: str) -> tuple[str, ...]:
    """Return a command prefix for new namespaces; skip where the kernel forbids them."""
    prefix = (*IN_A_NAMESPACE, *kinds)
    if not shutil.which('unshare') or subprocess.run([*prefix, 'true'], check=False).returncode:
        pytest.skip(f'this machine does not allow {" ".join(prefix)}')
    return prefix


def wait_for(what, process, seconds=300):
    """Wait until `what()` is true while the process runs."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, 'the run ended too early'
        assert time.monotonic() < end, 'nothing happened'
        time.sleep(0.02)
    return found


def worker_in(process, step):
    """Return the worker process that is at a step."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if step in child.cwd():
                return child
        except psutil.Error:
            continue
    return None


def start(bids, folder, *options):
    return subprocess.Popen(
        arguments(bids, folder, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_worker_fails_its_unit_only_and_a_rerun_mends_it(cohort, tmp_path):
    process = start(cohort, tmp_path)
    worker = wait_for(lambda: worker_in(process, 'sub_01_ses_01_wf/anat_preproc_wf/bias'), process)
    worker.send_signal(signal.SIGKILL)
    text, _ = process.communicate(timeout=600)
    run = Run(tmp_path / 'out', tmp_path / 'work', process.returncode, text)
    assert run.code == 1
    assert run.status['sub-02_ses-01']['status'] == 'done', text
    row = run.status['sub-01_ses-01']
    assert row['status'] == 'failed'
    assert 'bias' in row['step']
    assert 'killed by signal 9: most likely out of memory' in row['reason']
    assert '--low-mem' in row['reason']
    assert 'killed by signal 9' in (run.out / 'sub-01_ses-01.html').read_text()

    again = demist(cohort, tmp_path)
    assert again.code == 0, again.text
    assert 'killed by signal 9' not in (run.out / 'sub-01_ses-01.html').read_text()


def test_sigterm_ends_the_run_soon_and_it_can_go_on(cohort, tmp_path):
    process = start(cohort, tmp_path)
    wait_for(lambda: worker_in(process, 'anat_preproc_wf/register_flair'), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not psutil.wait_procs(children, timeout=30)[1]
    run = Run(tmp_path / 'out', tmp_path / 'work', process.returncode, text)
    assert {row['status'] for row in run.status.values()} == {'interrupted'}
    again = demist(cohort, tmp_path)
    assert again.code == 0, again.text
    assert 'Cached "check_inputs"' in (again.log_dir / 'demist.log').read_text() or (
        'Executing "check_inputs"' not in (again.log_dir / 'demist.log').read_text()
    )


def test_no_network_no_home_and_an_unknown_user(cohort, tmp_path):
    """Under /proc not even root can make a folder."""
    run = demist(
        cohort, tmp_path, '--participant-label', '01',
        prefix=namespace('--net'),
        env={'HOME': '/proc/no-home', 'XDG_CACHE_HOME': '', 'TEMPLATEFLOW_HOME': '', 'USER': ''},
    )  # fmt: skip
    assert run.code == 0, run.text


def test_a_full_output_disk_fails_with_a_remedy_and_leaves_nothing_half_written(cohort, tmp_path):
    (tmp_path / 'out').mkdir()
    script = f'mount -t tmpfs -o size=3m none {tmp_path}/out && "$@"; code=$?; ' \
        f'cp -r {tmp_path}/out {tmp_path}/seen; exit $code'  # fmt: skip
    run = demist(cohort, tmp_path, prefix=(*namespace('--mount'), 'bash', '-c', script, 'bash'))
    assert run.code == 1, run.text
    seen = Run(tmp_path / 'seen', tmp_path / 'work', run.code, run.text)
    assert 'no space left' in run.text.lower()
    import nibabel as nb

    for path in seen.out.rglob('*.nii.gz'):
        if 'staging' not in path.parts:
            assert nb.load(path).get_fdata().size  # whole: a cut file raises


def test_an_output_folder_that_cannot_be_written(cohort, tmp_path):
    parent = tmp_path / 'file'
    parent.write_text('')
    run = subprocess.run(
        [*arguments(cohort, tmp_path)[:4], str(parent / 'out'), 'participant'],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'PWD': str(tmp_path)},
        cwd=tmp_path,
    )
    assert run.returncode == 2, run.stderr
    assert str(parent) in run.stderr
