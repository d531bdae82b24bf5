"""Voxelwise linear regression of PSR on T1w and FLAIR.

The simple model of Sisco, Bagnato, Stokes and Dortch, "Predicting selective inversion recovery
myelin images from routine clinical images and a simple linear model", ISMRM 2022, 3917.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

PSR_MAX = 25.0  # percent; beyond it a fitted pool size ratio is an artefact
_BIN_WIDTH = 1.0  # percent, of the table of residuals


@dataclass(frozen=True)
class LinearPredictor:
    """PSR (%) = intercept + a · T1w + b · FLAIR, with a residual SD that depends on the PSR.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (3,)
        Intercept and slopes for T1w and FLAIR in [0, 1]; percent.
    residual_sd : ndarray of float64, shape (25,)
        SD of the residuals where the prediction lies in [i, i + 1) percent.
    """

    coefficients: NDArray[np.float64]
    residual_sd: NDArray[np.float64]

    def predict(self, images: Image, mask: NDArray[np.bool_]) -> tuple[Image, Image]:
        """Predict inside the mask.

        Parameters
        ----------
        images : ndarray of float32, shape (2, X, Y, Z)
            T1w and FLAIR in [0, 1].
        mask : ndarray of bool, shape (X, Y, Z)

        Returns
        -------
        mean, sd : ndarray of float32, shape (X, Y, Z)
            Percent; zero outside the mask.
        """
        mean = np.zeros(mask.shape, np.float32)
        sd = np.zeros(mask.shape, np.float32)
        predicted = _design(images[:, mask]) @ self.coefficients
        # the SD belongs to the raw prediction: where that is clipped, the error is not smaller
        centres = (np.arange(len(self.residual_sd)) + 0.5) * _BIN_WIDTH
        mean[mask] = np.clip(predicted, 0, PSR_MAX)
        sd[mask] = np.interp(predicted, centres, self.residual_sd)
        return mean, sd

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the weights by name, as a bundle stores them."""
        return {'coefficients': self.coefficients, 'residual_sd': self.residual_sd}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild from `tensors`."""
        return cls(tensors['coefficients'], tensors['residual_sd'])


class LinearFit:
    """Least squares over subjects, each with the same weight whatever its brain volume."""

    def __init__(self) -> None:
        self._gram = np.zeros((3, 3))
        self._moment = np.zeros(3)
        self._residuals: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def add(self, images: Image, psr: Image, mask: NDArray[np.bool_]) -> None:
        """Add one subject.

        Parameters
        ----------
        images : ndarray of float32, shape (2, X, Y, Z)
            T1w and FLAIR in [0, 1].
        psr : ndarray of float32, shape (X, Y, Z)
            Measured PSR in percent.
        mask : ndarray of bool, shape (X, Y, Z)
        """
        target = np.clip(psr[mask], 0, PSR_MAX)
        design = _design(images[:, mask])
        self._gram += design.T @ design / len(target)
        self._moment += design.T @ target / len(target)
        self._residuals.append((images[:, mask], target))

    def solve(self) -> LinearPredictor:
        """Return the fitted model.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the scans seen so far do not determine three coefficients.
        """
        coefficients = np.linalg.solve(self._gram, self._moment).astype(np.float64)
        n_bins = round(PSR_MAX / _BIN_WIDTH)
        squares, counts = np.zeros(n_bins), np.zeros(n_bins)
        for images, target in self._residuals:
            predicted = _design(images) @ coefficients
            index = np.clip(predicted / _BIN_WIDTH, 0, n_bins - 1).astype(int)
            squares += np.bincount(index, (target - predicted) ** 2, n_bins) / len(target)
            counts += np.bincount(index, minlength=n_bins) / len(target)
        seen = counts > 1e-4  # a bin with fewer voxels borrows from its neighbours
        centres = np.arange(n_bins)
        sd = np.interp(centres, centres[seen], np.sqrt(squares[seen] / counts[seen]))
        return LinearPredictor(coefficients, sd)


def _design(channels: Image) -> NDArray[np.float64]:
    """Return the regressors, shape (N, 3): constant, T1w, FLAIR."""
    n = channels.shape[1]
    return np.concatenate([np.ones((1, n)), channels.astype(np.float64)]).T
