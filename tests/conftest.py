"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def real_data() -> Path:
    """Folder of real scans that are not part of the repository; skips where it is absent."""
    folder = Path(os.environ.get('DEMIST_TEST_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not (folder / 'openms').is_dir():
        pytest.skip('no real scans here (set DEMIST_TEST_DATA)')
    return folder
