import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.imaging.volumes import (
    InputError,
    header_warnings,
    is_skull_stripped,
    load_volume,
    save_volume,
)

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 2, 0, -50], [0, 0, 3, -60], [0, 0, 0, 1]])
SHAPE = (50, 60, 40)


def write(path: Path, data=None) -> Path:
    if data is None:
        data = np.random.default_rng(0).uniform(1, 100, SHAPE).astype(np.float32)
    nib.Nifti1Image(data, AFFINE, dtype=data.dtype).to_filename(path)
    return path


def with_value(value: float, count: int = 1) -> np.ndarray:
    data = np.ones(SHAPE, np.float32)
    data.flat[: data.size // 2] = 2
    data.flat[:count] = value
    return data


def test_reads_what_nibabel_wrote(tmp_path):
    path = write(tmp_path / 'T1w.nii.gz')
    image = load_volume(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), nib.load(path).get_fdata())
    np.testing.assert_allclose(image.affine, AFFINE)


def test_applies_scale_and_intercept(tmp_path):
    data = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE) % 1000
    image = nib.Nifti1Image(data.astype(np.int16), AFFINE)
    image.header.set_slope_inter(2.0, -5.0)
    image.to_filename(tmp_path / 'scaled.nii')
    stored = nib.load(tmp_path / 'scaled.nii')
    read = load_volume(tmp_path / 'scaled.nii')
    np.testing.assert_allclose(np.asarray(read.dataobj), stored.get_fdata())


def test_squeezes_a_single_fourth_axis(tmp_path):
    path = write(tmp_path / 'T1w.nii.gz', np.random.default_rng(0).random((*SHAPE, 1)))
    assert load_volume(path).shape == SHAPE


def test_reads_nifti2_and_misnamed_files(tmp_path):
    data = np.random.default_rng(0).random(SHAPE)
    nib.Nifti2Image(data, AFFINE).to_filename(tmp_path / 'two.nii')
    (tmp_path / 'plain.nii.gz').write_bytes((tmp_path / 'two.nii').read_bytes())
    assert load_volume(tmp_path / 'plain.nii.gz').shape == SHAPE


@pytest.mark.parametrize(
    ('data', 'affine', 'reason'),
    [
        (np.ones((*SHAPE, 3)), AFFINE, 'holds 3 volumes'),
        (np.ones((50, 60)), AFFINE, 'is no volume'),
        (np.ones((50, 60, 1)), AFFINE, 'is no volume'),
        (np.zeros(SHAPE), AFFINE, 'every voxel .* is 0'),
        (np.full(SHAPE, 7.0), AFFINE, 'every voxel .* is 7'),
        (with_value(np.nan, 3), AFFINE, '3 of 120000 voxels'),
        (with_value(-np.inf), AFFINE, '1 of 120000 voxels'),
        (with_value(3).astype(np.float64) * 1e300, AFFINE, 'NaN or infinite'),
        (with_value(3) * 1j, AFFINE, 'complex'),
        (
            np.zeros(SHAPE, [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]),
            AFFINE,
            'colours',
        ),
        (with_value(3), np.diag([2.0, 2, 30, 1]), 'voxels .* measure 2 × 2 × 30 mm'),
        (with_value(3), np.diag([0.01, 0.01, 0.01, 1]), 'voxels .* measure'),
        (with_value(3), np.diag([1.0, 1, 1, 1]), 'covers 50 × 60 × 40 mm'),
        (
            with_value(3),
            np.array([[2.0, 1, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
            'right angles',
        ),
        (
            with_value(3),
            np.array([[2.0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
            'right angles',
        ),
    ],
)
def test_refuses_with_one_sentence(tmp_path, data, affine, reason):
    with np.errstate(all='ignore'):
        path = tmp_path / 'sub-01_T1w.nii.gz'
        nib.Nifti1Image(data, None, dtype=data.dtype).to_filename(path)
        image = nib.load(path)
        image.header.set_sform(affine, 1)
        image.header['qform_code'] = 0
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[:348] = image.header.binaryblock
        raw[344:348] = b'n+1\0'
        raw[108:112] = np.float32(352).tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(InputError, match=reason) as error:
        load_volume(path, 'FLAIR')
    assert str(path) in str(error.value)
    assert 'FLAIR' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'empty file'),
        (b'hello', 'not a NIfTI'),
        (b'\x1f\x8b garbage', 'gzip'),
        (bytes(400), 'not a NIfTI'),
        (bytes(344) + b'n+1\0' + bytes(400), 'header .* is damaged'),
    ],
)
def test_refuses_other_files(tmp_path, content, reason):
    path = tmp_path / 'T1w.nii.gz'
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_volume(path)


def test_refuses_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match='there is no such T1w'):
        load_volume(tmp_path / 'none.nii.gz')
    with pytest.raises(InputError, match='cannot be read'):
        load_volume(tmp_path)


@pytest.fixture(scope='module')
def stored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('stored')
    for suffix in ('.nii', '.nii.gz'):
        write(folder / f'T1w{suffix}')
    return folder


@given(suffix=st.sampled_from(['.nii', '.nii.gz']), part=st.floats(0, 1, exclude_max=True))
def test_refuses_truncated_files(stored, suffix, part):
    content = (stored / f'T1w{suffix}').read_bytes()
    path = stored / f'cut{suffix}'
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError):
        load_volume(path)


@given(part=st.floats(0.01, 0.999), bit=st.integers(0, 7))
def test_flipped_bits_never_change_voxels_silently(stored, part, bit):
    content = bytearray((stored / 'T1w.nii.gz').read_bytes())
    content[int(part * len(content))] ^= 1 << bit
    path = stored / 'flipped.nii.gz'
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_volume(path)


def test_saves_whole_files_with_the_same_bytes(tmp_path):
    data = np.random.default_rng(0).random(SHAPE)
    first = save_volume(data, AFFINE, tmp_path / 'deep' / 'a.nii.gz')
    second = save_volume(data, AFFINE, tmp_path / 'deep' / 'b.nii.gz')
    assert first.read_bytes() == second.read_bytes()
    image = nib.load(first)
    assert image.get_data_dtype() == np.float32
    assert (int(image.header['sform_code']), int(image.header['qform_code'])) == (1, 1)
    np.testing.assert_array_equal(image.get_fdata(), data.astype(np.float32))
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-4)
    assert sorted(p.name for p in (tmp_path / 'deep').iterdir()) == ['a.nii.gz', 'b.nii.gz']


