import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from demist_app.imaging.bias import correct_bias
from demist_app.imaging.conform import Grid, reorient_ras, resample
from demist_app.imaging.registration import rigid, to_template
from demist_app.imaging.volumes import InputError, load_volume, save_volume

ANGLES, SHIFT = (2.0, -1.5, 2.5), (2.0, -1.5, 3.0)


@pytest.fixture(scope='module')
def truth(rigid_matrix):
    return rigid_matrix(ANGLES, SHIFT)


@pytest.fixture(scope='module')
def thick(scans, scan_at, truth):
    """FLAIR at 2 × 2 × 4 mm."""
    return scan_at(scans.flair, truth, 2)


@pytest.fixture(scope='module')
def found(scans, thick):
    return rigid(scans.t1w, thick, scans.mask)


def test_finds_the_motion(scans, found, truth, displacement_error):
    assert displacement_error(np.eye(4), truth, scans.mask) > 3
    assert displacement_error(found.matrix, truth, scans.mask) < 0.15
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-6)
    assert found.coverage == 1
    assert 'Final RAS Transform' in found.log


def test_same_bits_again(scans, thick, found):
    np.testing.assert_array_equal(rigid(scans.t1w, thick, scans.mask).matrix, found.matrix)


def test_prints_nothing_itself(scans, thick, capfd):
    rigid(scans.t1w, thick, scans.mask)
    assert capfd.readouterr() == ('', '')


def test_odd_origins_do_no_harm(scans, thick, truth, displacement_error):
    away = np.eye(4)
    away[:3, 3] = [900, -80, 60]
    moved = Nifti1Image(thick.dataobj, away @ thick.affine)
    result = rigid(scans.t1w, moved, scans.mask)
    assert result.start != 'headers'
    assert displacement_error(result.matrix, away @ truth, scans.mask) < 0.15


@pytest.mark.parametrize('codes', ['LAS', 'PIR'])
def test_the_order_of_axes_does_no_harm(scans, thick, truth, displacement_error, codes):
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt('RAS'), nib.orientations.axcodes2ornt(codes)
    )
    fixed, mask = scans.t1w.as_reoriented(turn), scans.mask.as_reoriented(turn)
    result = rigid(fixed, thick.as_reoriented(turn), mask)
    assert displacement_error(result.matrix, truth, scans.mask) < 0.15


def test_says_how_much_of_the_brain_was_scanned(scans, thick):
    slab = Nifti1Image(np.asarray(thick.dataobj)[:, :, 18:], thick.affine)
    slab.affine[:3, 3] = nib.affines.apply_affine(thick.affine, [0, 0, 18])
    result = rigid(scans.t1w, slab, scans.mask)
    assert 0.5 < result.coverage < 0.9


@pytest.mark.parametrize('kind', ['flat', 'noise'])
def test_refuses_images_without_anything_in_common(scans, kind):
    rng = np.random.default_rng(0)
    shape = scans.t1w.shape
    data = np.ones(shape) if kind == 'flat' else rng.random(shape)
    with pytest.raises(InputError, match='cannot be aligned'):
        rigid(scans.t1w, Nifti1Image(data.astype(np.float32), scans.t1w.affine), scans.mask)


def test_similarity_tells_a_good_match_from_a_bad_one(scans, thick, found):
    upside_down = Nifti1Image(np.asarray(thick.dataobj)[:, :, ::-1], thick.affine)
    assert found.similarity > 1.1 > 1.06 > rigid(scans.t1w, upside_down, scans.mask).similarity


@pytest.mark.slow
@pytest.mark.parametrize('thickness', [1, 3])
def test_error_at_full_resolution(fine_scans, scan_at, rigid_matrix, displacement_error, thickness):
    truth = rigid_matrix(ANGLES, SHIFT)
    flair = scan_at(fine_scans.flair, truth, thickness)
    t1w = correct_bias(fine_scans.t1w, fine_scans.mask, threads=2).image
    found = rigid(t1w, flair, fine_scans.mask)
    assert displacement_error(found.matrix, truth, fine_scans.mask) < 0.1


