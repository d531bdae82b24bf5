"""How close a synthetic map is to a measured one, inside the brain, in the paper's scaling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

WINDOW = 11
SIGMA = 1.5


@dataclass(frozen=True)
class Scores:
    """Agreement of two PSR maps.

    Attributes
    ----------
    psnr : float
        dB, of the maps divided by the 99.5 percentile of the measured one and clipped to [0, 1].
    ssim : float
        Of the same maps: 3-D, 11-voxel Gaussian window of 1.5 voxels SD, mean over the mask.
    mae : float
        Mean absolute error in percentage points of PSR, unscaled.
    """

    psnr: float
    ssim: float
    mae: float


def score(
    synthetic: NDArray[np.float32], measured: NDArray[np.float32], mask: NDArray[np.bool_]
) -> Scores:
    """Score a synthetic map (paper, section 3, "Evaluation Protocol").

    Parameters
    ----------
    synthetic, measured : ndarray of float32, shape (X, Y, Z)
        PSR in percent.
    mask : ndarray of bool, shape (X, Y, Z)
        Brain.
    """
    scale = np.percentile(measured[mask], 99.5)
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
    first, second = (
        np.pad(np.clip(np.where(mask, image, 0)[box] / scale, 0, 1), WINDOW)
        for image in (synthetic, measured)
    )
    inside = np.pad(mask[box], WINDOW)
    _, ssim = structural_similarity(
        first,
        second,
        data_range=1,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    mse = np.mean((first[inside] - second[inside]) ** 2)
    with np.errstate(divide='ignore'):
        psnr = -10 * np.log10(mse)
    return Scores(
        psnr=float(psnr),
        ssim=float(ssim[inside].mean()),
        mae=float(np.abs(synthetic[mask] - measured[mask]).mean()),
    )


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the Dice overlap of two masks; 1 where both are empty.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
