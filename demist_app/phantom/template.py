"""The one real anatomy behind the phantom: the MNI152 2009a average that nilearn ships.

Fonov et al. 2011, NeuroImage 54:313. The skull-stripped T1 average with its grey and white
matter probabilities is split into the phantom's tissues by position and intensity. All phantoms
share this deep anatomy; variety comes from `anatomy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from demist_app.phantom.fields import Array, Field
from demist_app.phantom.labels import Label

TISSUES: tuple[Label, ...] = tuple(label for label in Label if 0 < label < Label.LESION)
"""Order of the tissue channels of `Template.priors` (a last channel holds "not brain")."""


@dataclass(frozen=True)
class Template:
    """Fields in MNI millimetres.

    Attributes
    ----------
    priors
        Probability of each of `TISSUES`, then of "not brain".
    skull
        One channel: signed distance (mm) to the inner skull, negative inside.
    push
        Three channels: unit vectors away from the ventricles, fading over 15 mm.
    ventricle_distance
        One channel: distance (mm) to the ventricles.
    """

    priors: Field
    skull: Field
    push: Field
    ventricle_distance: Field


def _ellipsoid(xyz: Array, centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    """Normalised radius around an ellipsoid that is mirrored across x = 0."""
    parts = (np.abs(xyz[0]), xyz[1], xyz[2])
    terms = [((part - c) / r) ** 2 for part, c, r in zip(parts, centre, radii, strict=True)]
    return np.asarray(np.sqrt(sum(terms)), dtype=np.float32)


def _soft(value: Array, width: float) -> Array:
    """Logistic step that is 1 where `value` is well below zero."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(value / width, -30, 30))), dtype=np.float32)


def _compartments(t1: Array, brain: NDArray[np.bool_], xyz: Array) -> NDArray[np.int32]:
    """Cerebrum 1, cerebellum 2, brainstem 3: watershed from hand-set markers.

    The dark gap along the tentorium is the ridge the floods meet at.
    """
    x, y, z = np.abs(xyz[0]), xyz[1], xyz[2]
    tentorium = -2 - 0.75 * np.minimum(x, 26) - 0.45 * np.maximum(x - 26, 0)
    tentorium -= 0.2 * np.maximum(0, -60 - y)
    stem = np.minimum.reduce(
        [
            _ellipsoid(xyz, (0, -26, -33), (14, 11, 14)),
            _ellipsoid(xyz, (0, -42, -60), (8, 8, 16)),
            _ellipsoid(xyz, (0, -27, -15), (13, 9, 8)),
        ]
    )
    markers = np.zeros(t1.shape, np.int32)
    markers[(z < tentorium - 6) & (stem > 1.7) & (y < -42)] = 2
    markers[(z > tentorium + 6) & (stem > 1.5)] = 1
    markers[(y > -30) & (stem > 1.5)] = 1
    markers[stem < 0.9] = 3
    return np.asarray(watershed(-t1, markers * brain, mask=brain), dtype=np.int32)


