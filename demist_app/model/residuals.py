"""The standard deviation of a regression: that of residuals where the same was predicted."""

import numpy as np
from numpy.typing import NDArray

PSR_MAX = 25.0  # percent; beyond it a fitted pool size ratio is an artefact
_BIN_WIDTH = 1.0  # percent
_BINS = round(PSR_MAX / _BIN_WIDTH)
_RARE = 1e-4  # a bin with a smaller share of a brain borrows from its neighbours


class Residuals:
    """A table of residuals over subjects, each with the same weight whatever its brain volume."""

    def __init__(self) -> None:
        self._squares, self._counts = np.zeros(_BINS), np.zeros(_BINS)

    def add(self, predicted: NDArray[np.floating], target: NDArray[np.floating]) -> None:
        """Add one subject.

        Parameters
        ----------
        predicted, target : ndarray, shape (N,)
            Percent, inside the brain.
        """
        index = np.clip(predicted / _BIN_WIDTH, 0, _BINS - 1).astype(int)
        self._squares += np.bincount(index, (target - predicted) ** 2, _BINS) / len(target)
        self._counts += np.bincount(index, minlength=_BINS) / len(target)

    def table(self) -> NDArray[np.float64]:
        """Return the SD where the prediction lies in [i, i + 1) percent, shape (25,)."""
        seen = self._counts > _RARE
        centres = np.arange(_BINS)
        sd = np.sqrt(self._squares[seen] / self._counts[seen])
        return np.interp(centres, centres[seen], sd)


def residual_sd(
    predicted: NDArray[np.floating], table: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the SD that belongs to predictions, percent, from `Residuals.table`.

    It belongs to raw predictions: where one is clipped, the error is not smaller.
    """
    centres = (np.arange(len(table)) + 0.5) * _BIN_WIDTH
    sd: NDArray[np.float64] = np.interp(predicted, centres, table)
    return sd