@pytest.mark.slow
def test_large_motion(fine_scans, scan_at, rigid_matrix, displacement_error):
    truth = rigid_matrix((12.0, -8.0, 15.0), (10.0, -22.0, 18.0))
    found = rigid(fine_scans.t1w, scan_at(fine_scans.flair, truth, 3), fine_scans.mask)
    assert displacement_error(found.matrix, truth, fine_scans.mask) < 0.1


@pytest.mark.slow
def test_real_scans_of_one_session_hardly_move(real_data):
    """The headers of one session agree to a few millimetres: no result may lie far from them."""
    name = 'sub-long01/ses-02/anat/sub-long01_ses-02'
    t1w, flair = (
        load_volume(real_data / 'openms' / f'{name}_{suffix}.nii.gz') for suffix in ('T1w', 'FLAIR')
    )
    mask = load_volume(real_data / f'openms/derivatives/brainmasks/{name}_desc-brain_mask.nii.gz')
    found = rigid(t1w, flair, mask)
    angle = np.degrees(np.arccos((np.trace(found.matrix[:3, :3]) - 1) / 2))
    assert angle < 3
    before, after = (
        resample(reorient_ras(flair), Grid.of(t1w), m) for m in (np.eye(4), found.matrix)
    )
    brain = np.asarray(mask.dataobj) > 0
    assert (
        np.corrcoef(np.asarray(before.dataobj)[brain], np.asarray(after.dataobj)[brain])[0, 1] > 0.9
    )
    assert found.coverage > 0.99


@pytest.fixture(scope='module')
def warped(scans):
    """The T1w of another person: a smooth deformation, larger than the affine part can undo."""
    rng = np.random.default_rng(0)
    shape = scans.t1w.shape
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 8) for _ in range(3)])
    places = np.indices(shape) + field / field.std() * 2
    t1w, mask, tissues = (
        ndimage.map_coordinates(np.asarray(data), places, order=order)
        for data, order in (
            (scans.t1w.dataobj, 1),
            (scans.mask.dataobj, 0),
            (scans.tissues.astype(np.uint8), 0),
        )
    )
    affine = scans.t1w.affine.copy()
    affine[:3, 3] += [15, -8, 4]
    return [Nifti1Image(data, affine) for data in (t1w, mask, tissues)]


@pytest.fixture(scope='module')
def normalised(scans, warped):
    return to_template(scans.t1w, scans.mask, warped[0], warped[1], threads=2)


@pytest.mark.slow
def test_template_warp_aligns_tissues(scans, warped, normalised, dice):
    grid = Grid.of(scans.t1w)
    truth = scans.tissues
    linear, full = (
        np.asarray(resample(warped[2], grid, transform, 'label').dataobj)
        for transform in (normalised.affine, normalised.displacement)
    )
    for label in (2, 3):
        before, after = (dice(labels == label, truth == label) for labels in (linear, full))
        assert after > max(0.85, before + 0.1)


@pytest.mark.slow
def test_itk_applies_the_saved_warp_as_we_do(scans, warped, normalised, tmp_path):
    images = {'template': scans.t1w, 'moving': warped[0], 'warp': normalised.displacement}
    paths = {
        name: str(save_volume(np.asarray(image.dataobj), image.affine, tmp_path / f'{name}.nii.gz'))
        for name, image in images.items()
    }
    field = sitk.ReadImage(paths['warp'], sitk.sitkVectorFloat64)
    assert field.GetNumberOfComponentsPerPixel() == 3
    theirs = sitk.Resample(
        sitk.ReadImage(paths['moving']),
        sitk.ReadImage(paths['template']),
        sitk.DisplacementFieldTransform(field),
        sitk.sitkLinear,
    )
    ours = np.asarray(resample(warped[0], Grid.of(scans.t1w), normalised.displacement).dataobj)
    brain = np.asarray(scans.mask.dataobj) > 0
    difference = sitk.GetArrayFromImage(theirs).T[brain] - ours[brain]
    assert np.abs(difference).mean() < 0.01 * ours[brain].mean()
