"""Scanning a phantom: what two sites' protocols make of a head with lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from demist_app.phantom.anatomy import pose
from demist_app.phantom.fields import Array, Field, gaussian_noise
from demist_app.phantom.head import Head
from demist_app.phantom.labels import Label
from demist_app.phantom.lesions import LesionMap
from demist_app.phantom.physics import fit_sir
from demist_app.phantom.signals import SIR, Site, TissueFields, brain_signals, surroundings
from demist_app.phantom.template import TISSUES
from demist_app.phantom.tissue import TissueDraw

Matrix = NDArray[np.float64]
MAX_PSR_PERCENT = 25.0
SIR_NOISE = 0.012
"""Noise SD of the SIR volumes relative to the brain's signal in the last of them."""


@dataclass(frozen=True)
class Volume:
    """Values on a voxel grid (float32) with a 4 x 4 voxel to world map."""

    data: Array
    affine: Matrix


@dataclass(frozen=True)
class Session:
    """One session's images.

    Attributes
    ----------
    t1w, flair
        Whole-head magnitudes, arbitrary units; the T1w lies on the head's own grid.
    truth, fit, measured, retest
        PSR in percent on the T1w grid: noise-free and sharp; noise-free SIR fit; SIR fit with
        noise; the same again with new noise and pose.
    t1w_to_flair
        World map (RAS mm) of points of the T1w to points of the FLAIR.
    lesions
        Lesion mask on the T1w grid, uint8.
    labels
        Hard labels on the T1w grid, uint8.
    """

    t1w: Volume
    flair: Volume
    truth: Array
    fit: Array
    measured: Array
    retest: Array
    t1w_to_flair: Matrix
    lesions: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def smooth_bias(
    rng: np.random.Generator, shape: tuple[int, ...], affine: Matrix, amplitude: float
) -> Field:
    """A coil field around one: exp of 90 mm noise, about ± `amplitude` at its extremes."""
    noise = gaussian_noise(rng, (1, 16, 16, 16), 90.0, 30.0)
    noise *= amplitude / np.abs(noise).max()
    centre = (affine @ [*(np.array(shape) / 2), 1])[:3]
    origin = tuple(float(c) - 30.0 * 7.5 for c in centre)
    return Field(torch.from_numpy(np.exp(noise)), origin, 30.0)


def world(shape: tuple[int, ...], affine: Matrix, offset: tuple[int, ...] = (0, 0, 0)) -> Array:
    """Return the world coordinates (RAS mm, shape (3, ...)) of a grid's voxels."""
    axes = [np.arange(o, o + n, dtype=np.float32) for o, n in zip(offset, shape, strict=True)]
    voxels = np.stack(np.meshgrid(*axes, indexing='ij'))
    matrix = affine.astype(np.float32)
    return np.asarray(
        np.einsum('ij,jxyz->ixyz', matrix[:3, :3], voxels) + matrix[:3, 3, None, None, None],
        dtype=np.float32,
    )


def _rician(rng: np.random.Generator, signal: Array, sd: float) -> Array:
    real = signal + sd * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sd * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def whole_head(head: Head, lut: Array, brain: Array, fractions: Array) -> Array:
    """Put the brain's signal on the brain box into the head, whose labels `lut` gives signals."""
    image = lut[head.labels]
    beneath = np.clip(1 - fractions.sum(0), 0, 1)
    image[head.box] = brain + beneath * lut[head.beneath]
    return image


def _scan_flair(
    rng: np.random.Generator,
    image: Array,
    head: Head,
    site: Site,
    slice_mm: float,
    moved: Matrix,
    noise_sd: float,
) -> Volume:
    """Resample to the FLAIR's grid, slice by slice profile, with coil field and noise."""
    spacing = float(head.affine[0, 0])
    thick = max(slice_mm, spacing)
    shape = (*image.shape[:2], round(image.shape[2] * spacing / thick))
    affine = np.diag([spacing, spacing, thick, 1.0])
    affine[:3, 3] = head.affine[:3, 3] + [0, 0, (thick - spacing) / 2]
    source = Field(
        torch.from_numpy(image)[None], tuple(float(v) for v in head.affine[:3, 3]), spacing
    )
    samples = max(1, round(thick / spacing))
    total = np.zeros(shape, np.float32)
    for k in range(samples):
        shifted = affine.copy()
        shifted[2, 3] += thick * ((k + 0.5) / samples - 0.5)
        total += source.at(world(shape, moved @ shifted))[0] / samples
    bias = smooth_bias(rng, shape, affine, site.receive_bias).at(world(shape, affine))[0]
    return Volume(_rician(rng, total * bias, noise_sd) * np.float32(site.gain), affine)


