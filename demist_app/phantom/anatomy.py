"""One brain: a diffeomorphic variation of the template with its own cortical folds.

The template has one folding pattern, blurred by averaging. Fractions near the surface therefore
compete with correlated noise and procedural sulci (zero-level sets of a Gaussian field), while the
deep anatomy, where the template is certain, stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from demist_app.phantom.fields import Array, Field, exponential, gaussian_noise
from demist_app.phantom.labels import Label
from demist_app.phantom.template import TISSUES, load_template

_WARP_ORIGIN = (-140.0, -190.0, -200.0)
_WARP_SHAPE = (57, 69, 69)
_WARP_SPACING = 5.0
_NOISE_SPACING = 2.0
_CEREBELLUM = np.array([0.0, -48.0, -30.0], np.float32)


@dataclass(frozen=True)
class Anatomy:
    """What is fixed for one participant, at every session.

    Attributes
    ----------
    affine
        4 x 4 map from template to participant millimetres (before any pose).
    warp
        Displacement (mm) to add to template positions, three channels.
    noise
        Unit Gaussian noise in template space: one channel per entry of `TISSUES`, then the
        folding field.
    ventricles
        Widening of the ventricles in millimetres.
    fold, scatter
        Strength of procedural sulci and of the label noise.
    """

    affine: NDArray[np.float64]
    warp: Field
    noise: Field
    ventricles: float
    fold: float
    scatter: float

    def to_template(self, coords: Array, growth: float = 0.0) -> Array:
        """Map participant millimetres (3, X, Y, Z) to template millimetres.

        `growth` widens the ventricles by so many millimetres more.
        """
        inverse = np.linalg.inv(self.affine)
        points = np.einsum('ij,jxyz->ixyz', inverse[:3, :3].astype(np.float32), coords)
        points += inverse[:3, 3, None, None, None].astype(np.float32)
        points += self.warp.at(points)
        widening = np.float32(self.ventricles + growth)
        return np.asarray(points - widening * load_template().push.at(points), dtype=np.float32)


def sample_anatomy(rng: np.random.Generator, patient: bool = False) -> Anatomy:
    """Draw a participant's brain shape.

    Affine of 0.91 (the template holds 1,887 ml) with 5 % scale SD and small shear, a
    diffeomorphism from a stationary velocity field at two scales (38 mm, 4.5 mm SD; 13 mm,
    1.1 mm SD), left-right flip, ventricular widening (more in patients).
    """
    scales = 0.91 * np.exp(rng.normal(0, 0.035) + rng.normal(0, 0.025, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.diag(scales) + np.triu(rng.normal(0, 0.015, (3, 3)), 1)
    if rng.random() < 0.5:
        affine[0] *= -1
    velocity = 3.3 * gaussian_noise(rng, (3, *_WARP_SHAPE), 38.0, _WARP_SPACING)
    velocity += 1.1 * gaussian_noise(rng, (3, *_WARP_SHAPE), 13.0, _WARP_SPACING)
    # Left and right vary together more than they differ (the grid is centred on x = 0).
    mirrored = velocity[:, ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None, None]
    velocity = 0.62 * velocity + 0.38 * mirrored
    priors = load_template().priors
    shape = tuple(int(n / _NOISE_SPACING) + 2 for n in priors.values.shape[1:])
    noise = np.concatenate(
        [
            gaussian_noise(rng, (len(TISSUES), *shape), 3.0, _NOISE_SPACING),
            gaussian_noise(rng, (1, *shape), 5.5, _NOISE_SPACING),
        ]
    )
    return Anatomy(
        affine=affine,
        warp=exponential(Field(torch.from_numpy(velocity), _WARP_ORIGIN, _WARP_SPACING)),
        noise=Field(torch.from_numpy(noise), priors.origin, _NOISE_SPACING),
        ventricles=float(rng.gamma(2.0, 0.7 if patient else 0.4)),
        fold=float(rng.uniform(0.8, 1.6)),
        scatter=float(rng.uniform(0.3, 0.7)),
    )


def _foliation(template: Array, folding: Array) -> Array:
    """Phase of the cerebellar folia: sheets that fan out from the cerebellum's centre."""
    y, z = template[1] - _CEREBELLUM[1], template[2] - _CEREBELLUM[2]
    radius = np.hypot(y, z)
    return np.asarray(
        np.cos(22.0 * np.arctan2(z, -y) + 1.3 * folding + 0.12 * radius), dtype=np.float32
    )


def brain_fractions(anatomy: Anatomy, template: Array) -> Array:
    """Tissue fractions at template positions.

    Parameters
    ----------
    anatomy
        The participant.
    template
        Template millimetres of every voxel, shape (3, X, Y, Z).

    Returns
    -------
    Array
        Shape (len(TISSUES) + 1, X, Y, Z), summing to one over the first axis; the last channel
        is the part that is not brain.
    """
    score = load_template().priors.at(template)
    outside = score[-1].copy()
    np.maximum(score, 2e-3, out=score)
    np.log(score, out=score)
    noise = anatomy.noise.at(template)
    index = {label: TISSUES.index(label) for label in TISSUES}
    cortical = [index[label] for label in (Label.CSF_SULCAL, Label.CORTICAL_GM, Label.WM)]
    for channel in cortical:
        score[channel] += anatomy.scatter * noise[channel]
    folding = noise[-1]
    sulcus = np.exp(-((folding / 0.20) ** 2)) - 0.15
    score[index[Label.CSF_SULCAL]] += 2.6 * anatomy.fold * sulcus
    score[index[Label.WM]] += anatomy.fold * np.clip(np.abs(folding) - 0.9, -0.6, 1.0)
    folia = _foliation(template, folding)
    score[index[Label.CSF_SULCAL]] += np.where(
        score[index[Label.CEREBELLAR_GM]] > -3, 2.2 * (folia - 0.55), 0
    )
    score[index[Label.CEREBELLAR_WM]] -= 0.7 * folia + 0.4 * folding
    # A temperature below one sharpens the template's blurred boundaries to about a voxel.
    score /= 0.35
    score -= score.max(0)
    np.exp(score, out=score)
    score /= score.sum(0)
    inside = np.clip(1.5 - 2 * outside, 0, 1)
    score[:-1] *= inside / np.maximum(1 - score[-1], 1e-3)
    score[-1] = 1 - inside
    return score


def pose(rng: np.random.Generator, degrees: float, millimetres: float) -> NDArray[np.float64]:
    """A random rigid map (4 x 4): rotation and translation with the given SD per axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.normal(0, degrees, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.normal(0, millimetres, 3)
    return matrix
