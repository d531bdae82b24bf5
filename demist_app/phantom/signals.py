"""Noise-free signals: what two sites' protocols would see of a participant's tissues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from demist_app.phantom.fields import Array, Field, gaussian_noise
from demist_app.phantom.head import Head
from demist_app.phantom.labels import Label
from demist_app.phantom.lesions import PENUMBRA_DROP, LesionMap
from demist_app.phantom.physics import (
    Flair,
    Mprage,
    SirProtocol,
    flair_signal,
    mprage_signal,
    sir_signal,
)
from demist_app.phantom.template import TISSUES, load_template
from demist_app.phantom.tissue import (
    DIRTY_FACTOR,
    POPULATION,
    R1_PER_IRON,
    R1_PER_LESION_WATER,
    R1_PER_PSR,
    R1_WATER,
    SURROUNDINGS,
    TissueDraw,
)

SIR = SirProtocol()
_WHITE = (Label.WM, Label.CORPUS_CALLOSUM, Label.CEREBELLAR_WM, Label.BRAINSTEM, Label.LESION)
_TINY = 4e-3


@dataclass(frozen=True)
class Site:
    """A scanner and its protocol."""

    name: str
    mprage: Mprage
    flair: Flair
    flair_slice_mm: float
    gain: float
    snr: float
    receive_bias: float
    transmit_bias: float
    tesla: float = 3.0

    def at(self, tesla: float) -> Site:
        """Return the same protocols at another field: its signal and its transmit field follow."""
        factor = tesla / self.tesla
        return replace(
            self,
            tesla=tesla,
            snr=self.snr * factor,
            transmit_bias=self.transmit_bias * factor,
        )


SITES: tuple[Site, ...] = (
    Site('A', Mprage(2.3, 0.9, 9.0), Flair(4.8, 0.144), 1.0, 9000.0, 65.0, 0.22, 0.08),
    Site('B', Mprage(2.5, 1.05, 8.0), Flair(11.0, 0.145), 3.0, 26000.0, 52.0, 0.30, 0.11),
)


@dataclass(frozen=True)
class TissueFields:
    """Spatial variation inside tissues, template space: PSR, decoupled R1, dirty white matter."""

    noise: Field


def sample_tissue_fields(rng: np.random.Generator) -> TissueFields:
    """Draw the smooth fields that make tissues uneven (unit variance, 5, 9 and 18 mm)."""
    priors = load_template().priors
    shape = tuple(int(n / 3.0) + 2 for n in priors.values.shape[1:])
    noise = np.concatenate([gaussian_noise(rng, (1, *shape), c, 3.0) for c in (5.0, 9.0, 18.0)])
    return TissueFields(Field(torch.from_numpy(noise), priors.origin, 3.0))


@dataclass(frozen=True)
class Signals:
    """Noise-free signals on the brain box.

    Attributes
    ----------
    psr
        Truth, as a fraction.
    mprage, flair
        One volume per protocol.
    sir
        The four volumes of the SIR scan.
    """

    psr: Array
    mprage: Array
    flair: Array
    sir: Array


def brain_signals(
    head: Head,
    fractions: Array,
    where: LesionMap,
    tissues: TissueDraw,
    fields: TissueFields,
    protocols: Sequence[tuple[Mprage, Flair]],
    b1: Array,
) -> Signals:
    """Mix the tissues' signals (never their parameters) voxel by voxel.

    Parameters
    ----------
    head, fractions, where, tissues, fields
        The participant.
    protocols
        What to scan the participant with.
    b1
        Relative transmit field on the brain box.
    """
    noise = fields.noise.at(head.template)
    ventricle = load_template().ventricle_distance.at(head.template)[0]
    shape = fractions.shape[1:]
    psr_map = np.zeros(shape, np.float32)
    t1w, flair = (np.zeros((len(protocols), *shape), np.float32) for _ in range(2))
    sir = np.zeros((len(SIR.delays), *shape), np.float32)
    for label, fraction in zip((*TISSUES, Label.LESION), fractions, strict=True):
        index = np.nonzero(fraction > _TINY)
        part, tissue = fraction[index], POPULATION[label]
        psr = tissues.psr[label] + np.float32(tissue.spatial_sd) * noise[0][index]
        t2 = np.full(part.shape, tissues.t2[label], np.float32)
        pd = np.full(part.shape, tissue.pd, np.float32)
        water = np.zeros(part.shape, np.float32)
        if label in _WHITE:
            dirty = 1 / (1 + np.exp((ventricle[index] - 12) / 3 - 2 * noise[2][index]))
            dirty *= np.float32(tissues.dirty)
            psr *= tissues.white_matter * (1 - (1 - DIRTY_FACTOR) * dirty)
            psr *= 1 - PENUMBRA_DROP * where.near[index] * (label != Label.LESION)
            water += 0.15 * dirty + 0.15 * where.near[index] * (label != Label.LESION)
        if label == Label.LESION:
            psr *= 1 - where.drop[index]
            water += where.water[index]
        psr = np.clip(psr, 0, 0.25) if tissue.psr else np.zeros_like(psr)
        t2 *= 1 + 0.95 * water
        pd *= 1 + 0.2 * water
        iron = tissue.iron * tissues.iron
        r1 = R1_WATER + R1_PER_PSR * tissues.relaxivity * psr + R1_PER_IRON * iron
        r1 -= R1_PER_LESION_WATER * water
        if tissue.psr:
            r1 += tissues.r1_offset[label] + 0.030 * noise[1][index]
        field = b1[index]
        psr_map[index] += part * psr
        for k, (mprage, inversion_recovery) in enumerate(protocols):
            t1w[k][index] += part * mprage_signal(r1, pd, 1 / t2 + 8, mprage, field)
            flair[k][index] += part * flair_signal(r1, pd, t2, psr, inversion_recovery)
        sf = -0.96 * np.cos(0.5 * np.pi * (field - 1))
        sm = SIR.macromolecular_saturation ** (field**2)
        recovery = sir_signal(psr, r1, sf, SIR, k_mf=np.float32(tissues.k_mf[label]), sm=sm)
        weight = part * pd * np.exp(-0.010 / t2)
        for volume, signal in zip(sir, recovery, strict=True):
            volume[index] += weight * signal
    return Signals(psr_map, t1w, flair, sir)


def surroundings(sequence: Mprage, inversion_recovery: Flair) -> tuple[Array, Array]:
    """MPRAGE and FLAIR signal per label of what is not brain."""
    t1w, flair = np.zeros(64, np.float32), np.zeros(64, np.float32)
    for label, (r1, t2, pd) in SURROUNDINGS.items():
        t1w[label] = mprage_signal(r1, pd, 1 / t2 + 8, sequence)
        flair[label] = flair_signal(r1, pd, t2, 0.0, inversion_recovery)
    return t1w, flair
