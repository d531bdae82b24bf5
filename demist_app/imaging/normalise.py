"""Intensities on the scale that the models know."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demist_app.imaging.volumes import InputError


def normalise(
    data: npt.NDArray[Any], mask: npt.NDArray[Any], upper: float = 99.5
) -> tuple[npt.NDArray[np.float32], float]:
    """Scale 0 to the brain's ``upper`` percentile to [0, 1] (paper, section 3).

    The paper scales stripped images from their 0th percentile, which is their background, zero.
    The brain's own minimum would hang on single voxels: a mask that takes in one voxel of bone
    shifts every value of the map.

    Parameters
    ----------
    data
        Intensities, any unit; negative ones (ripples of an earlier interpolation) count as 0.
    mask
        Brain, same shape; not zero is brain.
    upper
        Percentile that becomes 1; brighter voxels are clipped to it.

    Returns
    -------
    ndarray, float
        float32 in [0, 1], 0 outside the mask; and the intensity that became 1.

    Raises
    ------
    InputError
        The mask is empty, or one value fills it.

    Examples
    --------
    >>> data = np.array([1.0, 2.0, 4.0, 8.0, 99.0])
    >>> scaled, scale = normalise(data, data < 99, upper=100)
    >>> scaled.tolist(), scale
    ([0.125, 0.25, 0.5, 1.0, 0.0], 8.0)
    """
    brain = mask != 0
    if not brain.any():
        raise InputError('The brain mask is empty; give one, or check that the scan shows a brain.')
    inside = np.maximum(data[brain], 0).astype(np.float32)
    if inside.min() == inside.max():
        raise InputError(
            f'The image has the one value {inside[0]:g} inside the brain; check that scan and mask '
            'belong together.'
        )
    scale = float(np.percentile(inside, upper))
    if not scale:
        raise InputError(
            f'{upper:g} % of the brain is black in the image; check that scan and mask belong '
            'together.'
        )
    scaled = np.zeros(data.shape, np.float32)
    scaled[brain] = np.minimum(inside / scale, 1)
    return scaled, scale
