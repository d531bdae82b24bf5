"""Grids, and bringing images onto them.

Resampling works from grid index to image index through the two affines, so it needs neither
orthonormal axes nor a change to LPS.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.funcs import as_closest_canonical
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from demist_app.imaging.volumes import InputError

Interpolation = Literal['linear', 'bspline', 'nearest', 'label']
Matrix = npt.NDArray[np.float64]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ to LPS+ and back."""
INTERPOLATORS: dict[Interpolation, int] = {
    'linear': sitk.sitkLinear,
    'bspline': sitk.sitkBSpline,
    'nearest': sitk.sitkNearestNeighbor,
    'label': sitk.sitkLabelLinear,
}
SAME_VOXEL = 1e-3
"""Distance, in voxels, up to which a place is that of the nearest voxel."""
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels of an image without their values.

    Attributes
    ----------
    shape
        Voxels along each axis.
    affine
        4×4 voxel index to RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: Matrix

    @classmethod
    def of(cls, image: Nifti1Image) -> 'Grid':
        """Return the grid of a 3-D image."""
        i, j, k = image.shape
        return cls((i, j, k), np.asarray(image.affine, dtype=np.float64))


def reorient_ras(image: Nifti1Image) -> Nifti1Image:
    """Exchange and flip axes, without interpolation, to the nearest to RAS+."""
    canonical: Nifti1Image = as_closest_canonical(image)
    return canonical


def brain_grid(
    mask: Nifti1Image, spacing: float = 1.0, margin: float = 4.0, multiple: int = 16
) -> Grid:
    """Lay an isotropic grid along the world axes around a brain.

    The grid's origin lies a whole number of steps from the mask's first voxel: where the mask has
    this spacing and these axes already, resampling onto the grid is cropping.

    Parameters
    ----------
    mask
        Brain mask; not zero is brain.
    spacing
        Edge of the new voxels in mm.
    margin
        Least distance in mm between brain and edge.
    multiple
        The number of voxels along each axis is a multiple of this.

    Raises
    ------
    InputError
        The mask is empty.
    """
    voxels = np.argwhere(np.asarray(mask.dataobj))
    if not voxels.size:
        raise InputError('The brain mask is empty; give one, or check that the scan shows a brain.')
    return _grid_around(
        mask.affine, voxels.min(axis=0), voxels.max(axis=0), spacing, margin, multiple
    )


