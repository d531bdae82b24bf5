"""A small phantom cohort, and one finished run over it."""

import shutil
from pathlib import Path

import pytest
from running import Run, demist

from demist_app.phantom.cohort import write_cohort


@pytest.fixture(scope='session')
def phantom(tmp_path_factory) -> Path:
    """Four participants at 2 mm; tests copy it before they change it."""
    out = tmp_path_factory.mktemp('phantom') / 'bids'
    return write_cohort(out, 4, seed=5, resolution=2.0, nprocs=2)


@pytest.fixture
def cohort(phantom, tmp_path) -> Path:
    """Participants 01 and 02 alone, to be changed by a test."""
    out = tmp_path / 'bids'
    for path in phantom.iterdir():
        if path.is_file():
            out.mkdir(exist_ok=True)
            shutil.copy(path, out)
    for label in ('01', '02'):
        shutil.copytree(phantom / f'sub-{label}', out / f'sub-{label}')
    lines = (phantom / 'participants.tsv').read_text().splitlines()
    kept = [line for line in lines if not line.startswith(('sub-03', 'sub-04'))]
    (out / 'participants.tsv').write_text('\n'.join(kept) + '\n')
    return out


@pytest.fixture(scope='session')
def finished(phantom, tmp_path_factory) -> Run:
    """One complete run over the first two participants, for all who only look."""
    folder = tmp_path_factory.mktemp('finished')
    run = demist(
        phantom, folder, '--participant-label', '01', 'sub-02', '--resource-monitor',
        '-d', f'qmt={phantom / "derivatives/qmt"}', f'phantom={phantom / "derivatives/phantom"}',
    )  # fmt: skip
    assert run.code == 0, run.text
    return run
