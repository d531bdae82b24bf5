import json

import numpy as np
import pytest

from demist_app.evaluation.metrics import score
from demist_app.imaging.volumes import InputError, save_volume
from demist_app.interfaces.examples import ScoreOutOfFold, WriteExample
from demist_app.training.examples import read_examples

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
        'mask': mask,
        'brain': brain,
    }
    for name, array in arrays.items():
        data = array.astype(np.uint8 if array.dtype == bool else np.float32)
        save_volume(data, np.eye(4), tmp_path / f'{name}.nii')
    return arrays


def test_an_example_holds_what_was_measured_and_where_its_images_lie(volumes, tmp_path):
    names = ('t1w', 'flair', 'psr', 'mask', 'brain')
    outputs = WriteExample(
        **{name: str(tmp_path / f'{name}.nii') for name in names},
        native_brain=str(tmp_path / 'brain.nii'),
        name='sub-1_ses-A', participant='sub-1', group='patient', warnings=['look at it'],
    ).run().outputs  # fmt: skip
    (example,) = read_examples(tmp_path / 'store')
    assert (example.name, example.participant, example.group) == ('sub-1_ses-A', 'sub-1', 'patient')
    inside = (slice(4, 28), slice(0, 32), slice(0, 16))  # padded from 24 to 32 along the first axis
    assert example.mask.shape == (32, 32, 16)
    np.testing.assert_allclose(example.images[0, 0][inside], volumes['t1w'], atol=1e-3)
    np.testing.assert_allclose(example.images[0, 1][inside], volumes['flair'], atol=1e-3)
    np.testing.assert_allclose(example.psr[inside], volumes['psr'], atol=1e-2)
    assert np.array_equal(example.mask[inside] > 0, volumes['mask'])
    prepared = json.loads((tmp_path / 'prepared.json').read_text())
    assert outputs.prepared == str(tmp_path / 'prepared.json')
    assert prepared['warnings'] == ['look at it']
    assert {name: prepared['files'][name] for name in names} == {n: f'{n}.nii' for n in names}


def scored(tmp_path):
    node = ScoreOutOfFold(
        synthetic=str(tmp_path / 'synthetic.nii'),
        measured=str(tmp_path / 'psr.nii'),
        mask=str(tmp_path / 'mask.nii'),
        measured_source='bids:qmt:x',
        method='unet',
        fold=2,
        n_splits=3,
        meta={'Description': 'a map', 'Units': 'percent'},
    )
    return node.run().outputs.meta


def test_scores_are_those_of_the_voxels_that_were_measured(volumes, tmp_path):
    meta = scored(tmp_path)
    psr, synthetic = (volumes[name].astype(np.float32) for name in ('psr', 'synthetic'))
    expected = score(synthetic, psr, volumes['mask'])
    assert meta['Scores']['PSNR'] == pytest.approx(expected.psnr, abs=1e-3)
    assert meta['Scores']['MSE'] == pytest.approx(10 ** (-expected.psnr / 10), rel=1e-3)
    assert meta['Scores']['SSIM'] == pytest.approx(expected.ssim, abs=1e-3)
    assert meta['Scores']['MAE'] == pytest.approx(expected.mae, abs=1e-3)
    assert meta['Scores']['NCC'] == pytest.approx(expected.ncc, abs=1e-3)
    assert meta['Method'] == 'unet'
    assert (meta['Fold'], meta['Measured'], meta['Units']) == (2, 'bids:qmt:x', 'percent')
    assert '(fold 2 of 3)' in meta['Description']
    assert 'synthetic, not measured' in meta['Description']


def test_a_constant_map_has_no_correlation(volumes, tmp_path):
    save_volume(np.full_like(volumes['psr'], 7, np.float32), np.eye(4), tmp_path / 'synthetic.nii')
    meta = scored(tmp_path)
    assert meta['Scores']['NCC'] is None
    assert 'NaN' not in json.dumps(meta)


def test_a_map_without_numbers_fails(volumes, tmp_path):
    broken = volumes['synthetic'].astype(np.float32)
    broken[10, 10, 10] = np.nan
    save_volume(broken, np.eye(4), tmp_path / 'synthetic.nii')
    with pytest.raises(InputError, match=r'the model of fold 2 \(unet\) gives no numbers'):
        scored(tmp_path)
