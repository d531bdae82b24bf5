"""Mean and standard deviation over draws, as a sampling model states them; no draw is kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MEANING = (
    'How far the PSR of a voxel may lie from this map: the standard deviation over draws, times '
    '√(1 + 1 / Draws), since their mean is of a finite number, times SDScale. '
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
        Of a bundle's metadata: ``sd_scale``, the factor on the SD, and of how many ``units`` it
        was learned.
    """

    def __init__(self, uncertainty: Mapping[str, Any] | None = None) -> None:
        self.uncertainty = uncertainty
        self.draws = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    @property
    def scale(self) -> float:
        """Factor on the SD over draws; 1 if none was learned."""
        return float(self.uncertainty['sd_scale']) if self.uncertainty else 1.0

    def add(self, values: NDArray[Any]) -> None:
        """Take one draw in; all have one shape."""
        self.draws += 1
        change = values - self.mean
        self.mean = self.mean + change / self.draws
        self._squares = self._squares + change * (values - self.mean)

    @property
    def sd(self) -> NDArray[Any] | None:
        """SD of what may be observed about the mean; None for a single draw.

        The mean of n draws errs by 1 / n of their variance more than their expectation does
        (Fortin et al., J Hydrometeorol 2014, 15:1708).
        """
        if self.draws == 1:
            return None
        n = self.draws
        stated: NDArray[Any] = self.scale * np.sqrt((1 + 1 / n) * self._squares / (n - 1))
        return stated

    def facts(self) -> dict[str, Any]:
        """Say for the sidecar how many draws there are, and what the SD means."""
        if self.draws == 1:
            return {'Draws': 1}
        learned = _LEARNED.format(**self.uncertainty) if self.uncertainty else _UNKNOWN
        return {
            'Draws': self.draws,
            'SDScale': self.scale,
            'SDCalibrated': self.uncertainty is not None,
            'SDMeaning': _MEANING + learned,
        }
