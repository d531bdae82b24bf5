"""Simulated scans of the MNI152 template with known transforms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from scipy import ndimage


@dataclass(frozen=True)
class Scans:
    """T1w and FLAIR of one brain on one grid, with what they were made of."""

    t1w: Nifti1Image
    flair: Nifti1Image
    mask: Nifti1Image
    tissues: np.ndarray
    field: np.ndarray


def simulate(spacing: int) -> Scans:
    """Brain with a bright scalp, bias and noise, from the tissue probabilities of the template."""
    rng = np.random.default_rng(3)
    template = load_mni152_brain_mask(resolution=spacing)
    brain = np.asarray(template.dataobj) > 0
    gm, wm = (
        np.asarray(load(resolution=spacing).dataobj, dtype=np.float32).clip(0, 1) * brain
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    labels = np.where(brain, np.stack([1 - gm - wm, gm, wm]).argmax(axis=0) + 1, 0)
    # An atlas is a mean of many; people have partial volume at borders only
    tissues = np.stack(
        [ndimage.gaussian_filter((labels == t).astype(float), 0.5) for t in (1, 2, 3)]
    )
    outside = ndimage.distance_transform_edt(~brain) * spacing
    scalp = ndimage.gaussian_filter(((outside > 8) & (outside < 14)).astype(np.float32), 0.7)
    field = np.linspace(0.75, 1.25, brain.shape[0], dtype=np.float32)[:, None, None]

    def image(csf: float, gm: float, wm: float, skin: float, field: np.ndarray) -> Nifti1Image:
        signal = np.tensordot([csf, gm, wm], tissues, 1) + skin * scalp
        noise = rng.normal(0, 0.015, (2, *brain.shape))
        data = 1000 * np.hypot(signal * field + noise[0], noise[1])
        return Nifti1Image(data.astype(np.float32), template.affine)

    return Scans(
        image(0.15, 0.6, 1.0, 1.1, field),
        image(0.08, 1.0, 0.8, 0.9, field[::-1]),
        Nifti1Image(brain.astype(np.uint8), template.affine),
        labels,
        np.broadcast_to(field, brain.shape),
    )


@pytest.fixture(scope='session')
def scans() -> Scans:
    return simulate(2)


@pytest.fixture(scope='session')
def fine_scans() -> Scans:
    return simulate(1)


@pytest.fixture(scope='session')
def rigid_matrix() -> Callable[..., np.ndarray]:
    """RAS matrix of rotations (degrees, about x, then y, then z) and a shift (mm)."""

    def matrix(angles: tuple[float, ...], shift: tuple[float, ...]) -> np.ndarray:
        result = np.eye(4)
        for axis, angle in enumerate(np.radians(angles)):
            turn, (i, j) = np.eye(4), [a for a in range(3) if a != axis]
            turn[i, i] = turn[j, j] = np.cos(angle)
            turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
            result = turn @ result
        result[:3, 3] = shift
        return result

    return matrix


@pytest.fixture(scope='session')
def scan_at() -> Callable[[Nifti1Image, np.ndarray, int], Nifti1Image]:
    """Scan a head again after ``matrix`` moved it, ``thickness`` voxels in one slice."""

    def scan(image: Nifti1Image, matrix: np.ndarray, thickness: int) -> Nifti1Image:
        pull = np.linalg.inv(image.affine) @ np.linalg.inv(matrix) @ image.affine
        moved = ndimage.affine_transform(np.asarray(image.dataobj), pull, order=3)
        kept = moved.shape[2] // thickness * thickness
        thick = moved[..., :kept].reshape(*moved.shape[:2], -1, thickness).mean(axis=3)
        affine = image.affine @ np.diag([1, 1, thickness, 1])
        affine[:3, 3] += image.affine[:3, 2] * (thickness - 1) / 2
        return Nifti1Image(thick.astype(np.float32), affine)

    return scan


@pytest.fixture(scope='session')
def displacement_error() -> Callable[[np.ndarray, np.ndarray, Nifti1Image], float]:
    """Mean distance (mm) over a mask between where two matrices send its voxels."""

    def error(found: np.ndarray, truth: np.ndarray, mask: Nifti1Image) -> float:
        voxels = np.argwhere(np.asarray(mask.dataobj))[::50]
        points = np.c_[voxels, np.ones(len(voxels))] @ mask.affine.T
        return float(np.linalg.norm(((found - truth) @ points.T)[:3], axis=0).mean())

    return error


@pytest.fixture(scope='session')
def dice() -> Callable[[np.ndarray, np.ndarray], float]:
    def overlap(first: np.ndarray, second: np.ndarray) -> float:
        return 2 * float((first & second).sum()) / float(first.sum() + second.sum())

    return overlap
