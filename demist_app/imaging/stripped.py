"""The brain of a scan whose skull was removed by someone else."""

import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from demist_app.imaging.volumes import InputError

# Interpolation and compression leave ripples around a stripped brain
_RIPPLE = 1e-3


def brain_of_stripped(image: Nifti1Image) -> Nifti1Image:
    """Return the mask of what is left in a skull-stripped scan.

    The largest piece that is not background, with its holes filled: ventricles and dark vessels
    belong to the brain.

    Parameters
    ----------
    image
        Skull-stripped scan, background zero.

    Returns
    -------
    Nifti1Image
        uint8, on the same grid.

    Raises
    ------
    InputError
        The scan has no background, so nothing was removed from it.
    """
    data = np.abs(np.asarray(image.dataobj, dtype=np.float32))
    foreground = data > _RIPPLE * np.percentile(data, 99.9)
    if foreground.mean() > 0.95:
        raise InputError(
            'the scan is said to be skull-stripped but has no empty background; '
            'correct "SkullStripped" in its sidecar or use --skull-strip force'
        )
    pieces, _ = ndimage.label(foreground)
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    mask = ndimage.binary_fill_holes(largest).astype(np.uint8)
    return Nifti1Image(mask, image.affine)
