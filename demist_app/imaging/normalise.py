"""Intensities on the scale that the models know."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demist_app.imaging.volumes import InputError


class Scale(NamedTuple):
    """Intensities that became 0 and 1."""

    lower: float
    upper: float


def normalise(
    data: npt.NDArray[Any], mask: npt.NDArray[Any], upper: float = 99.5
) -> tuple[npt.NDArray[np.float32], Scale]:
    """Scale the brain's 0 to ``upper`` percentile range to [0, 1], as the paper does.

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
    ndarray, Scale
        float32 in [0, 1], 0 outside the mask; and the two intensities that became 0 and 1.

    Raises
    ------
    InputError
        The mask is empty, or one value fills it.

    Examples
    --------
    >>> data = np.array([0.0, 2.0, 4.0, 6.0, 99.0])
    >>> scaled, scale = normalise(data, data < 99, upper=100)
    >>> scaled.tolist(), scale
    ([0.0, 0.3333333432674408, 0.6666666865348816, 1.0, 0.0], Scale(lower=0.0, upper=6.0))
    """
    brain = mask != 0
    if not brain.any():
        raise InputError('The brain mask is empty; give one, or check that the scan shows a brain.')
    intensities = np.maximum(data, 0).astype(np.float32)
    lower, higher = (float(q) for q in np.percentile(intensities[brain], [0, upper]))
    if lower == higher:
        raise InputError(
            f'The image has the one value {lower:g} inside the brain; check that scan and mask '
            'belong together.'
        )
    scaled = np.clip((intensities - lower) / (higher - lower), 0, 1)
    return np.where(brain, scaled, 0).astype(np.float32), Scale(lower, higher)