def brain_box(
    mask: npt.NDArray[np.bool_], margin: int = 4, multiple: int = 16
) -> tuple[slice, ...]:
    """Return the part of a grid that holds the brain, as wide as `brain_grid` if there is room.

    Parameters
    ----------
    mask
        Brain, (X, Y, Z).
    margin, multiple
        Voxels; see `brain_grid`.
    """
    box = []
    for found, length in zip(np.nonzero(mask), mask.shape, strict=True):
        low, high = int(found.min()), int(found.max()) + 1
        wide = min(-(-(high - low + 2 * margin) // multiple) * multiple, length)
        start = min(max((low + high - wide) // 2, 0), length - wide)
        box.append(slice(start, start + wide))
    return tuple(box)


def whole_grid(image: Nifti1Image, spacing: float) -> Grid:
    """Lay an isotropic grid along the world axes around all of an image."""
    last = np.array(image.shape) - 1
    return _grid_around(image.affine, np.zeros(3), last, spacing, margin=0.0, multiple=1)


def _grid_around(
    affine: Matrix,
    first: npt.NDArray[Any],
    last: npt.NDArray[Any],
    spacing: float,
    margin: float,
    multiple: int,
) -> Grid:
    corners = np.array(np.meshgrid(*zip(first - 0.5, last + 0.5, strict=True))).reshape(3, -1)
    world = apply_affine(affine, corners.T)
    low, high = world.min(axis=0) - margin, world.max(axis=0) + margin
    # Rounding must not add a block of voxels
    shape = np.ceil((high - low) / spacing / multiple - 1e-6).astype(int) * multiple
    wanted = (low + high) / 2 - (shape - 1) / 2 * spacing
    steps = np.round((wanted - affine[:3, 3]) / spacing)
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = affine[:3, 3] + steps * spacing
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), grid)


def resample(
    image: Nifti1Image,
    grid: Grid,
    transform: Matrix | Nifti1Image | None = None,
    interpolation: Interpolation = 'linear',
    threads: int = 1,
) -> Nifti1Image:
    """Bring an image onto a grid.

    Along axes where the grid is coarser than the image, the image is first smoothed by the
    Gaussian that turns its voxel's width into the grid's [1]_, so nothing aliases. Values made by
    interpolation stay within the image's own range; outside the image they are 0. Where the grid's
    voxels are voxels of the image, they are taken as they are.

    Parameters
    ----------
    image
        3-D image.
    grid
        Where to sample.
    transform
        From the grid's world to the image's: a 4×4 matrix in RAS+ mm (fixed to moving, as
        :func:`registration.rigid` gives it), an ITK displacement field (i, j, k, 1, 3) in LPS+ mm
        (as :func:`registration.to_template` gives it), or None for the identity.
    interpolation
        ``linear``, ``bspline`` (cubic), ``nearest``, or ``label``: the label with the largest
        linear weight, smoother than ``nearest`` and as true.
    threads
        Threads of the interpolation; the result does not depend on them.

    Returns
    -------
    Nifti1Image
        float32, or uint8 for ``nearest`` and ``label`` of integer images.

    References
    ----------
    .. [1] Cardoso et al., Scale factor point spread function matching: beyond aliasing in image
       resampling. MICCAI 2015.
    """
    data = np.asarray(image.dataobj)
    whole = np.issubdtype(data.dtype, np.integer) and interpolation in ('nearest', 'label')
    data = data.astype(np.uint8 if whole else np.float32)
    if not isinstance(transform, Nifti1Image):
        same = rearranged(Nifti1Image(data, image.affine), grid, transform)
        if same is not None:
            return same
    smooth = data
    if interpolation in ('linear', 'bspline'):
        matrix = transform if isinstance(transform, np.ndarray) else np.eye(4)
        to_index = np.linalg.inv(image.affine) @ matrix @ grid.affine
        # Voxels of the image, along each of its axes, that one step on the grid covers
        steps = np.linalg.norm(to_index[:3, :3], axis=1)
        # Rounding of an affine, or a tilted grid of the same spacing, must not smooth
        steps[steps < 1.01] = 1
        smooth = ndimage.gaussian_filter(
            data, np.sqrt(steps**2 - 1) / FWHM_PER_SIGMA, mode='nearest', truncate=3
        )
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(threads)
    resampler.SetSize(grid.shape)
    resampler.SetTransform(_between_indices(grid, transform, image))
    resampler.SetInterpolator(INTERPOLATORS[interpolation])
    result = sitk.GetArrayFromImage(resampler.Execute(itk_image(smooth))).T
    if interpolation == 'bspline':
        result = np.clip(result, min(data.min(), 0), max(data.max(), 0))
    return Nifti1Image(result, grid.affine)


def rearranged(
    image: Nifti1Image, grid: Grid, transform: Matrix | None = None
) -> Nifti1Image | None:
    """Cut, turn and flip an image onto a grid of its own voxels; None if the grid has others.

    Parameters
    ----------
    image, grid
        See `resample`.
    transform
        From the grid's world to the image's.
    """
    to_index = np.linalg.inv(image.affine) @ (np.eye(4) if transform is None else transform)
    to_index = to_index @ grid.affine
    data, shape, whole = np.asarray(image.dataobj), grid.shape, np.round(to_index)
    turn, first = np.abs(whole[:3, :3]), whole[:3, 3]
    error = np.abs(to_index - whole)[:3] @ [*shape, 1]  # grows with the distance from the origin
    if (turn.sum(axis=0) != 1).any() or (turn.sum(axis=1) != 1).any() or error.max() > SAME_VOXEL:
        return None
    axes, source, target = turn.argmax(axis=0), [], []
    for along, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        index = (first[axis] + whole[axis, along] * np.arange(length)).astype(int)
        inside = (index >= 0) & (index < data.shape[axis])
        source.append(index[inside])
        target.append(np.flatnonzero(inside))
    moved = np.zeros(shape, data.dtype)
    moved[np.ix_(*target)] = data.transpose(axes)[np.ix_(*source)]
    return Nifti1Image(moved, grid.affine)


def _between_indices(
    grid: Grid, transform: Matrix | Nifti1Image | None, image: Nifti1Image
) -> sitk.Transform:
    """Return the map from the grid's voxel indices to the image's."""
    to_index = np.linalg.inv(image.affine)
    if not isinstance(transform, Nifti1Image):
        return _itk_affine(to_index @ (np.eye(4) if transform is None else transform) @ grid.affine)
    field = itk_image(np.asarray(transform.dataobj)[:, :, :, 0], transform.affine)
    displace = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    # The last of a composite is applied first
    return sitk.CompositeTransform(
        [_itk_affine(to_index @ LPS), displace, _itk_affine(LPS @ grid.affine)]
    )


def _itk_affine(matrix: Matrix) -> sitk.Transform:
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def itk_image(data: npt.ArrayLike, affine: Matrix | None = None) -> sitk.Image:
    """Make an ITK image of an (i, j, k) or (i, j, k, component) array.

    Parameters
    ----------
    data
        Its dtype is kept.
    affine
        4×4 voxel to RAS+ mm; without it, physical coordinates are voxel indices.
    """
    values = np.asarray(data)
    order = (2, 1, 0, 3)[: values.ndim]
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(values.transpose(order)), isVector=values.ndim == 4
    )
    if affine is not None:
        lps, spacing = LPS @ affine, voxel_sizes(affine)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image
