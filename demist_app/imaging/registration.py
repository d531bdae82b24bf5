"""FLAIR to T1w, and T1w to a template.

A transform maps the fixed image's RAS+ mm to the moving image's: what resampling the moving image
onto the fixed grid needs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage
from scipy.stats import entropy

from demist_app.imaging import greedy
from demist_app.imaging.conform import LPS, Grid, Matrix, reorient_ras, resample, whole_grid
from demist_app.imaging.volumes import InputError

RIM = 4.0
"""Width (mm) of the rim around the brain within which images are compared too: the brain's edge."""
SEARCH_SPACING = 4.0
"""Voxels (mm) of the search for a start."""
BINS = 32
"""Of each image's intensities, to compare the results of the search."""
LEAST_SIMILARITY = 1.005
"""Below this the search found nothing: noise reaches 1.003 here, heads of two people 1.03."""
WARP_SPACING = 2.0
"""Voxels (mm) on which deformations are estimated."""


@dataclass(frozen=True, eq=False)
class RigidResult:
    """Outcome of :func:`rigid`.

    Attributes
    ----------
    matrix
        4×4, fixed to moving, RAS+ mm.
    coverage
        Fraction of the fixed image's brain that lies inside the moving image's field of view.
    similarity
        Normalised mutual information of the brains at 4 mm, 1 (none) to 2 (all).
    start
        Which initialisation led to the best match: ``headers``, ``centres of mass``,
        ``brain and centre of mass`` or ``centres of the fields of view``.
    log
        What greedy printed.
    """

    matrix: Matrix
    coverage: float
    similarity: float
    start: str
    log: str


@dataclass(frozen=True, eq=False)
class TemplateResult:
    """Outcome of :func:`to_template`.

    Attributes
    ----------
    displacement
        ITK displacement field on the template's grid, (i, j, k, 1, 3), LPS+ mm, template to
        moving: readable by ANTs and SimpleITK once saved.
    affine
        4×4, its affine part, template to moving, RAS+ mm.
    log
        What greedy printed.
    """

    displacement: Nifti1Image
    affine: Matrix
    log: str


class _Found(NamedTuple):
    matrix: Matrix
    similarity: float
    start: str
    log: str


def rigid(fixed: Nifti1Image, moving: Nifti1Image, fixed_mask: Nifti1Image) -> RigidResult:
    """Find the rotation and translation between two scans of one head, of any contrast.

    Normalised mutual information within the brain and a rim around it. At 4 mm the search starts
    from the headers, from the centres of mass (of the images, and of the brain and the moving
    image) and from the centres of the fields of view, so that an odd origin in one header does no
    harm; the best result is refined at half and at full resolution. One thread: same images, same
    bits.

    Parameters
    ----------
    fixed, moving
        3-D images.
    fixed_mask
        Brain, on the grid of ``fixed``.

    Raises
    ------
    InputError
        The images have nothing in common.
    """
    fixed, moving, mask = (reorient_ras(image) for image in (fixed, moving, fixed_mask))
    box, region = _around_brain(fixed, mask)
    found = _search(fixed, region, moving)
    fine = greedy.linear(box, region, moving, found.matrix, '-dof 6 -m NMI -n 50x20')
    to_index = np.linalg.inv(moving.affine) @ fine.matrix @ mask.affine
    places = apply_affine(to_index, np.argwhere(np.asarray(mask.dataobj)))
    inside = ((places >= -0.5) & (places <= np.array(moving.shape) - 0.5)).all(axis=1)
    return RigidResult(
        fine.matrix,
        float(inside.mean()),
        found.similarity,
        found.start,
        f'Search from {found.start}:\n{found.log}\nRefinement:\n{fine.log}',
    )


def to_template(
    template: Nifti1Image,
    template_mask: Nifti1Image,
    moving: Nifti1Image,
    moving_mask: Nifti1Image,
    threads: int,
) -> TemplateResult:
    """Find the affine and deformable transform from a template to a T1w image of another brain.

    Both images are masked by their brains. The affine part maximises normalised mutual
    information, the deformation the local correlation at 2 mm.

    Parameters
    ----------
    template, moving
        T1w images of heads or brains.
    template_mask, moving_mask
        Brains, each on its image's grid.
    threads
        Threads of the deformable part; its result does not depend on them.

    Raises
    ------
    InputError
        The brains have nothing in common.
    """
    fixed, brain = (
        _masked(reorient_ras(image), reorient_ras(mask))
        for image, mask in ((template, template_mask), (moving, moving_mask))
    )
    _, region = _around_brain(fixed, reorient_ras(template_mask))
    found = _search(fixed, region, brain)
    grid = whole_grid(fixed, WARP_SPACING)
    coarse = resample(fixed, grid)
    coarse_region = resample(region, grid, interpolation='label')
    affine = greedy.linear(coarse, coarse_region, brain, found.matrix, '-dof 12 -m NMI -n 100x50')
    warp = greedy.deformable(
        coarse,
        coarse_region,
        resample(brain, grid, affine.matrix),
        '-m NCC 2x2x2 -n 100x50x20',
        threads,
    )
    log = '\n'.join([found.log, affine.log, warp.log])
    displacement = _composed(Grid.of(template), affine.matrix, warp.displacement, grid)
    return TemplateResult(displacement, affine.matrix, log)


