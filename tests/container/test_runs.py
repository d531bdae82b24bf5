"""Runs in the container: as anyone types it, locked in, stopped, short of memory."""

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from running import COMMAND, Run

pytestmark = pytest.mark.container

SUMMARY = 'sub-01/ses-01/figures/sub-01_ses-01_desc-summary_psr.json'
STRICT = (
    '--network=none', '--user=1234:1234', '--read-only', '--tmpfs=/tmp', '--cap-drop=ALL',
    '--security-opt=no-new-privileges',
)  # fmt: skip
# podman alone gives an unknown user a passwd entry and makes more than /tmp writable
PODMAN_STRICT = ('--passwd=false', '--read-only-tmpfs=false')
PATIENCE = 5  # seconds between docker stop's SIGTERM and its SIGKILL
ENOUGH_FOR_2_MM = '1400m'


def digests(out: Path) -> dict[str, str]:
    """Return the sha256 of every result; the summary names its run, and is compared without."""
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob('sub-*/**/*'))
        if path.is_file()
    }
    summary = json.loads((out / SUMMARY).read_text())
    del summary['provenance']['Run']
    return found | {SUMMARY: json.dumps(summary)}


def test_the_default_run_leaves_a_report_and_the_map(default_run):
    assert default_run.status['sub-01_ses-01']['status'] == 'done'
    assert (default_run.out / 'sub-01_ses-01.html').is_file()
    assert any(name.endswith('desc-synth_PSRmap.nii.gz') for name in digests(default_run.out))
    description = json.loads((default_run.out / 'dataset_description.json').read_text())
    assert description['GeneratedBy'][0]['Container'] == {'Type': 'docker'}


def test_the_same_bits_as_outside_the_container(default_run, phantom, quick, tmp_path):
    out = tmp_path / 'out'
    command = [*COMMAND, phantom, out, 'participant', '-w', tmp_path / 'work', *quick]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(out) == digests(default_run.out)


def test_any_user_without_network_root_or_capabilities(
    image, phantom, quick, tmp_path, default_run
):
    (tmp_path / 'out').mkdir(mode=0o777)
    (tmp_path / 'out').chmod(0o777)  # whatever the umask
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob('*')}
    strict = STRICT + (PODMAN_STRICT if Path(image.engine).name == 'podman' else ())
    run = image.demist(phantom, tmp_path, *quick, options=strict)
    assert run.code == 0, run.text
    assert {path.stat().st_uid for path in run.out.rglob('*')} == {1234}
    assert {path: path.stat().st_mtime_ns for path in phantom.rglob('*')} == before
    assert digests(run.out) == digests(default_run.out)


def test_stopped_it_ends_soon_and_the_same_command_goes_on(
    image, phantom, quick, tmp_path, default_run
):
    name = f'demist-{time.time_ns()}'
    arguments = (*quick, '-w', '/out/work')
    process = subprocess.Popen(
        image.participant(phantom, tmp_path, *arguments, options=('--name', name)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    text = ''
    for line in process.stdout:
        text += line
        if 'FLAIR to T1w' in line:
            break
    stop = [image.engine, 'stop', '-t', str(PATIENCE), name]
    subprocess.run(stop, capture_output=True, check=False)
    text += process.communicate(timeout=60)[0]
    # SIGKILL, which follows when patience ends, would give 137
    assert process.returncode == 128 + signal.SIGTERM, text
    out = tmp_path / 'out'
    assert Run(out, out / 'work', 143, text).status['sub-01_ses-01']['status'] == 'interrupted'
    assert not list(out.glob('sub-*/**/.*'))
    assert not list(out.glob('logs/*/staging'))

    again = image.demist(phantom, tmp_path, *arguments)
    assert again.code == 0, again.text
    assert 'Executing "check_inputs"' not in (again.log_dir / 'demist.log').read_text()
    assert digests(out) == digests(default_run.out)


@pytest.fixture
def limited(image) -> tuple[str, ...]:
    """Options that limit the memory; skips where the engine cannot."""
    options = (f'--memory={ENOUGH_FOR_2_MM}', f'--memory-swap={ENOUGH_FOR_2_MM}')
    files = '/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes'
    done = subprocess.run(
        image.command('-c', f'cat {files} 2>&1', options=(*options, '--entrypoint', 'sh')),
        capture_output=True,
        text=True,
        check=False,
    )
    if str(1400 * 2**20) not in done.stdout.splitlines():
        pytest.skip(f'{image.engine} does not limit memory here: {done.stdout}{done.stderr}')
    return options


def enlarge(t1w: Path, factor: int) -> None:
    """Give a scan smaller voxels."""
    scan = nb.load(t1w)
    data = np.asanyarray(scan.dataobj)
    for axis in range(3):
        data = np.repeat(data, factor, axis)
    affine = scan.affine @ np.diag([1 / factor] * 3 + [1])
    nb.save(nb.Nifti1Image(data, affine), t1w.with_suffix(''))
    t1w.unlink()


def test_too_little_memory_fails_the_unit_that_needs_more(image, phantom, tmp_path, limited):
    bids = tmp_path / 'bids'
    subprocess.run(['cp', '-r', phantom, bids], check=True)
    enlarge(next(bids.glob('sub-02/ses-01/anat/*_T1w.nii.gz')), 4)
    run = image.demist(
        bids, tmp_path, '--sloppy', '--model', 'linear', '--nprocs', '1', options=limited
    )
    assert run.code == 1, run.text
    assert '1.3 GB' in run.text  # nine tenths of the limit
    assert run.status['sub-01_ses-01']['status'] == 'done'
    row = run.status['sub-02_ses-01']
    assert row['status'] == 'failed'
    assert 'killed by signal 9: most likely out of memory; rerun with --low-mem' in row['reason']
    assert 'killed by signal 9' in (run.out / 'sub-02_ses-01.html').read_text()
    assert 'demist ended: 2 units: 1 done, 1 failed' in run.text
