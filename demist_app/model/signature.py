"""What can be seen of a pair of scans at a glance: numbers by which unlike pairs are told apart."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from demist_app.model.intensities import CHANNELS, Image

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Signature = dict[str, Array]
"""Group of features to its values; what a group is about is in its name."""

# not the darkest tenth: how much CSF there is depends on the mask
_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95)
_BINS = 10
_RIM = 3  # voxels; differences across the edge of the brain tell of its mask
_STEP = 4  # one voxel of so many: enough for every statistic here
_TISSUE = (0.3, 0.9)  # quantiles between which intensities are of tissue, mostly
_FAINT = 1e-4


def signature(images: Image, mask: NDArray[np.bool_]) -> Signature:
    """Describe a pair of scans.

    Parameters
    ----------
    images : ndarray, shape (2, X, Y, Z)
        T1w and FLAIR, as predictors get them.
    mask : ndarray of bool, shape (X, Y, Z)
        Brain.

    Returns
    -------
    dict
        For each scan: ``intensities``, quantiles; ``detail``, how strong first and second
        differences along the axes are, and mixed ones, which only noise has; ``shading``, the
        slopes of log intensity along the axes. For both: ``contrast``, how the intensities of one
        follow those of the other; ``edges``, whether they lie in the same places.
    """
    images = np.clip(images, 0, 1).astype(np.float32) * mask
    inner = np.flatnonzero(ndimage.binary_erosion(mask, iterations=_RIM))[::_STEP]
    inside = np.flatnonzero(mask)[::_STEP]
    found: Signature = {}
    gradients = []
    for channel, image in zip(CHANNELS, images, strict=True):
        found[f'{channel} intensities'] = np.quantile(image.ravel()[inside], _QUANTILES)
        found[f'{channel} detail'] = np.array(
            [np.log(np.median(np.abs(d)) + _FAINT) for d in _differences(image, inner)]
        )
        found[f'{channel} shading'] = _slopes(image, inner)
        smooth = ndimage.uniform_filter(image, 3).ravel()
        steps = [2 * stride for stride in _strides(image.shape)]
        gradients.append(np.stack([smooth[inner + n] - smooth[inner - n] for n in steps]))
    found['contrast'] = _contrast(*(image.ravel()[inside] for image in images))
    found['edges'] = _common_edges(*gradients)
    return found


def exchanged(found: Signature) -> Signature:
    """Return the signature of the same pair with T1w and FLAIR exchanged."""
    other = dict(found)
    for kind in ('intensities', 'detail', 'shading'):
        t1w, flair = (f'{channel} {kind}' for channel in CHANNELS)
        other[t1w], other[flair] = found[flair], found[t1w]
    contrast = found['contrast']
    other['contrast'] = np.r_[contrast[0], contrast[1 + _BINS :], contrast[1 : 1 + _BINS]]
    return other


def _strides(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return how far neighbours along each axis are apart in the raveled volume."""
    return shape[1] * shape[2], shape[2], 1


def _differences(image: Values, where: NDArray[np.intp]) -> Iterator[Values]:
    """Yield first and second differences along each axis, and the second along all three."""
    flat, strides = image.ravel(), _strides(image.shape)
    for n in strides:
        yield flat[where + n] - flat[where - n]
    for n in strides:
        yield flat[where - n] - 2 * flat[where] + flat[where + n]
    mixed = np.zeros(len(where), np.float32)
    for offset in product((-1, 0, 1), repeat=3):
        weight = (-2) ** offset.count(0)
        mixed += weight * flat[where + np.dot(offset, strides)]
    yield mixed


def _slopes(image: Values, where: NDArray[np.intp]) -> Array:
    values = image.ravel()[where]
    low, high = np.quantile(values, _TISSUE)
    tissue = (values > low) & (values < high)
    places = np.stack(np.unravel_index(where[tissue], image.shape), axis=1)
    design = np.c_[np.ones(len(places)), places / np.array(image.shape)]
    slopes: Array = np.linalg.lstsq(design, np.log(values[tissue] + 1e-3), rcond=None)[0][1:]
    return slopes


def _contrast(t1w: Values, flair: Values) -> Array:
    """Return the correlation, and for both ways what one is in the deciles of the other."""
    found = [_correlation(t1w - t1w.mean(), flair - flair.mean())]
    for one, other in ((t1w, flair), (flair, t1w)):
        parts = np.array_split(other[np.argsort(one, kind='stable')], _BINS)
        found += [float(part.mean()) for part in parts[1:]]
        found.append(float(np.sqrt(np.mean([part.var() for part in parts]))))
    return np.array(found, float)


def _common_edges(t1w: Values, flair: Values) -> Array:
    """Return how alike gradients are, (3, N), and how alike but for their sign."""
    along = np.sum(t1w * flair, axis=0)
    size = np.sqrt(np.sum(t1w**2) * np.sum(flair**2)) + 1e-12
    found: Array = np.array([along.sum(), np.abs(along).sum()], float) / size
    return found


def _correlation(one: Values, other: Values) -> float:
    return float(np.sum(one * other) / (np.sqrt(np.sum(one**2) * np.sum(other**2)) + 1e-12))