@pytest.mark.parametrize('kind', [bool, np.int64, np.uint16])
def test_saves_masks_as_uint8(tmp_path, kind):
    image = nib.load(save_volume(np.ones(SHAPE, kind), AFFINE, tmp_path / 'mask.nii.gz'))
    assert image.get_data_dtype() == np.uint8
    assert image.dataobj.slope == 1


def test_refuses_labels_beyond_uint8(tmp_path):
    with pytest.raises(ValueError, match='do not fit'):
        save_volume(np.full(SHAPE, 300), AFFINE, tmp_path / 'dseg.nii.gz')
    assert not list(tmp_path.iterdir())


def test_leaves_nothing_half_written(tmp_path):
    (tmp_path / 'T1w.nii.gz').mkdir()
    with pytest.raises(OSError):
        save_volume(np.ones(SHAPE), AFFINE, tmp_path / 'T1w.nii.gz')
    assert [p.name for p in tmp_path.iterdir()] == ['T1w.nii.gz']


def test_warns_of_what_the_header_leaves_open(tmp_path):
    nameless = nib.Nifti1Image(with_value(3), None)
    nameless.header.set_zooms((2, 2, 3))
    nameless.to_filename(tmp_path / 'a.nii')
    image = load_volume(tmp_path / 'a.nii')
    warnings = header_warnings(image, {})
    assert [w.split()[0:2] for w in warnings] == [
        ['The', 'header'],
        ['The', 'slices'],
        ['The', 'sidecar'],
    ]
    good = load_volume(save_volume(np.random.rand(120, 120, 120), np.eye(4), tmp_path / 'b.nii'))
    assert header_warnings(good, {'MagneticFieldStrength': 3}) == []
    assert '1.5 T' in header_warnings(good, {'MagneticFieldStrength': 1.5})[0]
    assert 'no MagneticFieldStrength' in header_warnings(good, {'MagneticFieldStrength': '3T'})[0]


def test_warns_of_contradicting_forms(tmp_path):
    image = load_volume(save_volume(np.random.rand(120, 120, 120), np.eye(4), tmp_path / 'b.nii'))
    other = np.eye(4)
    other[0, 3] = 12
    image.set_qform(other, code=1)
    image.set_sform(np.eye(4), code=1)
    (warning,) = header_warnings(image, {'MagneticFieldStrength': 3})
    assert 'differ by up to 12 mm' in warning


def test_recognises_stripped_brains(scans):
    brain = np.asarray(scans.t1w.dataobj) * (np.asarray(scans.mask.dataobj) > 0)
    stripped = nib.Nifti1Image(brain, scans.t1w.affine)
    assert is_skull_stripped(stripped, {})
    assert not is_skull_stripped(stripped, {'SkullStripped': False})
    assert not is_skull_stripped(scans.t1w, {})
    assert is_skull_stripped(scans.t1w, {'SkullStripped': True})


def test_a_head_on_an_empty_background_is_not_stripped(scans):
    head = np.asarray(scans.t1w.dataobj)
    defaced = nib.Nifti1Image(np.where(head > 100, head, 0), scans.t1w.affine)
    assert not is_skull_stripped(defaced, {})


def test_real_scans_load(real_data):
    stripped = {}
    for path in sorted((real_data / 'openms').glob('sub-*/**/anat/*T1w.nii.gz')):
        image = load_volume(path)
        sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert is_skull_stripped(image, {}) == is_skull_stripped(image, sidecar)
        stripped[path.name] = is_skull_stripped(image, {})
        if '3.0 mm' in ' '.join(header_warnings(image, sidecar)):
            assert image.header.get_zooms()[2] > 2
    assert stripped == {
        'sub-cross07_T1w.nii.gz': True,
        'sub-long01_ses-01_T1w.nii.gz': False,
        'sub-long01_ses-02_T1w.nii.gz': False,
        'sub-long20_ses-02_T1w.nii.gz': False,
    }
