"""A whole head around a sampled brain: skull, scalp, face, neck, eyes and air spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demist_app.phantom.anatomy import Anatomy, brain_fractions, pose, sample_anatomy
from demist_app.phantom.face import Sculptor, Soft, carve_face, sample_soft
from demist_app.phantom.fields import Array, upsample
from demist_app.phantom.template import TISSUES, load_template

FIELD_OF_VIEW_MM: tuple[float, float, float] = (184.0, 232.0, 232.0)


@dataclass(frozen=True)
class Head:
    """A head on a voxel grid.

    Attributes
    ----------
    labels
        uint8 array of `Label`, shape (X, Y, Z).
    affine
        4 x 4 voxel to world (RAS mm) map.
    box
        Slices of the part of the grid that holds the brain.
    fractions
        Fractions of `TISSUES` inside `box`, shape (len(TISSUES), ...); what is missing to one is
        the non-brain label beneath.
    template
        Template millimetres inside `box`, shape (3, ...).
    beneath
        uint8 labels inside `box` of what surrounds the brain.
    """

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    box: tuple[slice, slice, slice]
    fractions: Array
    template: Array
    beneath: NDArray[np.uint8]


def grid_affine(shape: tuple[int, int, int], resolution: float) -> NDArray[np.float64]:
    """RAS grid of isotropic voxels around the head; a short grid keeps the brain in it."""
    affine = np.diag([resolution, resolution, resolution, 1.0])
    half = (np.array(shape) - 1) * resolution / 2
    # The head hangs lower than the brain's centre, and the face protrudes in front.
    slack = np.clip(half - [70, 85, 70], 0, None)
    centre = np.array([0.0, -14.0, 2.0]) + [0, 1, -1] * np.minimum(slack, [0, 6, 34])
    affine[:3, 3] = centre - half
    return affine


def default_shape(resolution: float) -> tuple[int, int, int]:
    """Voxels of the default field of view."""
    x, y, z = (round(length / resolution) for length in FIELD_OF_VIEW_MM)
    return x, y, z


def _voxel_coordinates(
    shape: tuple[int, int, int], affine: NDArray[np.float64], step: int
) -> Array:
    """World millimetres on a lattice of every `step`-th voxel, corners included."""
    axes = [np.linspace(0, n - 1, max(2, (n - 1) // step + 1), dtype=np.float32) for n in shape]
    voxels = np.stack(np.meshgrid(*axes, indexing='ij'))
    matrix = affine.astype(np.float32)
    return np.asarray(
        np.einsum('ij,jxyz->ixyz', matrix[:3, :3], voxels) + matrix[:3, 3, None, None, None],
        dtype=np.float32,
    )


def render_head(
    anatomy: Anatomy,
    soft: Soft,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    rigid: NDArray[np.float64],
    atrophy: float = 0.0,
) -> Head:
    """Put a participant's head on a grid.

    Parameters
    ----------
    anatomy, soft
        The participant.
    shape, affine
        The voxel grid (isotropic voxels).
    rigid
        4 x 4 map from scanner to participant millimetres (the pose of this scan).
    atrophy
        Lost brain volume as a fraction: the brain shrinks inside an unchanged skull and the
        ventricles widen.

    Returns
    -------
    Head
        Labels, tissue fractions and template positions.
    """
    to_participant = rigid @ affine
    coarse = anatomy.to_template(_voxel_coordinates(shape, to_participant, 2))
    carver = Sculptor(coarse, shape, np.random.default_rng(soft.seed))
    cavity = upsample(load_template().skull.at(coarse)[0] - soft.csf * _uneven(carver), shape)
    carve_face(carver, soft, cavity)

    spans = [slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(cavity < 6.0)]
    box = (spans[0], spans[1], spans[2])
    world = _voxel_coordinates(shape, to_participant, 1)[:, *box]
    centre = np.array([0.0, -14.0, 5.0], np.float32)[:, None, None, None]
    shrunk = centre + (world - centre) * np.float32(1 + atrophy / 3)
    template = anatomy.to_template(shrunk, growth=30.0 * atrophy)
    fractions = brain_fractions(anatomy, template)
    labels = carver.labels
    beneath = labels[box].copy()
    brain = fractions[-1] < 0.5
    best = np.asarray(TISSUES, np.uint8)[fractions[:-1].argmax(0)]
    labels[box] = np.where(brain, best, beneath)
    return Head(labels, affine, box, fractions[:-1], template, beneath)


def _uneven(carver: Sculptor) -> Array:
    """A smooth positive field around one."""
    return np.asarray(np.exp(0.35 * carver.noise(40.0)), dtype=np.float32)


def sample_head(
    rng: np.random.Generator,
    resolution: float = 2.0,
    shape: tuple[int, int, int] | None = None,
    patient: bool = False,
) -> Head:
    """Draw a head with a random brain, skull, scalp, face, neck and pose.

    Parameters
    ----------
    rng
        Source of all variety; the result is a function of its state and the other arguments.
    resolution
        Isotropic voxel size in millimetres.
    shape
        Voxels along right, anterior, superior; by default 184 x 232 x 232 mm.
    patient
        Draw the wider ventricles of people with multiple sclerosis.

    Returns
    -------
    Head
        Labels and tissue fractions on the grid.
    """
    shape = shape or default_shape(resolution)
    anatomy = sample_anatomy(rng, patient)
    return render_head(
        anatomy, sample_soft(rng), shape, grid_affine(shape, resolution), pose(rng, 4.0, 4.0)
    )