def sir_maps(
    rng: np.random.Generator, signals: Array, mask: Array, head: Head, count: int
) -> list[Array]:
    """Fitted PSR (percent) on the brain box: noise-free, then `count` noisy scans.

    Each noisy scan has its own pose; the noise-free one shares the first's.
    """
    spacing = float(head.affine[0, 0])
    voxel = max(2.0, spacing)
    offset = tuple(b.start for b in head.box)
    start = (head.affine @ [*offset, 1])[:3]
    origin = tuple(float(v) for v in start)
    # Gaussian of the width of a 2 mm voxel, less what the 1 mm voxels hold already.
    sigma = np.sqrt(max(voxel**2 - spacing**2, 0.0) / 12.0) / spacing + 0.15
    stack = np.concatenate([signals, mask[None]])
    smooth = ndimage.gaussian_filter(stack, (0, sigma, sigma, sigma))
    source = Field(torch.from_numpy(smooth), origin, spacing)
    extent = np.array(mask.shape) * spacing
    shape = tuple(int(n) for n in np.ceil((extent + 12) / voxel))
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = start - 6
    here = world(mask.shape, head.affine, offset)
    maps: list[Array] = []
    for scan in range(count):
        moved = pose(rng, 1.2, 1.2)
        sampled = source.at(world(shape, moved @ affine))
        inside = sampled[-1] > 0.5
        clean = np.abs(sampled[:-1][:, inside])
        noise_sd = SIR_NOISE * float(np.percentile(clean[-1], 50))
        for noisy in (False, True) if scan == 0 else (True,):
            data = _rician(rng, clean, noise_sd) if noisy else clean
            fitted = np.zeros(shape, np.float32)
            fitted[inside] = np.clip(100 * fit_sir(data, SIR)[0], 0, MAX_PSR_PERCENT)
            volume = Field(
                torch.from_numpy(fitted)[None], tuple(float(v) for v in affine[:3, 3]), voxel
            )
            back = np.linalg.inv(moved).astype(np.float32)
            points = np.einsum('ij,jxyz->ixyz', back[:3, :3], here)
            points += back[:3, 3, None, None, None]
            maps.append(volume.at(points)[0] * (mask > 0.5))
    return maps


def scan_session(
    rng: np.random.Generator,
    head: Head,
    fractions: Array,
    where: LesionMap,
    tissues: TissueDraw,
    fields: TissueFields,
    site: Site,
    flair_slice_mm: float,
) -> Session:
    """Scan a head: T1w, FLAIR and PSR maps with bias fields, noise and misalignment.

    Parameters
    ----------
    rng
        Source of noise, coil fields and motion.
    head, fractions, where
        The head and its lesions (`render_head`, `render_lesions`).
    tissues, fields
        The participant's tissue parameters.
    site
        Scanner and protocol.
    flair_slice_mm
        Slice thickness of the FLAIR.

    Returns
    -------
    Session
        The images.
    """
    offset = tuple(b.start for b in head.box)
    transmit = smooth_bias(rng, head.labels.shape, head.affine, site.transmit_bias)
    b1 = transmit.at(world(fractions.shape[1:], head.affine, offset))[0]
    protocol = (site.mprage, site.flair)
    signals = brain_signals(head, fractions, where, tissues, fields, [protocol], b1)
    (mprage,), (inversion_recovery,) = signals.mprage, signals.flair

    outside_t1w, outside_flair = surroundings(*protocol)
    shape, labels = head.labels.shape, head.labels.copy()
    hard = np.asarray((*TISSUES, Label.LESION), np.uint8)[fractions.argmax(0)]
    brain = fractions.sum(0) > 0.5
    labels[head.box] = np.where(brain, hard, head.beneath)
    white = labels[head.box] == Label.WM

    image = whole_head(head, outside_t1w, mprage, fractions)
    receive = smooth_bias(rng, shape, head.affine, site.receive_bias)
    noise_sd = float(mprage[white].mean()) / site.snr
    image *= receive.at(world(shape, head.affine))[0]
    t1w = Volume(_rician(rng, image, noise_sd) * np.float32(site.gain), head.affine)

    image = whole_head(head, outside_flair, inversion_recovery, fractions)
    moved = pose(rng, 1.2, 1.2)
    noise_sd = float(inversion_recovery[white].mean()) / site.snr
    flair = _scan_flair(rng, image, head, site, flair_slice_mm, moved, noise_sd)

    maps = sir_maps(rng, signals.sir, brain.astype(np.float32), head, 2)
    truth = 100 * signals.psr * brain

    def full(part: Array) -> Array:
        whole = np.zeros(shape, np.float32)
        whole[head.box] = part
        return whole

    return Session(
        t1w=t1w,
        flair=flair,
        truth=full(truth),
        fit=full(maps[0]),
        measured=full(maps[1]),
        retest=full(maps[2]),
        t1w_to_flair=np.linalg.inv(moved).astype(np.float64),
        lesions=(labels == Label.LESION).astype(np.uint8),
        labels=labels,
    )
