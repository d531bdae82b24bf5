import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from demist_app.imaging import greedy


@pytest.fixture(scope='module')
def pair():
    """A textured ball, and the same warped smoothly."""
    rng = np.random.default_rng(0)
    shape = (48, 48, 48)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    centre = np.moveaxis(np.indices(shape), 0, -1) - 23.5
    ball = np.linalg.norm(centre, axis=-1) < 18
    fixed = np.where(ball, 1 + 5 * texture, 0).astype(np.float32)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 8) for _ in range(3)])
    moving = ndimage.map_coordinates(fixed, np.indices(shape) + field / field.std(), order=1)
    affine = np.diag([2.0, 2, 2, 1])
    region = Nifti1Image(ball.astype(np.uint8), affine)
    return Nifti1Image(fixed, affine), region, Nifti1Image(moving, affine)


def test_a_deformation_does_not_depend_on_threads(pair):
    one, two = (greedy.deformable(*pair, '-m NCC 2x2x2 -n 30x20', n) for n in (1, 2))
    np.testing.assert_array_equal(one.displacement, two.displacement)
    assert np.abs(one.displacement).max() > 1


def test_a_linear_registration_is_the_same_each_time(pair):
    one, two = (greedy.linear(*pair, np.eye(4), '-dof 12 -m NMI -n 20x10') for _ in range(2))
    np.testing.assert_array_equal(one.matrix, two.matrix)
    assert 'Final RAS Transform' in one.log
