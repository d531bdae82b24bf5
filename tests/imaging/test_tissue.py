import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from demist_app.imaging.bias import correct_bias
from demist_app.imaging.conform import Grid, brain_grid, reorient_ras, resample
from demist_app.imaging.normalise import normalise
from demist_app.imaging.tissue import regions, segment
from demist_app.imaging.volumes import load_volume


@pytest.fixture(scope='module')
def images(scans):
    brain = np.asarray(scans.mask.dataobj) > 0
    t1w, flair = (
        normalise(np.asarray(image.dataobj) / field, brain)[0]
        for image, field in ((scans.t1w, scans.field), (scans.flair, scans.field[::-1]))
    )
    return t1w, flair, brain


@pytest.fixture(scope='module')
def lesions(scans):
    """Three balls of white matter."""
    white = np.argwhere(scans.tissues == 3)
    distances = [
        np.linalg.norm(np.moveaxis(np.indices(scans.tissues.shape), 0, -1) - centre, axis=-1)
        for centre in white[len(white) // 4 :: len(white) // 4][:3]
    ]
    return (np.min(distances, axis=0) < 3) & (scans.tissues == 3)


def test_tissues_are_told_apart(scans, images, dice):
    labels = segment(*images)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels > 0, images[2])
    for label, least in ((1, 0.75), (2, 0.9), (3, 0.9)):
        assert dice(labels == label, scans.tissues == label) > least


def test_same_labels_again(images):
    np.testing.assert_array_equal(segment(*images), segment(*images))


def test_thick_flair_will_do(scans, images, dice):
    t1w, flair, brain = images
    affine = scans.flair.affine
    i, j, k = flair.shape
    thick = resample(
        Nifti1Image(flair, affine), Grid((i, j, k // 2), affine @ np.diag([1, 1, 2, 1]))
    )
    back = np.asarray(resample(thick, Grid.of(scans.flair)).dataobj)
    labels = segment(t1w, np.where(brain, back, 0), brain)
    for label in (2, 3):
        assert dice(labels == label, scans.tissues == label) > 0.85


def test_lesions_are_white_matter_and_kept_from_the_fit(images, lesions):
    t1w, flair, brain = images
    dark, bright = np.where(lesions, 0.55, t1w), np.where(lesions, 1.0, flair)
    labels = segment(dark, bright, brain, lesions)
    assert (labels[lesions] == 3).all()
    away = ~lesions
    agree = labels[away & brain] == segment(t1w, flair, brain, lesions)[away & brain]
    assert agree.mean() > 0.999


def test_regions_of_the_table(scans, lesions):
    labels = scans.tissues.astype(np.uint8)
    plain = regions(labels)
    assert list(plain) == ['CSF', 'GM', 'WM']
    assert sum(plain.values()).max() == 1
    np.testing.assert_array_equal(sum(plain.values()) > 0, labels > 0)
    full = regions(labels, lesions)
    assert list(full) == ['CSF', 'GM', 'WM', 'lesions', 'NAWM']
    assert not (full['NAWM'] & full['lesions']).any()
    assert not (full['NAWM'] & ~full['WM']).any()
    assert 0 < full['NAWM'].sum() < full['WM'].sum() - full['lesions'].sum()


def test_known_deep_grey_matter_overrules(scans):
    labels = scans.tissues.astype(np.uint8)
    deep = np.zeros(labels.shape)
    deep[40:60, 50:70, 30:45] = 1
    found = regions(labels, None, deep)
    assert list(found) == ['CSF', 'cortical GM', 'deep GM', 'WM']
    np.testing.assert_array_equal(found['deep GM'], (deep > 0) & (labels > 0))
    assert sum(found.values()).max() == 1
    np.testing.assert_array_equal(sum(found.values()) > 0, labels > 0)


@pytest.mark.slow
def test_real_thick_slices_give_plausible_fractions(real_data):
    """In-vivo fractions of GM and WM lie near 0.45 each of the intracranial brain."""
    name = 'sub-long20/ses-02/anat/sub-long20_ses-02'
    t1w, flair = (
        reorient_ras(load_volume(real_data / 'openms' / f'{name}_{suffix}.nii.gz'))
        for suffix in ('T1w', 'FLAIR')
    )
    mask = reorient_ras(
        load_volume(real_data / f'openms/derivatives/brainmasks/{name}_desc-brain_mask.nii.gz')
    )
    grid = brain_grid(mask)
    brain = np.asarray(resample(mask, grid, None, 'nearest').dataobj) > 0
    images = [
        normalise(np.asarray(resample(correct_bias(i, mask, 2).image, grid).dataobj), brain)[0]
        for i in (t1w, flair)
    ]
    labels = segment(*images, brain)
    shares = np.bincount(labels[brain], minlength=4)[1:] / brain.sum()
    assert 0.05 < shares[0] < 0.25
    assert 0.3 < shares[1] < 0.6
    assert 0.3 < shares[2] < 0.6
