"""One run over a data set that wants to do harm, kept as DataLad keeps it."""

import gzip
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import IMAGE, SCRIPT, browse, foreign
from running import COMMAND, Run, demist

HOSTILE = f'"{IMAGE}{SCRIPT}'
SECRETS = {
    'GITHUB_TOKEN': 'hunter2-token',
    'AWS_SECRET_ACCESS_KEY': 'hunter2-key',
    'DB_PASSWORD': 'hunter2-word',
    'https_proxy': 'http://me:hunter2-proxy@localhost:9',
}
SIDECAR = {
    'MagneticFieldStrength': HOSTILE,
    'SkullStripped': HOSTILE,
    'Manufacturer': HOSTILE,
    HOSTILE: [HOSTILE, {HOSTILE: None}],
}


def annex(bids: Path, scan: Path) -> Path:
    """Move a scan's content where git-annex keeps it and leave a link; return the content."""
    content = bids / '.git/annex/objects/x1/Y2/MD5E-s1--0' / scan.name
    content.parent.mkdir(parents=True, exist_ok=True)
    scan.replace(content)
    content.chmod(0o444)
    scan.symlink_to(os.path.relpath(content, scan.parent))
    return content


def scan(bids: Path, label: str, suffix: str) -> Path:
    return bids / f'sub-{label}/ses-01/anat/sub-{label}_ses-01_{suffix}.nii.gz'


def add_copy(bids: Path, label: str) -> None:
    """Copy participant 01 under another label."""
    anat = Path(shutil.copytree(bids / 'sub-01/ses-01/anat', bids / f'sub-{label}/ses-01/anat'))
    for path in list(anat.iterdir()):
        path.rename(anat / path.name.replace('sub-01', f'sub-{label}'))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modification time and content of every file below a folder."""
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope='module')
def bids(head, tmp_path_factory) -> Path:
    """A good participant, one whose scan is broken, one whose scan was never fetched."""
    folder = tmp_path_factory.mktemp('hostile') / IMAGE
    bids = Path(shutil.copytree(head, folder / 'bids'))
    for label in ('broken', 'absent'):
        add_copy(bids, label)
    scan(bids, 'broken', 'FLAIR').write_bytes(HOSTILE.encode())
    annex(bids, scan(bids, '01', 'T1w'))
    annex(bids, scan(bids, 'absent', 'T1w')).unlink()
    (bids / 'sub-01/ses-01/anat/sub-01_ses-01_T1w.json').write_text(json.dumps(SIDECAR))
    rows = ('participant_id\tgroup\tage', f'sub-01\t{HOSTILE}\t{HOSTILE}', 'sub-broken\t<b>\tn/a')
    (bids / 'participants.tsv').write_text('\n'.join(rows))
    description = json.loads((bids / 'dataset_description.json').read_text())
    (bids / 'dataset_description.json').write_text(
        json.dumps(description | {'Name': HOSTILE, 'Authors': [HOSTILE]})
    )
    return bids


@pytest.fixture(scope='module')
def run(bids) -> Run:
    before = contents(bids)
    umask = ('bash', '-c', 'umask 002; exec "$@"', 'bash')
    run = demist(bids, bids.parent, '-vv', env=SECRETS, prefix=umask)
    assert contents(bids) == before
    return run


def test_what_became_of_whom(run, bids):
    assert run.code == 1, run.text
    status = {unit.removesuffix('_ses-01'): row for unit, row in run.status.items()}
    assert status['sub-01']['status'] == 'done'
    assert status['sub-broken']['status'] == 'failed'
    assert status['sub-broken']['reason'].startswith(str(bids))
    assert 'is not a NIfTI file' in status['sub-broken']['reason']
    assert status['sub-absent']['status'] == 'skipped'
    assert 'datalad get' in status['sub-absent']['reason']


@pytest.mark.parametrize('unit', ['sub-01_ses-01', 'sub-broken_ses-01'])
def test_reports_hold_no_script_of_the_data_set(run, unit, tmp_path):
    document = browse(run.out / f'{unit}.html', tmp_path / 'profile')
    assert f'<title>{unit}' in document
    assert foreign(document) == []


def test_the_page_of_the_cohort_holds_none_either(run, bids, tmp_path):
    """Its groups come from participants.tsv."""
    shutil.copytree(run.out, tmp_path / 'out')
    command = [*COMMAND, bids, tmp_path / 'out', 'group', '--aggregate', '-w', tmp_path / 'work']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    document = browse(tmp_path / 'out/group.html', tmp_path / 'profile')
    assert '<title>pwned' not in document
    assert foreign(document) == []


def test_the_broken_report_shows_where_the_scan_lies(run):
    assert '&lt;img src=x onerror=' in (run.out / 'sub-broken_ses-01.html').read_text()


def files(run: Run) -> Iterator[Path]:
    for folder in (run.out, run.work):
        yield from (path for path in folder.rglob('*') if not path.is_symlink())


def test_nobody_else_can_write_and_the_group_can(run):
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in files(run)}
    assert not [path for path, mode in modes.items() if mode & stat.S_IWOTH]
    assert not [path for path, mode in modes.items() if not mode & stat.S_IWGRP]


def test_no_secret_is_written_down(run):
    """As nipype would: the environment of each step, in reports and compressed pickles."""
    assert 'hunter2' not in run.text
    for path in files(run):
        if path.is_file():
            content = path.read_bytes()
            if content[:2] == b'\x1f\x8b':
                content = gzip.decompress(content)
            assert b'hunter2' not in content, path