def _around_brain(image: Nifti1Image, mask: Nifti1Image) -> tuple[Nifti1Image, Nifti1Image]:
    """Crop an image to the brain and its rim; also return that region as a mask."""
    brain = np.asarray(mask.dataobj) != 0
    region = ndimage.distance_transform_edt(~brain, sampling=voxel_sizes(mask.affine)) <= RIM
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    affine = mask.affine.copy()
    affine[:3, 3] = apply_affine(mask.affine, [axis.start for axis in box])
    return (
        Nifti1Image(np.asarray(image.dataobj, dtype=np.float32)[box], affine),
        Nifti1Image(region[box].astype(np.uint8), affine),
    )


def _search(fixed: Nifti1Image, region: Nifti1Image, moving: Nifti1Image) -> _Found:
    """Find the best rigid alignment at low resolution."""
    brain = apply_affine(region.affine, ndimage.center_of_mass(np.asarray(region.dataobj)))
    masses, middles = zip(*(_centres(image) for image in (fixed, moving)), strict=True)
    shifts = {
        'headers': np.zeros(3),
        'centres of mass': masses[1] - masses[0],
        'brain and centre of mass': masses[1] - brain,
        'centres of the fields of view': middles[1] - middles[0],
    }
    grid = whole_grid(fixed, SEARCH_SPACING)
    fixed = resample(fixed, grid)
    region = resample(region, grid, interpolation='label')
    moving = resample(moving, whole_grid(moving, SEARCH_SPACING))
    runs = []
    for name, shift in shifts.items():
        start = np.eye(4)
        start[:3, 3] = shift
        run = greedy.linear(fixed, region, moving, start, '-dof 6 -m NMI -n 100')
        similarity = _information(fixed, region, moving, run.matrix)
        runs.append(_Found(run.matrix, similarity, name, run.log))
    best = max(runs, key=lambda run: run.similarity)
    if best.similarity < LEAST_SIMILARITY:
        raise InputError('The images cannot be aligned; check that they show the same head.')
    return best


def _centres(image: Nifti1Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the centre of mass and the centre of the field of view, in mm."""
    signal = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, None)
    return (
        apply_affine(image.affine, ndimage.center_of_mass(signal)),
        apply_affine(image.affine, (np.array(image.shape) - 1) / 2),
    )


def _information(
    fixed: Nifti1Image, region: Nifti1Image, moving: Nifti1Image, matrix: Matrix
) -> float:
    """Normalised mutual information (1 none, 2 all) where what was not scanned is black.

    greedy leaves it out of its own measure instead, and so can prefer a sliver of overlap.
    """
    where = np.asarray(region.dataobj) != 0
    found = np.asarray(resample(moving, Grid.of(fixed), matrix).dataobj)[where]
    values = np.asarray(fixed.dataobj)[where]
    # Ranks would hide the black; the brightest per cent, fat and vessels, would hide the brain
    tops = np.percentile(values, 99), np.percentile(np.asarray(moving.dataobj), 99)
    joint, _, _ = np.histogram2d(np.minimum(values, tops[0]), np.minimum(found, tops[1]), bins=BINS)
    entropies = [entropy(counts.ravel()) for counts in (joint.sum(0), joint.sum(1), joint)]
    return float((entropies[0] + entropies[1]) / entropies[2])


def _masked(image: Nifti1Image, mask: Nifti1Image) -> Nifti1Image:
    brain = np.asarray(mask.dataobj) != 0
    return Nifti1Image(
        np.where(brain, np.asarray(image.dataobj), 0).astype(np.float32), mask.affine
    )


def _composed(
    onto: Grid, affine: Matrix, warp: npt.NDArray[np.floating], grid: Grid
) -> Nifti1Image:
    """Join a deformation (LPS mm, on ``grid``) and the affine after it in one field."""
    # From x to affine (x + u): a displacement of (affine - 1) x + affine u
    lps = LPS @ affine @ LPS
    linear = (lps - np.eye(4)) @ LPS @ onto.affine
    indices = np.ogrid[tuple(slice(0, n) for n in onto.shape)]
    deformation = [
        np.asarray(resample(Nifti1Image(warp[..., axis], grid.affine), onto).dataobj)
        for axis in range(3)
    ]
    field = np.empty((*onto.shape, 1, 3), np.float32)
    for axis in range(3):
        moved = sum(linear[axis, a] * indices[a] for a in range(3)) + linear[axis, 3]
        turned = sum(np.float32(lps[axis, a]) * deformation[a] for a in range(3))
        field[..., 0, axis] = moved + turned
    return Nifti1Image(field, onto.affine)
