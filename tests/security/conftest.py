"""One small head, to be wrapped in hostile names and files."""

import shutil
from pathlib import Path

import pytest

from demist_app.phantom.cohort import write_cohort


@pytest.fixture(scope='session')
def head(tmp_path_factory) -> Path:
    """One participant at 2 mm; tests copy it before they change it."""
    out = tmp_path_factory.mktemp('head') / 'bids'
    write_cohort(out, 1, seed=5, resolution=2.0)
    shutil.rmtree(out / 'derivatives')
    return out


@pytest.fixture
def bids(head, tmp_path) -> Path:
    return Path(shutil.copytree(head, tmp_path / 'bids'))
