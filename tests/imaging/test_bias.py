import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from demist_app.imaging.bias import correct_bias
from demist_app.imaging.conform import Grid, resample
from demist_app.imaging.volumes import InputError


@pytest.fixture(scope='module')
def corrected(scans):
    return correct_bias(scans.t1w, scans.mask, threads=2)


def test_finds_the_field(scans, corrected):
    brain = np.asarray(scans.mask.dataobj) > 0
    truth = scans.field[brain] / np.exp(np.log(scans.field[brain]).mean())
    found = np.asarray(corrected.field.dataobj)[brain]
    assert np.abs(found / truth - 1).mean() < np.abs(truth - 1).mean() / 4


def test_image_is_the_product_and_keeps_its_scale(scans, corrected):
    brain = np.asarray(scans.mask.dataobj) > 0
    image, field = (np.asarray(part.dataobj) for part in corrected)
    np.testing.assert_allclose(image * field, np.asarray(scans.t1w.dataobj), rtol=1e-4)
    assert np.log(field[brain]).mean() == pytest.approx(0, abs=1e-4)
    np.testing.assert_array_equal(corrected.image.affine, scans.t1w.affine)


def test_same_bits_again(scans, corrected):
    again = correct_bias(scans.t1w, scans.mask, threads=2)
    np.testing.assert_array_equal(again.image.dataobj, corrected.image.dataobj)


def test_thick_slices_keep_theirs(scans, corrected):
    affine = scans.t1w.affine @ np.diag([1, 1, 2, 1])
    i, j, k = scans.t1w.shape
    grid = Grid((i, j, k // 2), affine)
    thick, mask = resample(scans.t1w, grid), resample(scans.mask, grid, None, 'label')
    field = np.asarray(correct_bias(thick, mask, threads=2).field.dataobj)
    fine = np.asarray(resample(corrected.field, grid).dataobj)
    brain = np.asarray(mask.dataobj) > 0
    assert np.abs(field[brain] / fine[brain] - 1).mean() < 0.02


def test_refuses_an_empty_mask(scans):
    empty = Nifti1Image(np.zeros(scans.mask.shape, np.uint8), scans.mask.affine)
    with pytest.raises(InputError, match='empty'):
        correct_bias(scans.t1w, empty, threads=1)