def _tissue_channels(t1: Array, grey: Array, white: Array, xyz: Array) -> NDArray[np.float32]:
    x, y, z = np.abs(xyz[0]), xyz[1], xyz[2]
    brain = t1 > 0
    mask = np.clip(ndimage.gaussian_filter(brain.astype(np.float32), 0.7) * 2 - 0.5, 0, 1)
    fluid = np.clip(1 - grey - white, 0, 1) * brain
    half = (slice(None, None, 2),) * 3
    part = _compartments(t1[half], brain[half], xyz[:, *half])
    for axis, length in enumerate(t1.shape):
        part = part.repeat(2, axis).take(range(length), axis)

    # Ventricles: fluid connected to the lateral, third and fourth ones inside their boxes.
    lateral = (x < 44) & (y > -56) & (y < 34) & (z > -20) & (z < 32) & (x > 1.5)
    lateral &= (z > -6) | (x > 18)
    lateral &= ~((y > 8) & (z < 0)) & ~((x < 16) & (y < -34) & (z < 10))
    third = (x < 5) & (y > -28) & (y < 6) & (z > -10) & (z < 14)
    fourth = (x < 12) & (y < -36) & (y > -56) & (z > -48) & (z < -22)
    components, _ = ndimage.label((fluid > 0.5) & (lateral | third | fourth))
    seeds = [(9, 0, 20), (-9, 0, 20), (0, -8, 2), (0, -44, -32), (22, -44, 8), (-22, -44, 8)]
    origin = xyz[:, 0, 0, 0]
    keep = set()
    for seed in seeds:
        low = [int(v) for v in np.asarray(seed) - origin - 4]
        near = components[tuple(slice(v, v + 9) for v in low)]
        if near.any():
            keep.add(int(np.bincount(near[near > 0]).argmax()))
    ventricle_mask = np.isin(components, list(keep))
    near_ventricle = ndimage.distance_transform_edt(~ventricle_mask).astype(np.float32)
    ventricle = ndimage.gaussian_filter(ventricle_mask.astype(np.float32), 0.6)

    # Average maps show a false grey rim where white matter meets the ventricles.
    thalamus = _soft(_ellipsoid(xyz, (12, -18, 7), (10.5, 15, 10.5)) - 1, 0.08)
    putamen = _soft(_ellipsoid(xyz, (26, 2, 1), (6.5, 18, 12)) - 1, 0.08)
    putamen *= np.clip(grey * 3 - 0.8, 0, 1)
    pallidum = _soft(_ellipsoid(xyz, (19, -4, -1), (5, 9, 6)) - 1, 0.1) * (1 - putamen)
    arc = np.minimum(
        _ellipsoid(xyz, (12, 14, 5), (8, 12, 12)), _ellipsoid(xyz, (15, -4, 19), (6, 20, 6))
    )
    caudate = _soft(arc - 1, 0.06) * np.clip(grey * 3 - 0.8, 0, 1)
    deep = np.clip(thalamus + putamen + pallidum + caudate, 0, 1)
    rim = np.exp(-((near_ventricle / 3.5) ** 2)) * (1 - deep) * (part == 1)
    callosal = (x < 14) & (y > -42) & (y < 32) & (z > 0) & (near_ventricle < 9)
    white = white + grey * rim
    grey = grey * (1 - rim)
    callosum = white * callosal * _soft(x - 11, 1.5) * (z > 4)

    shares = np.stack(
        [ndimage.gaussian_filter((part == k).astype(np.float32), 1.0) for k in (1, 2, 3)]
    )
    cerebrum, cerebellum, stem = shares / np.maximum(shares.sum(0), 1e-3)
    solid = np.clip(grey + white, 0, 1)
    shared = np.maximum(thalamus + putamen + pallidum + caudate, 1)
    channels = {
        Label.CSF_VENTRICLE: np.maximum(fluid * (near_ventricle < 2.5), ventricle) * brain,
        Label.CORTICAL_GM: grey * cerebrum * (1 - deep),
        Label.CAUDATE: solid * cerebrum * caudate / shared,
        Label.PUTAMEN: solid * cerebrum * putamen / shared,
        Label.PALLIDUM: solid * cerebrum * pallidum / shared,
        Label.THALAMUS: solid * cerebrum * thalamus / shared,
        Label.WM: (white * cerebrum - callosum) * (1 - deep),
        Label.CORPUS_CALLOSUM: callosum * (1 - deep),
        Label.CEREBELLAR_GM: grey * cerebellum,
        Label.CEREBELLAR_WM: white * cerebellum,
        Label.BRAINSTEM: solid * stem,
    }
    channels[Label.CSF_SULCAL] = np.clip(brain - sum(channels.values()), 0, 1)
    stack = np.stack([channels[label] for label in TISSUES] + [1 - mask]).astype(np.float32)
    stack[:-1] *= mask
    stack /= np.maximum(stack.sum(0), 1e-3)
    return stack


def _inner_skull(brain: NDArray[np.bool_]) -> Array:
    """Signed distance (mm, 2 mm grid) to a rounded cavity that holds the brain."""
    near = ndimage.distance_transform_edt(~brain) * 2.0
    closed = ndimage.distance_transform_edt(near < 11.0) * 2.0 > 10.0
    smooth = ndimage.gaussian_filter(closed.astype(np.float32), 1.8) > 0.5
    smooth |= brain
    outside = ndimage.distance_transform_edt(~smooth)
    inside = ndimage.distance_transform_edt(smooth)
    signed = 2.0 * np.where(smooth, 0.5 - inside, outside - 0.5)
    return np.asarray(ndimage.gaussian_filter(signed, 0.8), dtype=np.float32)


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read nilearn's MNI152 2009a images and derive the template fields (once per process)."""
    folder = Path(nilearn.__file__).parent / 'datasets' / 'data'
    images = {
        name: nib.Nifti1Image.from_filename(
            folder / f'mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz'
        )
        for name in ('t1', 'gm', 'wm')
    }
    box = (slice(24, 172), slice(25, 209), slice(0, 156))
    t1, grey, white = (
        np.asarray(images[name].dataobj, np.float32)[box] for name in ('t1', 'gm', 'wm')
    )
    start = images['t1'].affine[:3, 3] + [b.start for b in box]
    origin = (float(start[0]), float(start[1]), float(start[2]))
    axes = [o + np.arange(n, dtype=np.float32) for o, n in zip(origin, t1.shape, strict=True)]
    xyz = np.stack(np.meshgrid(*axes, indexing='ij')).astype(np.float32)
    grey /= 255
    white /= 255
    priors = _tissue_channels(t1, grey, white, xyz)

    pad = ((18, 18), (18, 22), (60, 18))
    skull = _inner_skull(np.pad(t1[::2, ::2, ::2] > 0, pad))
    skull_origin = tuple(o - 2.0 * p[0] for o, p in zip(origin, pad, strict=True))

    ventricle = ndimage.gaussian_filter(priors[TISSUES.index(Label.CSF_VENTRICLE)], 0.7)
    distance = ndimage.distance_transform_edt(ventricle[::2, ::2, ::2] < 0.5) * 2.0
    smooth = ndimage.gaussian_filter(distance, 1.5)
    gradient = np.stack(np.gradient(smooth, 2.0))
    push = gradient * np.exp(-((distance / 15.0) ** 2))
    return Template(
        priors=Field(torch.from_numpy(priors), origin, 1.0),
        skull=Field(torch.from_numpy(skull[None]), skull_origin, 2.0),
        push=Field(torch.from_numpy(push.astype(np.float32)), origin, 2.0),
        ventricle_distance=Field(torch.from_numpy(distance[None].astype(np.float32)), origin, 2.0),
    )
