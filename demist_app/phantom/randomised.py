"""Phantoms scanned by protocols drawn at random, for training a model that meets any scanner.

The idea of Billot et al. 2023 (SynthSeg, Med Image Anal 86:102789) and Iglesias et al. 2021
(SynthSR, NeuroImage 237:118206): a network that has seen protocols wider than those that exist
takes a real one as one more of the same kind. Noise, resolution, bias and registration errors are
left to the augmentation during training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from demist_app.phantom.acquisition import sir_maps, smooth_bias, whole_head, world
from demist_app.phantom.anatomy import pose, sample_anatomy
from demist_app.phantom.face import sample_soft
from demist_app.phantom.fields import Array
from demist_app.phantom.head import default_shape, grid_affine, render_head
from demist_app.phantom.lesions import lesion_texture, render_lesions, sample_lesions
from demist_app.phantom.physics import Flair, Mprage
from demist_app.phantom.signals import brain_signals, sample_tissue_fields, surroundings
from demist_app.phantom.template import TISSUES
from demist_app.phantom.tissue import sample_tissues

Kind = TypeVar('Kind', np.float32, np.uint8)
PATIENTS = 0.75
MARGIN = 3


@dataclass(frozen=True)
class RandomScan:
    """One head, scanned by several random protocols, cut to the brain.

    Attributes
    ----------
    images
        Noise-free T1w and FLAIR of each protocol, arbitrary units, shape (K, 2, X, Y, Z). Any
        T1w goes with any FLAIR.
    psr
        What a noise-free SIR scan of 2 mm would find, percent; zero outside the brain.
    truth
        PSR before any scan, percent.
    mask, lesions
        uint8.
    """

    images: Array
    psr: Array
    truth: Array
    mask: NDArray[np.uint8]
    lesions: NDArray[np.uint8]


def random_mprage(rng: np.random.Generator) -> Mprage:
    """Draw a T1w protocol: 1.7-3 s, inversion 0.7-1.2 s, 6-13°, imperfect inversion."""
    spacing, length = rng.uniform(0.006, 0.0085), int(rng.integers(130, 190))
    inversion = rng.uniform(0.7, 1.2)
    shortest = inversion + 0.5 * length * spacing + 0.15
    return Mprage(
        repetition_time=float(rng.uniform(max(1.7, shortest), 3.0)),
        inversion_time=float(max(inversion, 0.5 * length * spacing + 0.02)),
        flip_angle=float(rng.uniform(6, 13)),
        echo_spacing=float(spacing),
        train_length=length,
        inversion_efficiency=float(rng.uniform(0.85, 1.0)),
    )


def random_flair(rng: np.random.Generator) -> Flair:
    """Draw a FLAIR protocol: 4.5-11 s, echo 80-170 ms, nulling CSF or nearly so."""
    return Flair(
        repetition_time=float(rng.uniform(4.5, 11)),
        echo_time=float(rng.uniform(0.08, 0.17)),
        nulled_r1=float(rng.uniform(0.24, 0.30)),
    )


def simulate_random(seed: int, number: int, protocols: int, resolution: float = 1.0) -> RandomScan:
    """Make head `number` of `seed` and scan it.

    Parameters
    ----------
    seed, number
        What the result is a function of.
    protocols
        K, pairs of protocols.
    resolution
        Voxel size (mm).
    """
    rng = np.random.default_rng([seed, number, 77])
    patient = bool(rng.random() < PATIENTS)
    anatomy, soft = sample_anatomy(rng, patient), sample_soft(rng)
    tissues, fields = sample_tissues(rng, patient), sample_tissue_fields(rng)
    texture = lesion_texture(rng)
    lesions = sample_lesions(rng, anatomy, 1) if patient else []
    shape = default_shape(resolution)
    head = render_head(
        anatomy, soft, shape, grid_affine(shape, resolution), pose(rng, 3.0, 3.0), atrophy=0.0
    )
    fractions, where = render_lesions(head, lesions, texture, 0)
    offset = tuple(b.start for b in head.box)
    field = smooth_bias(rng, shape, head.affine, float(rng.uniform(0.05, 0.12)))
    b1 = field.at(world(fractions.shape[1:], head.affine, offset))[0]
    sequences = [(random_mprage(rng), random_flair(rng)) for _ in range(protocols)]
    signals = brain_signals(head, fractions, where, tissues, fields, sequences, b1)
    brain = fractions.sum(0) > 0.5
    psr = sir_maps(rng, signals.sir, brain.astype(np.float32), head, 1)[0]
    cut = tuple(
        slice(max(b.start - MARGIN, 0), min(b.stop + MARGIN, n))
        for b, n in zip(head.box, shape, strict=True)
    )
    images = np.stack(
        [
            np.stack(
                [
                    whole_head(head, lut, image, fractions)[cut]
                    for lut, image in zip(surroundings(*sequence), pair, strict=True)
                ]
            )
            for sequence, pair in zip(
                sequences, zip(signals.mprage, signals.flair, strict=True), strict=True
            )
        ]
    )

    def full(part: NDArray[Kind]) -> NDArray[Kind]:
        whole = np.zeros(shape, part.dtype)
        whole[head.box] = part
        return whole[cut]

    lesion = fractions.argmax(0) == len(TISSUES)
    return RandomScan(
        images=images,
        psr=full(psr),
        truth=full(100 * signals.psr * brain),
        mask=full(brain.astype(np.uint8)),
        lesions=full((lesion & brain).astype(np.uint8)),
    )
