"""Tissue parameters: population values and one participant's draw.

Population PSR from Dortch et al. 2011 (Magn Reson Med 66:1346) and the public 3 T map of Sisco and
Dortch; R1 follows PSR and iron, as in Stüber et al. 2014 (NeuroImage 93:95), with a part of its own
so that T1w and FLAIR do not determine PSR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demist_app.phantom.labels import Label

R1_WATER, R1_PER_PSR, R1_PER_IRON, R1_PER_LESION_WATER = 0.265, 6.0, 0.07, 0.06
NAWM_FACTOR, DIRTY_FACTOR = 0.94, 0.84


@dataclass(frozen=True)
class Tissue:
    """One tissue's parameters: PSR and SDs as fractions, T2 in s, k_mf in 1/s."""

    psr: float
    between_sd: float
    spatial_sd: float
    t2: float
    pd: float
    iron: float
    k_mf: float


_GM = Tissue(0.060, 0.004, 0.006, 0.095, 0.83, 0.15, 14.0)
_WM = Tissue(0.128, 0.006, 0.007, 0.073, 0.70, 0.10, 11.3)
_CSF = Tissue(0.0, 0.0, 0.0, 1.9, 1.0, 0.0, 12.5)

POPULATION: dict[Label, Tissue] = {
    Label.CSF_VENTRICLE: _CSF,
    Label.CSF_SULCAL: _CSF,
    Label.CORTICAL_GM: _GM,
    Label.CAUDATE: Tissue(0.063, 0.004, 0.003, 0.084, 0.82, 0.5, 13.5),
    Label.PUTAMEN: Tissue(0.066, 0.004, 0.003, 0.076, 0.82, 0.7, 13.5),
    Label.PALLIDUM: Tissue(0.095, 0.005, 0.010, 0.058, 0.79, 1.3, 12.5),
    Label.THALAMUS: Tissue(0.082, 0.005, 0.010, 0.080, 0.79, 0.3, 13.0),
    Label.WM: _WM,
    Label.CORPUS_CALLOSUM: Tissue(0.138, 0.006, 0.007, 0.076, 0.70, 0.05, 10.8),
    Label.CEREBELLAR_GM: Tissue(0.062, 0.004, 0.006, 0.095, 0.82, 0.15, 14.0),
    Label.CEREBELLAR_WM: Tissue(0.122, 0.006, 0.007, 0.075, 0.71, 0.15, 11.3),
    Label.BRAINSTEM: Tissue(0.115, 0.006, 0.010, 0.078, 0.73, 0.10, 11.5),
    Label.LESION: _WM,
}

# R1 (1/s), T2 (s), proton density of what is not brain, near 3 T values.
SURROUNDINGS: dict[Label, tuple[float, float, float]] = {
    Label.AIR: (1.0, 0.010, 0.0),
    Label.CSF_SUBARACHNOID: (0.265, 1.9, 1.0),
    Label.DURA: (0.9, 0.040, 0.45),
    Label.SKULL_TABLE: (1.2, 0.010, 0.08),
    Label.MARROW: (1.7, 0.075, 0.42),
    Label.FAT: (2.3, 0.080, 0.68),
    Label.MUSCLE: (0.72, 0.036, 0.75),
    Label.SKIN: (1.0, 0.040, 0.65),
    Label.EYE: (0.25, 1.2, 1.0),
    Label.LENS: (0.9, 0.030, 0.55),
    Label.FACE: (0.70, 0.070, 0.80),
    Label.SINUS: (1.0, 0.010, 0.01),
    Label.SPINAL_CORD: (0.95, 0.075, 0.72),
    Label.VESSEL: (0.60, 0.060, 0.15),
    Label.NERVE: (0.95, 0.075, 0.70),
    Label.CARTILAGE: (0.80, 0.030, 0.55),
}


@dataclass(frozen=True)
class TissueDraw:
    """One participant's tissues.

    Attributes
    ----------
    psr, r1_offset, t2, k_mf
        Per label: mean PSR (fraction), decoupled part of R1 (1/s), T2 (s), exchange rate (1/s).
    iron
        Factor on the iron of every tissue.
    white_matter
        Factor on the PSR of white matter (0.94 on average in patients).
    dirty
        Strength (0-1) of diffusely abnormal white matter, whose factor reaches 0.84.
    relaxivity
        Factor on the part of R1 that follows PSR, 1 at 3 T (`relaxivity_at`).
    """

    psr: dict[Label, float]
    r1_offset: dict[Label, float]
    t2: dict[Label, float]
    k_mf: dict[Label, float]
    iron: float
    white_matter: float
    dirty: float
    relaxivity: float = 1.0


def relaxivity_at(tesla: float) -> float:
    """Factor on the part of R1 that follows PSR, relative to 3 T.

    It falls with the root of the field, which makes T1 at 1.5 T shorter by a factor of 1.31 in
    white and 1.24 in grey matter. Rooney et al. 2007 (Magn Reson Med 57:308) fit T1 to a power of
    the field, 0.38 in both: a factor of 1.30.
    """
    return float((tesla / 3.0) ** -0.5)


def sample_tissues(rng: np.random.Generator, patient: bool = False) -> TissueDraw:
    """Draw a participant's tissue parameters."""
    shared = rng.normal(0, 0.015)
    psr, offset, t2, k_mf = {}, {}, {}, {}
    common = rng.normal(0, 0.7)
    for label, tissue in POPULATION.items():
        own = 0.7 * common + 0.7 * rng.normal()
        psr[label] = max(tissue.psr + tissue.between_sd * own, 0.0)
        offset[label] = 0.0 if tissue.psr == 0 else shared + rng.normal(0, 0.020)
        t2[label] = tissue.t2 * float(np.exp(rng.normal(0, 0.03)))
        k_mf[label] = tissue.k_mf * float(np.exp(rng.normal(0, 0.06)))
    return TissueDraw(
        psr=psr,
        r1_offset=offset,
        t2=t2,
        k_mf=k_mf,
        iron=float(np.exp(rng.normal(0, 0.25))),
        white_matter=float(rng.normal(NAWM_FACTOR, 0.02)) if patient else 1.0,
        dirty=float(rng.uniform(0, 0.6)) if patient else 0.0,
    )
