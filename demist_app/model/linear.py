"""Voxelwise linear regression of PSR on T1w and FLAIR.

The simple model of Sisco, Bagnato, Stokes and Dortch, "Predicting selective inversion recovery
myelin images from routine clinical images and a simple linear model", ISMRM 2022, 3917.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from demist_app.model.residuals import PSR_MAX, Residuals, residual_sd

Image = NDArray[np.float32]


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
        mean[mask] = np.clip(predicted, 0, PSR_MAX)
        sd[mask] = residual_sd(predicted, self.residual_sd)
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
        residuals = Residuals()
        for images, target in self._residuals:
            residuals.add(_design(images) @ coefficients, target)
        return LinearPredictor(coefficients, residuals.table())


def _design(channels: Image) -> NDArray[np.float64]:
    """Return the regressors, shape (N, 3): constant, T1w, FLAIR."""
    n = channels.shape[1]
    return np.concatenate([np.ones((1, n)), channels.astype(np.float64)]).T
