import nitransforms.linear
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from demist_app.imaging.conform import Grid, resample
from demist_app.imaging.transforms import read_itk, read_x5, write_itk, write_x5
from demist_app.imaging.volumes import InputError, save_volume


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('transforms')


def random_matrix(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3], _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix[:3, :3] *= np.sign(np.linalg.det(matrix[:3, :3]))
    matrix[:3, 3] = rng.normal(size=3) * 100
    return matrix


@given(seed=st.integers(0, 10_000))
def test_itk_round_trip(folder, seed):
    matrix = random_matrix(seed)
    np.testing.assert_array_equal(read_itk(write_itk(matrix, folder / 'xfm.txt')), matrix)


@given(seed=st.integers(0, 10_000))
def test_x5_round_trip(folder, seed):
    matrix = random_matrix(seed)
    fixed = Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([2.0, 3, 4, 1]))
    np.testing.assert_array_equal(read_x5(write_x5(matrix, fixed, folder / 'xfm.x5')), matrix)


def test_nitransforms_reads_the_same_matrix_from_either_file(tmp_path):
    matrix = random_matrix(2)
    fixed = Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([2.0, 3, 4, 1]))
    for path, kind in (
        (write_itk(matrix, tmp_path / 'xfm.txt'), 'itk'),
        (write_x5(matrix, fixed, tmp_path / 'xfm.x5'), 'X5'),
    ):
        read = nitransforms.linear.Affine.from_filename(str(path), fmt=kind)
        np.testing.assert_allclose(read.matrix, matrix, atol=1e-12)


def test_files_are_whole_and_the_same_each_time(tmp_path):
    fixed = Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    for name in ('a', 'b'):
        write_itk(random_matrix(1), tmp_path / name / 'xfm.txt')
        write_x5(random_matrix(1), fixed, tmp_path / name / 'xfm.x5')
    for suffix in ('txt', 'x5'):
        first, second = ((tmp_path / n / f'xfm.{suffix}').read_bytes() for n in 'ab')
        assert first == second
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == ['xfm.txt', 'xfm.x5']


def test_reads_a_centre_of_rotation_as_itk_does(tmp_path):
    transform = sitk.Euler3DTransform((10.0, -20, 30), 0.1, -0.2, 0.3, (1.0, 2, 3))
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(transform.GetMatrix())
    affine.SetCenter(transform.GetCenter())
    affine.SetTranslation(transform.GetTranslation())
    sitk.WriteTransform(affine, str(tmp_path / 'centre.txt'))
    matrix = read_itk(tmp_path / 'centre.txt')
    x, y, z = transform.TransformPoint((-7.0, -8.0, 9.0))
    np.testing.assert_allclose(matrix @ [7, 8, 9, 1], [-x, -y, z, 1])


@pytest.mark.parametrize('content', ['', 'nonsense', 'Parameters: 1 2 3\nFixedParameters: 0 0 0\n'])
def test_refuses_other_files(tmp_path, content):
    path = tmp_path / 'xfm.txt'
    path.write_text(content)
    with pytest.raises(InputError, match='not an affine ITK'):
        read_itk(path)


def test_itk_applies_the_file_as_we_do(tmp_path):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(30, 31, 32)), 2).astype(np.float32)
    moving = Nifti1Image(
        smooth, np.array([[-1.5, 0, 0, 20], [0, 0, 2, -30], [0, 1, 0, 5], [0, 0, 0, 1.0]])
    )
    fixed = Nifti1Image(np.zeros((25, 26, 27), np.float32), np.diag([1.2, 1.1, 1.6, 1]))
    fixed.affine[:3, 3] = [-12, -18, 3]
    matrix = np.eye(4)
    matrix[:3, :3] = ((0.995, -0.0998, 0), (0.0998, 0.995, 0), (0, 0, 1))
    matrix[:3, 3] = [1, -2, 3]
    paths = [
        str(save_volume(np.asarray(image.dataobj), image.affine, tmp_path / f'{name}.nii.gz'))
        for name, image in (('fixed', fixed), ('moving', moving))
    ]
    path = write_itk(matrix, tmp_path / 'from-moving_to-fixed_xfm.txt')
    theirs = sitk.Resample(
        sitk.ReadImage(paths[1]),
        sitk.ReadImage(paths[0]),
        sitk.ReadTransform(str(path)),
        sitk.sitkNearestNeighbor,
    )
    ours = resample(moving, Grid.of(fixed), matrix, 'nearest')
    same = np.asarray(ours.dataobj) == sitk.GetArrayFromImage(theirs).T
    assert np.asarray(ours.dataobj).any()
    assert same.mean() > 0.999  # ties may fall to either side
