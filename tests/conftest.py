"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

from demist_app.model.bundle import Bundle, find_bundle, load_bundle, write_bundle
from demist_app.model.presets import load_preset

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def real_data() -> Path:
    """Folder of real scans that are not part of the repository; skips where it is absent."""
    folder = Path(os.environ.get('DEMIST_TEST_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not (folder / 'openms').is_dir():
        pytest.skip('no real scans here (set DEMIST_TEST_DATA)')
    return folder


@pytest.fixture(scope='session')
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A diffusion model whose maps look like nothing, but are made like any other."""
    # not for the tests that need no torch
    import torch

    from demist_app.model.demist import Demist

    torch.manual_seed(0)
    preset = load_preset('tiny')
    metadata = {
        'name': 'untrained',
        'network': 'demist',
        'version': '1',
        'description': 'a model that was never trained.',
        'training_data': 'nothing',
        'preset': preset.as_dict(),
        'intensity_reference': load_bundle(find_bundle('linear')).metadata['intensity_reference'],
    }
    folder = tmp_path_factory.mktemp('models') / 'untrained'
    return write_bundle(folder, metadata, Demist(preset).tensors(), '# card')
