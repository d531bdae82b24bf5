"""What a scanner, a patient or a hurried protocol does to a raw scan, on the phantom's own scan."""

from dataclasses import dataclass

import numpy as np
from common import Map, Mask
from nibabel.nifti1 import Nifti1Image

from demist_app.phantom.acquisition import smooth_bias, world

MOVES = 3
"""How often the head moves during a scan."""


@dataclass(frozen=True)
class Raw:
    """One raw scan, and what a phantom knows of it.

    Attributes
    ----------
    image : Nifti1Image
    brain, white : ndarray of bool
        Brain, and its white matter, on the grid of the scan.
    snr : float
        Signal of white matter over the noise the scan has already.
    """

    image: Nifti1Image
    brain: Mask
    white: Mask
    snr: float

    @property
    def data(self) -> Map:
        return self.image.get_fdata(dtype=np.float32)

    def like(self, data: Map) -> Nifti1Image:
        """Return the scan with other values."""
        return Nifti1Image(data, self.image.affine)


def noise(raw: Raw, rng: np.random.Generator, *, snr: float) -> Nifti1Image:
    """Add noise in both channels of a magnitude scan (Rician), until white matter has this SNR."""
    missing = np.sqrt(max(snr**-2 - raw.snr**-2, 0.0))
    sd = np.float32(missing * np.median(raw.data[raw.white]))
    real, imaginary = rng.standard_normal((2, *raw.image.shape), dtype=np.float32) * sd
    return raw.like(np.hypot(raw.data + real, imaginary))


def slices(raw: Raw, rng: np.random.Generator, *, mm: float) -> Nifti1Image:  # noqa: ARG001
    """Average axial slices into thicker ones; a scan whose slices are so thick stays as it is."""
    thin = float(raw.image.header.get_zooms()[2])
    if mm <= thin:
        return raw.image
    total = np.insert(np.cumsum(raw.data, axis=2, dtype=np.float64), 0, 0, axis=2)
    edges = np.arange(int(raw.image.shape[2] * thin / mm) + 1) * mm / thin
    below = np.minimum(edges.astype(int), raw.image.shape[2] - 1)
    part = edges - below
    at_edges = total[:, :, below] * (1 - part) + total[:, :, below + 1] * part
    affine = raw.image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (mm / thin - 1) / 2
    affine[:3, 2] *= mm / thin
    return Nifti1Image((np.diff(at_edges, axis=2) * thin / mm).astype(np.float32), affine)


def coil(raw: Raw, rng: np.random.Generator, *, factor: float) -> Nifti1Image:
    """Multiply by another smooth field, which at its extreme brightens or darkens by `factor`."""
    shape, affine = raw.image.shape, raw.image.affine
    field = smooth_bias(rng, shape, affine, float(np.log(factor)))
    return raw.like(raw.data * field.at(world(shape, affine))[0])


def motion(raw: Raw, rng: np.random.Generator, *, extent: float) -> Nifti1Image:
    """Let the head move while k-space is filled: three times, by up to so many degrees and mm.

    The middle of k-space is from the first position, so that the scan stays where it was.
    """
    import torchio  # takes seconds, and only those who ask for motion need it

    move = torchio.Motion(
        degrees=rng.uniform(-extent, extent, (MOVES, 3)),
        translation=rng.uniform(-extent, extent, (MOVES, 3)),
        times=(np.arange(MOVES) + rng.uniform(0.7, 1.3, MOVES)) / (MOVES + 1),
        image_interpolation='linear',
    )
    moved = move(torchio.ScalarImage(tensor=raw.data[None], affine=raw.image.affine))
    return raw.like(np.abs(moved.numpy()[0]))


def strip(raw: Raw, rng: np.random.Generator) -> Nifti1Image:  # noqa: ARG001
    """Cut the true brain out."""
    return raw.like(raw.data * raw.brain)
