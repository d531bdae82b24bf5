"""White-matter lesions of multiple sclerosis: where they lie, how they grow, what they contain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from demist_app.phantom.anatomy import Anatomy
from demist_app.phantom.fields import Array, Field, gaussian_noise
from demist_app.phantom.head import Head
from demist_app.phantom.labels import Label
from demist_app.phantom.template import TISSUES, load_template

ZONES: dict[str, float] = {
    'periventricular': 0.36,
    'subcortical': 0.39,
    'juxtacortical': 0.20,
    'infratentorial': 0.05,
}
# Kind: probability, mean and SD of the PSR drop, mean water gain.
KINDS: dict[str, tuple[float, float, float, float]] = {
    'remyelinated': (0.25, 0.15, 0.07, 0.55),
    'T2': (0.50, 0.35, 0.12, 0.75),
    'black hole': (0.25, 0.60, 0.10, 1.10),
}
PENUMBRA_DROP, PENUMBRA_MM = 0.16, 3.0
_HOSTS = (Label.WM, Label.CORPUS_CALLOSUM, Label.CEREBELLAR_WM, Label.BRAINSTEM)


@dataclass(frozen=True)
class Lesion:
    """One lesion in template millimetres.

    Attributes
    ----------
    zone, kind
        Keys of `ZONES` and `KINDS`.
    centre
        Template position (mm).
    axes
        3 x 3 rows: template directions divided by the radii, so that |axes (x - centre)| = 1 on
        the surface of the first session.
    drop
        Lost part of the white-matter PSR.
    water
        Water gain: lengthens T2, raises proton density, lowers R1.
    born
        Index of the session in which it appears.
    growth
        Volume of each session relative to the first.
    """

    zone: str
    kind: str
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    drop: float
    water: float
    born: int
    growth: tuple[float, ...]


@dataclass(frozen=True)
class LesionMap:
    """Lesions on the brain box of a `Head`, float32 arrays.

    Attributes
    ----------
    fraction
        Lesion part of each voxel.
    drop, water
        PSR loss and water gain of the lesion there.
    near
        1 at a lesion's edge, fading over 3 mm outside (the penumbra).
    """

    fraction: Array
    drop: Array
    water: Array
    near: Array


@lru_cache(maxsize=1)
def _zone_voxels() -> dict[str, Array]:
    """Template millimetres (n, 3) of the white matter of each zone, on a 2 mm grid."""
    template = load_template()
    values = template.priors.values[:, ::2, ::2, ::2].numpy()
    prior = dict(zip(TISSUES, values, strict=False))
    white = (prior[Label.WM] + prior[Label.CORPUS_CALLOSUM]) > 0.8
    lower = (prior[Label.CEREBELLAR_WM] + prior[Label.BRAINSTEM]) > 0.8
    ventricle = template.ventricle_distance.values[0].numpy()
    cortex = ndimage.distance_transform_edt(prior[Label.CORTICAL_GM] < 0.5) * 2.0
    zones = {
        'periventricular': white & (ventricle < 7),
        'subcortical': white & (ventricle >= 9) & (cortex > 4),
        'juxtacortical': white & (ventricle >= 9) & (cortex <= 3),
        'infratentorial': lower,
    }
    origin = np.asarray(template.priors.origin, np.float32)
    return {
        name: (origin + 2.0 * np.argwhere(where)).astype(np.float32)
        for name, where in zones.items()
    }


def sample_lesions(
    rng: np.random.Generator, anatomy: Anatomy, sessions: int, wanted: int | None = None
) -> list[Lesion]:
    """Draw a patient's lesions for a number of sessions.

    6-45 lesions at the first session; log-normal volumes whose median differs between patients
    (110-260 mm³, sigma 0.95, 14-6000 mm³); 0-2 new ones and about ±12 % growth a session. Water
    gain is drawn apart from the PSR drop: equal FLAIR brightness, unequal myelin. Where a number of
    lesions is `wanted` at the first session, they are the first so many of the same ones.
    """
    drawn = int(np.clip(rng.gamma(2.2, 9.0), 6, 45))
    count = drawn if wanted is None else wanted
    born = [0] * count + [s for s in range(1, sessions) for _ in range(rng.integers(0, 3))]
    median = rng.uniform(110.0, 260.0)
    shrink = abs(np.linalg.det(anatomy.affine[:3, :3]))
    lesions = []
    for birth in born:
        zone = str(rng.choice(list(ZONES), p=list(ZONES.values())))
        kind = str(rng.choice(list(KINDS), p=[k[0] for k in KINDS.values()]))
        volume = float(np.clip(rng.lognormal(np.log(median), 0.95), 14, 6000))
        if zone == 'infratentorial':
            volume = min(volume, 400.0)
        centre = rng.choice(_zone_voxels()[zone]) + rng.uniform(-1, 1, 3)
        ratio = np.exp(rng.normal(0, 0.22, 3))
        radii = ratio / np.cbrt(ratio.prod()) * np.cbrt(volume / shrink * 3 / (4 * np.pi))
        turn = Rotation.random(rng=rng).as_matrix()
        if zone == 'periventricular':
            # Dawson's fingers: long axis away from the ventricle.
            at = np.asarray(centre, np.float32)[:, None, None, None]
            away = load_template().push.at(at)[:, 0, 0, 0] + rng.normal(0, 0.1, 3)
            first = away / np.linalg.norm(away)
            turn = np.linalg.qr(np.column_stack([first, rng.normal(size=(3, 2))]))[0].T
            radii = radii * np.array([1.5, 1 / np.sqrt(1.5), 1 / np.sqrt(1.5)])
        _, mean, sd, water = KINDS[kind]
        growth = np.cumprod([1.0, *(1 + rng.normal(0, 0.12, sessions - 1))])
        lesions.append(
            Lesion(
                zone=zone,
                kind=kind,
                centre=np.asarray(centre, np.float64),
                axes=turn / radii[:, None],
                drop=float(np.clip(rng.normal(mean, sd), 0.02, 0.9)),
                water=float(np.clip(water + rng.normal(0, 0.18), 0.15, 1.6)),
                born=birth,
                growth=tuple(float(np.clip(g, 0.5, 2.0)) for g in growth),
            )
        )
    return lesions


def lesion_texture(rng: np.random.Generator) -> Field:
    """Noise (template space) that makes the outlines of lesions irregular."""
    priors = load_template().priors
    shape = tuple(int(n / 2.0) + 2 for n in priors.values.shape[1:])
    noise = gaussian_noise(rng, (1, *shape), 3.5, 2.0)
    return Field(torch.from_numpy(noise), priors.origin, 2.0)


def render_lesions(
    head: Head, lesions: list[Lesion], texture: Field, session: int
) -> tuple[Array, LesionMap]:
    """Replace white matter by lesions.

    Parameters
    ----------
    head
        The head to put the lesions into; it is not changed.
    lesions, texture
        From `sample_lesions` and `lesion_texture`.
    session
        Which session of the lesions to show.

    Returns
    -------
    fractions : Array
        `head.fractions` with a last channel, `Label.LESION`, added.
    where : LesionMap
        What the lesions hold.
    """
    shape = head.fractions.shape[1:]
    spacing = float(np.abs(head.affine[0, 0]))
    where = LesionMap(*(np.zeros(shape, np.float32) for _ in range(4)))
    for lesion in lesions:
        if lesion.born > session:
            continue
        scale = np.cbrt(lesion.growth[session] / lesion.growth[lesion.born])
        radius = scale / np.linalg.norm(lesion.axes, axis=1)
        box = _box_around(head.template, lesion.centre, float(radius.max()) * 1.4 + 8)
        if box is None:
            continue
        rel = head.template[:, *box] - lesion.centre.astype(np.float32)[:, None, None, None]
        unit = np.linalg.norm(np.einsum('ij,jxyz->ixyz', lesion.axes / scale, rel), axis=0)
        uneven = unit * (1 + 0.18 * texture.at(np.ascontiguousarray(head.template[:, *box]))[0])
        depth = (uneven - 1) * float(np.cbrt(radius.prod()))
        soft = np.clip(0.5 - depth / spacing, 0, 1).astype(np.float32)
        fade = np.exp(-np.maximum(depth, 0) / PENUMBRA_MM).astype(np.float32)
        np.maximum(where.near[box], np.where(depth > 3 * PENUMBRA_MM, 0, fade), out=where.near[box])
        stronger = soft > where.fraction[box]
        where.fraction[box][stronger] = soft[stronger]
        where.drop[box][stronger] = lesion.drop
        where.water[box][stronger] = lesion.water
    return _replace(head, where), where


def _box_around(
    template: Array, centre: NDArray[np.float64], reach: float
) -> tuple[slice, slice, slice] | None:
    """The part of the brain box within `reach` mm (template) of a point."""
    coarse = template[:, ::4, ::4, ::4]
    close = np.abs(coarse - centre.astype(np.float32)[:, None, None, None]).max(0) < reach + 5
    if not close.any():
        return None
    spans = [slice(max(4 * int(i.min()) - 4, 0), 4 * int(i.max()) + 5) for i in np.nonzero(close)]
    return spans[0], spans[1], spans[2]


def _replace(head: Head, where: LesionMap) -> Array:
    """Move the hosts' fractions to the lesion channel; cortex gives way by half."""
    fractions = np.concatenate([head.fractions, np.zeros_like(head.fractions[:1])])
    for index, label in enumerate(TISSUES):
        if label in _HOSTS or label == Label.CORTICAL_GM:
            share = 1.0 if label in _HOSTS else 0.5
            taken = fractions[index] * where.fraction * np.float32(share)
            fractions[index] -= taken
            fractions[-1] += taken
    return fractions
