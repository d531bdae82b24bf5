import json

import numpy as np
import pytest

from demist_app.evaluation.calibration import coverage
from demist_app.evaluation.lesions import Pair
from demist_app.evaluation.metrics import score
from demist_app.imaging.volumes import InputError, save_volume
from demist_app.interfaces.lesions import DescribeLesions, FindLesionPairs, load_pairs
from demist_app.interfaces.scoring import ScoreOutOfFold


def scored(tmp_path, **more):
    names = ('synthetic', 'mask', 'tissue', 'lesions', 't1w', 'flair')
    node = ScoreOutOfFold(
        **{name: str(tmp_path / f'{name}.nii') for name in names},
        **more,
        measured=str(tmp_path / 'psr.nii'),
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


def test_regions_are_compared_where_they_were_measured(volumes, tmp_path):
    regions = scored(tmp_path)['Regions']
    assert list(regions) == ['GM', 'WM', 'lesions', 'NAWM']  # no CSF here
    grey = (volumes['tissue'] == 2) & volumes['mask']
    assert grey.sum() == ((volumes['tissue'] == 2) & volumes['brain']).sum() - 3
    assert regions['GM'] == {
        'Volume': grey.sum() / 1000,
        'Synthetic': pytest.approx(volumes['synthetic'][grey].mean(), abs=1e-4),
        'Measured': pytest.approx(volumes['psr'][grey].mean(), abs=1e-4),
    }
    assert regions['lesions']['Volume'] == pytest.approx(24 * 12 / 1000)
    assert regions['NAWM']['Volume'] == pytest.approx(regions['WM']['Volume'] * 5 / 8)


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


def in_box(tmp_path, start, size):
    """Find the pairs of a cube of lesion in a box that is white matter and was measured."""
    box = np.zeros((48, 40, 32), np.uint8)
    box[4:44, 4:36, 4:28] = 1
    lesions = np.zeros_like(box)
    lesions[tuple(slice(s, s + size) for s in start)] = 1
    rng = np.random.default_rng(0)
    save_volume(3 * box, np.eye(4), tmp_path / 'white.nii')
    save_volume(lesions, np.eye(4), tmp_path / 'cube.nii')
    save_volume((rng.random(box.shape) * box).astype(np.float32), np.eye(4), tmp_path / 'box.nii')
    save_volume(box * (np.indices(box.shape)[2] < 20), np.eye(4), tmp_path / 'seen.nii')
    node = FindLesionPairs(
        t1w=str(tmp_path / 'box.nii'), brain=str(tmp_path / 'white.nii'),
        measured=str(tmp_path / 'seen.nii'), tissue=str(tmp_path / 'white.nii'),
        lesions=str(tmp_path / 'cube.nii'),
    )  # fmt: skip
    return load_pairs(node.run().outputs.pairs), box.shape


def test_lesions_are_paired_where_they_were_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((pair,), shape) = in_box(tmp_path, (10, 12, 16), 4)
    assert len(pair.lesion) == len(pair.proximal) == 64
    for part in (pair.lesion, pair.proximal, pair.distal):
        assert np.unravel_index(part, shape)[2].max() < 20
    # the mirror image lies on the other side of the middle
    assert np.unravel_index(pair.distal, shape)[0].min() > 24


def test_without_lesions_there_are_no_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert in_box(tmp_path, (10, 12, 16), 2)[0] == []  # too small
    empty = in_box(tmp_path, (10, 12, 16), 0)[0]
    assert empty == []


def test_lesions_and_their_partners_have_means_by_all_maps(volumes, tmp_path, monkeypatch):
    lesion, proximal = np.arange(1000, 1030), np.arange(2000, 2030)
    monkeypatch.setattr(
        'demist_app.interfaces.lesions.load_pairs', lambda _: [Pair(lesion, proximal, None)]
    )
    pairs = scored(tmp_path, pairs=str(tmp_path / 'psr.nii'))['LesionPairs']
    assert pairs['Volume'] == [0.03]
    names = {'Synthetic': 'synthetic', 'Measured': 'psr', 'FLAIR': 'flair', 'T1w': 't1w'}
    for name, volume in names.items():
        ((inside, near, far),) = pairs[name]
        assert inside == pytest.approx(volumes[volume].ravel()[lesion].mean(), abs=1e-4)
        assert near == pytest.approx(volumes[volume].ravel()[proximal].mean(), abs=1e-4)
        assert far is None
        areas = pairs['VoxelAUC'][name]
        lesions, white = (volumes[volume].ravel()[part] for part in (lesion, proximal))
        darker = np.mean(lesions[:, None] < white) + 0.5 * np.mean(lesions[:, None] == white)
        expected = 1 - darker if name == 'FLAIR' else darker
        assert areas['pNAWM'] == areas['combined'] == pytest.approx(expected, abs=1e-4)
        assert areas['dNAWM'] is None
    assert 'NaN' not in json.dumps(pairs)


def test_without_a_measured_map_lesions_are_sought_in_the_whole_brain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_box(tmp_path, (10, 12, 16), 4)
    node = FindLesionPairs(
        t1w=str(tmp_path / 'box.nii'), brain=str(tmp_path / 'white.nii'),
        tissue=str(tmp_path / 'white.nii'), lesions=str(tmp_path / 'cube.nii'),
    )  # fmt: skip
    found = node.run().outputs.pairs
    shape = (48, 40, 32)
    (pair,) = load_pairs(found)
    assert np.unravel_index(pair.proximal, shape)[2].max() >= 20  # beyond what was measured
    rng = np.random.default_rng(1)
    images = {name: rng.random(shape, np.float32) for name in ('synthetic', 't1w', 'flair')}
    for name, image in images.items():
        save_volume(image, np.diag([1, 1, 2, 1]), tmp_path / f'{name}.nii')
    described = DescribeLesions(
        pairs=found, **{name: str(tmp_path / f'{name}.nii') for name in images}
    )
    told = described.run().outputs.lesions
    assert list(told) == ['Volume', 'Synthetic', 'FLAIR', 'T1w', 'VoxelAUC']
    assert told['Volume'] == [0.128]
    for name in ('Synthetic', 'FLAIR', 'T1w'):
        inside, near, far = told[name][0]
        parts = [images[name.lower()].ravel()[part] for part in pair.parts]
        assert [inside, near, far] == pytest.approx([part.mean() for part in parts], abs=1e-4)


def test_what_the_model_states_is_compared_with_its_errors(volumes, tmp_path):
    assert 'Calibration' not in scored(tmp_path)
    assert 'LesionPairs' not in scored(tmp_path)
    found = scored(tmp_path, sd=str(tmp_path / 'sd.nii'))['Calibration']
    assert list(found['Regions']) == ['brain', 'GM', 'WM', 'lesions', 'NAWM']
    grey = (volumes['tissue'] == 2) & volumes['mask']
    error = (volumes['psr'] - volumes['synthetic'])[grey]
    sd = volumes['sd'][grey]
    values = found['Regions']['GM']
    assert values['Voxels'] == grey.sum()
    assert values['Error'] == pytest.approx(error.mean(), rel=1e-3)
    assert values['SquaredError'] == pytest.approx((error**2).mean(), rel=1e-3)
    assert values['Variance'] == pytest.approx((sd**2).mean(), rel=1e-3)
    shares = {f'{level:g}': share for level, share in coverage(error, sd).items()}
    assert values['Coverage'] == pytest.approx(shares, abs=1e-3)
    tenths = found['Tenths']
    assert len(tenths['SquaredError']) == 10
    assert tenths['Variance'] == sorted(tenths['Variance'])
    brain = found['Regions']['brain']['SquaredError']
    assert np.mean(tenths['SquaredError']) == pytest.approx(brain, rel=1e-2)
