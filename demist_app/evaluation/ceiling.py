"""How much of a map's error is noise of the measurement, and how much PSR the scans leave open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Ceiling:
    """Where the error of a map comes from; mean squares in squared percentage points of PSR.

    Attributes
    ----------
    total : float
        Of the map minus the measured one.
    noise : float
        Of the measured map minus the noise-free one: what no model can predict.
    model : float
        Of the map minus the noise-free one: what a better model might save.
    bias : float
        Mean of the map minus the noise-free one, percentage points.
    explained : float
        Squared correlation with the noise-free map.
    """

    total: float
    noise: float
    model: float
    bias: float
    explained: float

    @property
    def undetermined(self) -> float:
        """Share of the variance of noise-free PSR that the map leaves open, after the best line.

        Of a model fitted to T1w and FLAIR it is an upper bound of what these do not determine: a
        better model might leave less.
        """
        return 1 - self.explained

    @property
    def gap_db(self) -> float:
        """How much PSNR the map is below a noise-free one, dB, both scored on the measured map."""
        return float(10 * np.log10(self.total / self.noise))


def ceiling(synthetic: ArrayLike, measured: ArrayLike, noise_free: ArrayLike) -> Ceiling:
    """Split the error of a map.

    Parameters
    ----------
    synthetic, measured, noise_free : array_like, shape (n,)
        Percent PSR of the same voxels, lesions or participants. Noise-free is what the measurement
        would give without noise (same resolution, same fit); only a phantom has it.
    """
    ours, found, clean = (np.asarray(a, np.float64) for a in (synthetic, measured, noise_free))
    difference = ours - clean
    return Ceiling(
        total=float(np.mean((ours - found) ** 2)),
        noise=float(np.mean((found - clean) ** 2)),
        model=float(np.mean(difference**2)),
        bias=float(difference.mean()),
        explained=float(np.corrcoef(ours, clean)[0, 1] ** 2),
    )
