import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from demist_app.imaging.conform import Grid, brain_grid, reorient_ras, resample, whole_grid
from demist_app.imaging.volumes import InputError


def ramp(shape: tuple[int, int, int], affine: np.ndarray, slope=(1.0, 2.0, 3.0)) -> Nifti1Image:
    """An image whose intensity is a linear function of its world coordinates."""
    world = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return Nifti1Image((world @ slope + 1000).astype(np.float32), affine)


def oblique(rng: np.random.Generator, zooms=(1.0, 1.0, 1.0)) -> np.ndarray:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(zooms)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return affine


def inner_grid(image: Nifti1Image, spacing=1.0, size=8) -> Grid:
    """A grid along the world axes around the centre of an image."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    centre = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    affine[:3, 3] = centre - (size - 1) / 2 * spacing
    return Grid((size, size, size), affine)


@pytest.mark.parametrize('codes', ['LPS', 'LAS', 'ASR', 'PIL', 'RAS'])
def test_reorients_without_interpolating(codes):
    source = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt('RAS'), nib.orientations.axcodes2ornt(codes)
    )
    image = ramp((4, 5, 6), np.diag([2.0, 3, 4, 1]))
    turned = image.as_reoriented(source)
    assert ''.join(nib.aff2axcodes(turned.affine)) == codes
    back = reorient_ras(turned)
    np.testing.assert_array_equal(back.get_fdata(), image.get_fdata())
    np.testing.assert_allclose(back.affine, image.affine)


@given(
    seed=st.integers(0, 10_000),
    spacing=st.sampled_from([1.0, 2.0]),
    margin=st.floats(0, 10),
)
def test_brain_grid_holds_the_brain_and_its_margin(seed, spacing, margin):
    rng = np.random.default_rng(seed)
    mask = np.zeros((20, 24, 16), np.uint8)
    low = rng.integers(0, 8, 3)
    high = low + rng.integers(1, 8, 3)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    image = Nifti1Image(mask, oblique(rng, rng.uniform(0.5, 3, 3)))
    grid = brain_grid(image, spacing, margin)
    assert all(n % 16 == 0 for n in grid.shape)
    np.testing.assert_array_equal(grid.affine[:3, :3], np.eye(3) * spacing)
    world = apply_affine(image.affine, np.argwhere(mask))
    index = apply_affine(np.linalg.inv(grid.affine), world)
    room = margin / spacing - 0.51  # the origin moves by up to half a step
    assert (index >= room - 0.5).all()
    assert (index <= np.array(grid.shape) - 0.5 - room).all()


def test_brain_grid_of_an_isotropic_ras_mask_only_crops():
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3, 3] = [-40.3, 17.7, 0.1]
    image = Nifti1Image(rng.random((60, 50, 40)).astype(np.float32), affine)
    mask = np.zeros(image.shape, np.uint8)
    mask[20:40, 15:35, 10:30] = 1
    grid = brain_grid(Nifti1Image(mask, affine), margin=4)
    cropped = np.asarray(resample(image, grid).dataobj)
    start = np.round(grid.affine[:3, 3] - affine[:3, 3]).astype(int)
    assert grid.shape == (32, 32, 32)
    window = tuple(slice(a, a + 32) for a in start)
    np.testing.assert_allclose(cropped, np.asarray(image.dataobj)[window], rtol=1e-5)


def test_brain_grid_refuses_an_empty_mask():
    with pytest.raises(InputError, match='empty'):
        brain_grid(Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)))


def test_whole_grid_covers_the_field_of_view():
    image = ramp((320, 320, 39), np.diag([-0.7, -0.7, 3.0, 1]))
    grid = whole_grid(image, 4.0)
    assert grid.shape == (56, 56, 30)
    centre = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    middle = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    assert np.abs(centre - middle).max() <= 2


@given(seed=st.integers(0, 10_000), interpolation=st.sampled_from(['linear', 'bspline']))
def test_resampling_finds_world_coordinates_at_any_angle(seed, interpolation):
    rng = np.random.default_rng(seed)
    image = ramp((30, 32, 34), oblique(rng, rng.uniform(0.9, 1.1, 3)))
    grid = inner_grid(image)
    matrix = oblique(rng)
    matrix[:3, 3] = 0
    centre = apply_affine(grid.affine, [3.5, 3.5, 3.5])
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre  # turn about the centre
    world = apply_affine(matrix @ grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    found = np.asarray(resample(image, grid, matrix, interpolation).dataobj)
    np.testing.assert_allclose(found, world @ [1.0, 2.0, 3.0] + 1000, rtol=1e-3)


def test_sheared_axes_are_followed():
    affine = np.array([[1.0, 0.04, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = ramp((30, 30, 30), affine)
    grid = inner_grid(image)
    world = apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    found = np.asarray(resample(image, grid).dataobj)
    np.testing.assert_allclose(found, world @ [1.0, 2.0, 3.0] + 1000, rtol=1e-4)


def test_coarse_grids_do_not_alias():
    stripes = np.tile(np.float32([0, 2] * 32), (64, 64, 1))
    image = Nifti1Image(stripes, np.eye(4))
    coarse = np.asarray(resample(image, inner_grid(image, spacing=3.0)).dataobj)
    assert coarse.std() < 0.1
    assert coarse.mean() == pytest.approx(1, abs=0.05)


def test_same_grid_changes_nothing():
    rng = np.random.default_rng(0)
    image = Nifti1Image(rng.normal(size=(12, 13, 14)).astype(np.float32), oblique(rng))
    for interpolation in ('linear', 'nearest', 'bspline'):
        same = resample(image, Grid.of(image), interpolation=interpolation)
        np.testing.assert_allclose(same.dataobj, image.dataobj, atol=2e-4)


@given(seed=st.integers(0, 10_000))
def test_voxels_of_the_image_are_taken_as_they_are(seed):
    rng = np.random.default_rng(seed)
    image = Nifti1Image(rng.random(rng.integers(5, 9, 3)).astype(np.float32), oblique(rng))
    turn = np.zeros((4, 4))
    turn[rng.permutation(3), np.arange(3)] = rng.choice([-1, 1], 3)
    turn[:, 3] = [*rng.integers(-3, 9, 3), 1]
    x, y, z = rng.integers(4, 10, 3)
    grid = Grid((int(x), int(y), int(z)), image.affine @ turn)
    index = np.round(apply_affine(turn, np.moveaxis(np.indices(grid.shape), 0, -1))).astype(int)
    inside = ((index >= 0) & (index < image.shape)).all(axis=-1)
    expected = np.zeros(grid.shape, np.float32)
    expected[inside] = np.asarray(image.dataobj)[tuple(index[inside].T)]
    np.testing.assert_array_equal(resample(image, grid, None, 'bspline').dataobj, expected)


def test_a_hairs_breadth_beside_the_voxels_is_nearly_the_same():
    rng = np.random.default_rng(0)
    image = Nifti1Image(rng.random((20, 20, 20)).astype(np.float32), np.eye(4))
    aside = np.eye(4)
    aside[:3, 3] = 0.002  # voxels: beyond what counts as the same
    near = np.asarray(resample(image, Grid.of(image), aside, 'bspline').dataobj)
    difference = np.abs(near - np.asarray(image.dataobj))[1:-1, 1:-1, 1:-1]
    assert 0 < difference.max() < 0.01


def test_cubic_values_stay_in_range_and_do_not_depend_on_threads():
    rng = np.random.default_rng(0)
    image = Nifti1Image((rng.random((20, 20, 20)) > 0.5).astype(np.float32), np.eye(4))
    grid = whole_grid(image, 0.7)
    one, two = (resample(image, grid, None, 'bspline', threads=n) for n in (1, 2))
    assert np.asarray(one.dataobj).min() >= 0
    assert np.asarray(one.dataobj).max() <= 1
    np.testing.assert_array_equal(one.dataobj, two.dataobj)


def test_outside_is_zero():
    image = Nifti1Image(np.ones((10, 10, 10), np.float32), np.eye(4))
    away = np.eye(4)
    away[0, 3] = 100
    assert not np.asarray(resample(image, Grid.of(image), away).dataobj).any()


@pytest.mark.parametrize('interpolation', ['nearest', 'label'])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_labels_stay_labels(interpolation, dtype):
    labels = np.zeros((16, 16, 16), dtype)
    labels[4:12, 4:12, 4:12] = 3
    labels[8:12, 4:12, 4:12] = 40
    image = Nifti1Image(labels, np.diag([2.0, 2, 2, 1]))
    fine = np.asarray(resample(image, whole_grid(image, 0.9), None, interpolation).dataobj)
    assert fine.dtype == dtype
    assert set(np.unique(fine)) == {0, 3, 40}
    volume = (fine == 40).sum() * 0.9**3
    assert volume == pytest.approx((labels == 40).sum() * 8, rel=0.1)
