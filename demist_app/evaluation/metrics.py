"""How close a synthetic map is to a measured one, in three dimensions and inside the brain.

Two scalings, because the paper's has no fixed unit:

``paper``
    Both maps divided by the 99.5th percentile of the measured one inside the brain and clipped to
    [0, 1]; data range 1. (0 to 99.5 percentile scaling, section 3; the lower end is 0 % PSR.)
``absolute``
    Percent PSR as it is, not clipped; data range `DATA_RANGE` = 20, whatever the scan.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from skimage.metrics import structural_similarity

WINDOW = 11
SIGMA = 1.5
PERCENTILE = 99.5
DATA_RANGE = 20.0
"""Percent PSR; in the absolute scaling PSNR and SSIM are relative to it."""

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fidelity:
    """Agreement of two maps in one scaling.

    Attributes
    ----------
    psnr : float
        dB, 10 log10 of the squared data range over the MSE; infinite where the maps are equal.
    ssim : float
        3-D, 11-voxel Gaussian window of 1.5 voxels SD, population covariance, the maps set to 0
        outside the brain; mean over all voxels of the mask. What demist reports as SSIM.
    ssim_eroded : float
        The same map of SSIM, mean over the voxels whose whole window lies inside the mask, so
        that the background, where all maps agree, counts for nothing; NaN where no window does.
    mse : float
        Mean square difference, in the squared unit of the scaling.
    l1 : float
        Mean absolute difference, in the unit of the scaling.
    ncc : float
        Normalised cross-correlation: Pearson's r over the voxels; NaN where a map is constant.
    """

    psnr: float
    ssim: float
    ssim_eroded: float
    mse: float
    l1: float
    ncc: float


@dataclass(frozen=True)
class Scores(Fidelity):
    """Agreement of two PSR maps: in the paper's scaling, and in percent PSR.

    Attributes
    ----------
    absolute : Fidelity
        In percent PSR, data range 20.
    """

    absolute: Fidelity

    @property
    def mae(self) -> float:
        """Mean absolute error in percentage points of PSR, unscaled."""
        return self.absolute.l1

    def columns(self) -> dict[str, float]:
        """Return all scores by the name of their column in a table.

        The paper's scaling under the plain name, the other with ``_absolute``, except for its L1,
        which is ``mae``.
        """
        plain = asdict(self)
        absolute = plain.pop('absolute')
        mae = absolute.pop('l1')
        return plain | {'mae': mae} | {f'{name}_absolute': x for name, x in absolute.items()}


def score(synthetic: Map, measured: Map, mask: Mask) -> Scores:
    """Score a synthetic map (paper, section 3, "Evaluation Protocol").

    Parameters
    ----------
    synthetic, measured : ndarray of float32, shape (X, Y, Z)
        PSR in percent.
    mask : ndarray of bool, shape (X, Y, Z)
        Brain.
    """
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
    inside = np.pad(mask[box], WINDOW)
    ours, theirs = (
        np.pad(np.where(mask, image, 0)[box], WINDOW) for image in (synthetic, measured)
    )
    scale = np.percentile(theirs[inside], PERCENTILE)
    paper = fidelity(np.clip(ours / scale, 0, 1), np.clip(theirs / scale, 0, 1), inside, 1.0)
    return Scores(**asdict(paper), absolute=fidelity(ours, theirs, inside, DATA_RANGE))


def fidelity(first: Map, second: Map, mask: Mask, data_range: float) -> Fidelity:
    """Compare two scaled maps.

    Parameters
    ----------
    first, second : ndarray of float32, shape (X, Y, Z)
        0 outside the mask, at least 11 voxels each way.
    mask : ndarray of bool, shape (X, Y, Z)
        Brain.
    data_range : float
        Largest difference there can be, in the unit of the maps.
    """
    one, other = first[mask].astype(np.float64), second[mask].astype(np.float64)
    _, ssim = structural_similarity(
        first,
        second,
        data_range=data_range,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    eroded = ssim[minimum_filter(mask, WINDOW, mode='constant')]
    mse = np.mean((one - other) ** 2)
    with np.errstate(divide='ignore', invalid='ignore'):
        return Fidelity(
            psnr=float(10 * np.log10(data_range**2 / mse)),
            ssim=float(ssim[mask].mean()),
            ssim_eroded=float(eroded.mean()) if eroded.size else np.nan,
            mse=float(mse),
            l1=float(np.abs(one - other).mean()),
            ncc=float(np.corrcoef(one, other)[0, 1]),
        )


def dice(first: Mask, second: Mask) -> float:
    """Return the Dice overlap of two masks; 1 where both are empty.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
