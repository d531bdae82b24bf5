"""Fitting what needs no network: the mean, the linear model; and what all such fits share."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demist_app.model.linear import LinearFit, LinearPredictor
from demist_app.model.residuals import PSR_MAX, Residuals
from demist_app.training.course import Course, Trained
from demist_app.training.examples import Example
from demist_app.training.fit import peak_memory

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Predict = Callable[[Image, Mask], NDArray[np.floating]]
"""From images, (2, X, Y, Z), and mask to PSR inside the mask, (N,), percent."""


def pairs(examples: Sequence[Example]) -> Iterator[tuple[Image, Image, Mask]]:
    """Yield images, PSR and mask of every scan, by all of its protocols, as predictors get them.

    Yields
    ------
    images : ndarray of float32, shape (2, X, Y, Z)
        In [0, 1].
    psr : ndarray of float32, shape (X, Y, Z)
        Percent, clipped to 0-25.
    mask : ndarray of bool, shape (X, Y, Z)
    """
    for example in examples:
        mask = np.asarray(example.mask) > 0
        psr = np.clip(np.asarray(example.psr, np.float32), 0, PSR_MAX)
        for images in example.images:
            yield np.clip(np.asarray(images, np.float32), 0, 1), psr, mask


def residual_table(predict: Predict, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Return the table of residuals over examples, see `Residuals`."""
    residuals = Residuals()
    for images, psr, mask in pairs(examples):
        residuals.add(predict(images, mask), psr[mask])
    return residuals.table()


def voxelwise_facts(
    course: Course, started: float, *, updates: int, parameters: int
) -> dict[str, Any]:
    """Return the facts of a stage without gradient descent, for the accounting of budgets.

    Parameters
    ----------
    course : Course
    started : float
        By `time.monotonic`.
    updates : int
        1 for a closed form, the number of trees for boosting.
    parameters : int
    """
    return {
        'updates': updates,
        'seconds': round(time.monotonic() - started, 1),
        'parameters': parameters,
        'trainable_parameters': parameters,
        'peak_memory_gb': round(peak_memory(torch.device('cpu')), 2),
        'device': f'CPU, 1 x {course.machine.threads} thread(s)',
        'precision': '64-true',
    }


def fit_mean(course: Course, folder: Path) -> Trained:  # noqa: ARG001 - nothing to resume
    """Take the mean PSR of the training scans: the linear model without slopes."""
    started = time.monotonic()
    mean = np.mean([psr[mask].mean(dtype=float) for _, psr, mask in pairs(course.training)])

    def predict(images: Image, mask: Mask) -> NDArray[np.floating]:  # noqa: ARG001
        return np.full(int(mask.sum()), mean)

    table = residual_table(predict, course.training)
    model = LinearPredictor(np.array([mean, 0, 0], float), table)
    return model.tensors(), voxelwise_facts(course, started, updates=1, parameters=1)


def fit_linear(course: Course, folder: Path) -> Trained:  # noqa: ARG001 - nothing to resume
    """Fit PSR to both intensities of a voxel by least squares."""
    started = time.monotonic()
    fit = LinearFit()
    for images, psr, mask in pairs(course.training):
        fit.add(images, psr, mask)
    return fit.solve().tensors(), voxelwise_facts(course, started, updates=1, parameters=3)
