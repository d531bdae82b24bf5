"""Simulated scans of the MNI152 template with known transforms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from scipy import ndimage


@dataclass(frozen=True)
class Scans:
    """A T1w with FLAIR contrast images of the same brain, 1 mm, in the T1w's space."""

    t1w: Nifti1Image
    flair: Nifti1Image
    mask: Nifti1Image
    gm: np.ndarray
    wm: np.ndarray


@pytest.fixture(scope='session')
def scans() -> Scans:
    """Brain with a bright scalp, bias and noise, from the tissue probabilities of the template."""
    rng = np.random.default_rng(3)
    t1w = load_mni152_template(resolution=1)
    gm, wm = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    brain = np.asarray(t1w.dataobj) > 0
    csf = np.clip(brain - gm - wm, 0, 1)
    outside = ndimage.distance_transform_edt(~brain)
    scalp = ndimage.gaussian_filter(((outside > 9) & (outside < 13)).astype(np.float32), 0.7)

    def image(weights: tuple[float, float, float, float], bias: float) -> Nifti1Image:
        signal = sum(w * x for w, x in zip(weights, (csf, gm, wm, scalp), strict=True))
        field = np.linspace(1 - bias, 1 + bias, brain.shape[0], dtype=np.float32)[:, None, None]
        noise = rng.normal(0, 0.015, (2, *brain.shape)).astype(np.float32)
        return Nifti1Image(np.hypot(signal * field + noise[0], noise[1]) * 1000, t1w.affine)

    return Scans(
        image((0.15, 0.6, 1.0, 1.1), 0.15),
        image((0.08, 1.0, 0.8, 0.9), -0.1),
        Nifti1Image(brain.astype(np.uint8), t1w.affine),
        gm,
        wm,
    )


def rigid_matrix(
    angles: tuple[float, float, float], shift: tuple[float, float, float]
) -> np.ndarray:
    """RAS matrix of rotations (degrees, about the template's origin, x then y then z) and shift."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(angles)):
        turn, (i, j) = np.eye(4), [a for a in range(3) if a != axis]
        turn[[i, i, j, j], [i, j, i, j]] = [
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        ]
        matrix = turn @ matrix
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture(scope='session')
def scan_at() -> Callable[[Nifti1Image, np.ndarray, int], Nifti1Image]:
    """Scan an image in another position, with thick slices (whole millimetres) where wanted.

    ``matrix`` maps the image's world to the new scan's: the truth a registration has to find.
    """

    def scan(image: Nifti1Image, matrix: np.ndarray, slice_mm: int) -> Nifti1Image:
        pull = np.linalg.inv(image.affine) @ np.linalg.inv(matrix) @ image.affine
        moved = ndimage.affine_transform(np.asarray(image.dataobj), pull, order=3)
        kept = moved.shape[2] // slice_mm * slice_mm
        thick = moved[..., :kept].reshape(*moved.shape[:2], -1, slice_mm).mean(axis=3)
        affine = image.affine @ np.diag([1, 1, slice_mm, 1])
        affine[:3, 3] += image.affine[:3, 2] * (slice_mm - 1) / 2
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
