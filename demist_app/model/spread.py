"""Mean and standard deviation of what a sampling model gives; no draw is kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demist_app.model.residuals import residual_sd

_MEANING = 'How far the PSR of a voxel may lie from this map: '
_OF_DRAWS = (
    'the standard deviation over draws, times √(1 + 1 / Draws), since their mean is of a finite '
    'number, times SDScale. '
)
_OF_ERRORS = (
    "that of this model's errors where it predicted the same PSR, in {units} scans that it was not "
    'trained on.'
)
_LEARNED = 'SDScale was learned from {units} scans that the model was not trained on.'
_UNKNOWN = (
    'SDScale is 1 because this model was never compared with its errors: they may be far larger.'
)


class Spread:
    """Running mean and SD (Welford, Technometrics 1962).

    Parameters
    ----------
    uncertainty : mapping, optional
        Of a bundle's metadata: of how many ``units`` it was learned, and either ``sd_scale``, the
        factor on the SD over draws, or ``residual_sd``, the table of
        `demist_app.model.residuals.Residuals` that takes its place where draws hardly differ.
    """

    def __init__(self, uncertainty: Mapping[str, Any] | None = None) -> None:
        self.uncertainty = uncertainty or {}
        self.draws = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    @property
    def scale(self) -> float:
        """Factor on the SD over draws; 1 if none was learned."""
        return float(self.uncertainty.get('sd_scale', 1))

    def add(self, values: NDArray[Any]) -> None:
        """Take one draw in; all have one shape."""
        self.draws += 1
        change = values - self.mean
        self.mean = self.mean + change / self.draws
        self._squares = self._squares + change * (values - self.mean)

    @property
    def sd(self) -> NDArray[Any] | None:
        """SD of what may be observed about the mean; None for a single draw without a table.

        The mean of n draws errs by 1 / n of their variance more than their expectation does
        (Fortin et al., J Hydrometeorol 2014, 15:1708).
        """
        if table := self.uncertainty.get('residual_sd'):
            return residual_sd(self.mean, np.asarray(table))
        if self.draws == 1:
            return None
        n = self.draws
        stated: NDArray[Any] = self.scale * np.sqrt((1 + 1 / n) * self._squares / (n - 1))
        return stated

    def facts(self) -> dict[str, Any]:
        """Say for the sidecar how many draws there are, and what the SD means."""
        facts: dict[str, Any] = {'Draws': self.draws}
        if 'residual_sd' in self.uncertainty:
            meaning = _MEANING + _OF_ERRORS.format(**self.uncertainty)
            return facts | {'SDCalibrated': True, 'SDMeaning': meaning}
        if self.draws == 1:
            return facts
        learned = _LEARNED.format(**self.uncertainty) if self.uncertainty else _UNKNOWN
        return facts | {
            'SDScale': self.scale,
            'SDCalibrated': bool(self.uncertainty),
            'SDMeaning': _MEANING + _OF_DRAWS + learned,
        }


def draws_stated(facts: Mapping[str, Any]) -> int:
    """Return how many draws a sidecar's SD is of; 1 for a model that states that of its errors.

    Parameters
    ----------
    facts : mapping
        As `Spread.facts` gives them, of a map with an SD.

    Examples
    --------
    >>> draws_stated({'Draws': 2, 'SDScale': 1.4}), draws_stated({'Draws': 2})
    (2, 1)
    """
    return int(facts['Draws']) if 'SDScale' in facts else 1
