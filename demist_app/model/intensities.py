"""How far a scan's intensities lie from those a model was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

CHANNELS = ('T1w', 'FLAIR')
_QUANTILES = np.linspace(0.05, 0.95, 19)
# A model trained on near-identical scans must not call every other scan an outlier
_SD_FLOOR = 0.02


def profile(images: Image, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return quantiles of the normalised intensities in the brain, shape (channels, 19)."""
    return np.quantile(images[:, mask].astype(np.float64), _QUANTILES, axis=1).T


def reference(profiles: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Summarise the training subjects' profiles for a bundle's metadata."""
    stack = np.stack(profiles)
    return {
        'quantiles': _QUANTILES.round(4).tolist(),
        'mean': dict(zip(CHANNELS, stack.mean(0).round(5).tolist(), strict=True)),
        'sd': dict(zip(CHANNELS, stack.std(0).round(5).tolist(), strict=True)),
        'subjects': len(stack),
    }


def distance(
    images: Image, mask: NDArray[np.bool_], training: Mapping[str, Any]
) -> dict[str, float]:
    """Return how unlike the training scans each channel is.

    Returns
    -------
    dict
        Channel name to the root mean square, over quantiles, of the deviation from the training
        mean in training SDs (at least 0.02 of the intensity range).
    """
    found = deviation(
        profile(images, mask),
        np.array([training['mean'][channel] for channel in CHANNELS]),
        np.array([training['sd'][channel] for channel in CHANNELS]),
    )
    return dict(zip(CHANNELS, found.tolist(), strict=True))


def deviation(
    one: NDArray[np.float64], mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far a profile is from the mean of others, per channel, in their SDs.

    Parameters
    ----------
    one, mean, sd : ndarray, shape (channels, quantiles)
    """
    scaled = (one - mean) / np.maximum(sd, _SD_FLOOR)
    root: NDArray[np.float64] = np.sqrt(np.mean(scaled**2, axis=1))
    return root
