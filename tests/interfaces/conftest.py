"""Volumes that a unit of the group level has."""

import numpy as np
import pytest

from demist_app.imaging.volumes import save_volume

SHAPE = (24, 32, 16)


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """Noise in a box of brain, three of whose voxels were not measured."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    brain = np.zeros(SHAPE, bool)
    brain[4:20, 4:28, 2:14] = True
    mask = brain.copy()
    mask[4, 4, 2:5] = False
    arrays = {
        't1w': rng.random(SHAPE) * brain,
        'flair': rng.random(SHAPE) * brain,
        'psr': rng.random(SHAPE) * 15 * mask,
        'synthetic': rng.random(SHAPE) * 15 * brain,
        'sd': 1 + 5 * rng.random(SHAPE) * brain,
        'mask': mask,
        'brain': brain,
        'tissue': np.where(np.arange(SHAPE[0]) < 12, 2, 3)[:, None, None] * brain,
        'lesions': brain & (np.indices(SHAPE)[0] == 16),
    }
    for name, array in arrays.items():
        data = array.astype(np.float32 if array.dtype == float else np.uint8)
        save_volume(data, np.eye(4), tmp_path / f'{name}.nii')
    return arrays
