"""Gradient boosting of PSR on the neighbourhood of a voxel, its trees kept as plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

SIGMAS_MM = (3.0, 8.0)
_CHUNK = 8192  # rows whose features stay in the processor's cache


def features(images: Image, mask: NDArray[np.bool_]) -> Image:
    """Return what the trees see of each voxel of the brain.

    Parameters
    ----------
    images : ndarray of float32, shape (2, X, Y, Z)
        T1w and FLAIR in [0, 1], 1 mm.
    mask : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    ndarray of float32, shape (N, 61)
        Of each image the 27 voxels around and two Gaussian means; then the place in the brain, in
        standard deviations of its voxels along x, y and z.
    """
    brain = images * mask
    columns = []
    for image in brain:
        padded = np.pad(image, 1)
        for shift in np.ndindex(3, 3, 3):
            box = tuple(slice(s, s + n) for s, n in zip(shift, image.shape, strict=True))
            columns.append(padded[box][mask])
        columns += [ndimage.gaussian_filter(image, sigma)[mask] for sigma in SIGMAS_MM]
    voxels = np.argwhere(mask).astype(np.float32)
    place = (voxels - voxels.mean(0)) / voxels.std(0)
    return np.concatenate([np.stack(columns, axis=1), place], axis=1)


@dataclass(frozen=True)
class Trees:
    """An ensemble of regression trees whose sum, and a constant, is PSR in percent.

    Attributes
    ----------
    roots : ndarray of int32, shape (T + 1,)
        First node of each tree, and the number of nodes.
    feature : ndarray of int32, shape (M,)
        What a node asks for; 0 at a leaf.
    threshold : ndarray of float32, shape (M,)
        Values above it go right.
    children : ndarray of int32, shape (M, 2)
        Left and right, counted from the root; a leaf is its own child.
    value : ndarray of float64, shape (M,)
        Of a leaf, percent.
    constant : ndarray of float64, shape (1,)
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    children: NDArray[np.int32]
    value: NDArray[np.float64]
    constant: NDArray[np.float64]

    def predict(self, rows: Image) -> NDArray[np.float64]:
        """Predict.

        Parameters
        ----------
        rows : ndarray of float32, shape (N, F)
            As `features` gives them.

        Returns
        -------
        ndarray of float64, shape (N,)
            Percent; not clipped.
        """
        trees = [
            (self.feature[a:b], self.threshold[a:b], self.children[a:b], self.value[a:b])
            for a, b in zip(self.roots[:-1], self.roots[1:], strict=True)
        ]
        depths = [_depth(children) for _, _, children, _ in trees]
        predicted = np.full(len(rows), self.constant[0])
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            values = chunk.ravel()
            first = np.arange(len(chunk), dtype=np.int64) * rows.shape[1]
            for (feature, threshold, children, value), depth in zip(trees, depths, strict=True):
                node = np.zeros(len(chunk), np.int32)
                for _ in range(depth):
                    right = values.take(first + feature.take(node)) > threshold.take(node)
                    node = children.ravel().take(2 * node + right)
                predicted[start : start + _CHUNK] += value.take(node)
        return predicted

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as a bundle stores them."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild from `tensors`; others are not looked at."""
        return cls(**{name: tensors[name] for name in cls.__dataclass_fields__})


def _depth(children: NDArray[np.int32]) -> int:
    """Return how often a row must descend, at most, until it is at a leaf."""
    level, depth = np.zeros(1, np.int32), 0
    while (below := np.unique(children[level])).tolist() != level.tolist():
        level, depth = below, depth + 1
    return depth
