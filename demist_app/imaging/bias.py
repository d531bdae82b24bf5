"""Receive-coil bias."""

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image

from demist_app.imaging.conform import itk_image
from demist_app.imaging.volumes import InputError

LEVELS = 4
ITERATIONS = 50
"""At each level; fewer where the field converges."""


class Corrected(NamedTuple):
    """An image without its bias, and the bias: image = corrected × field."""

    image: Nifti1Image
    field: Nifti1Image


def correct_bias(
    image: Nifti1Image, mask: Nifti1Image, threads: int, spacing: float = 4.0
) -> Corrected:
    """Remove slow multiplicative intensity changes by N4 [1]_ (SimpleITK).

    Parameters
    ----------
    image
        3-D image with positive intensities in the brain.
    mask
        Brain, on the same grid: the only voxels that the field is fitted to.
    threads
        Threads to use.
    spacing
        The field is fitted to voxels about this many mm apart, along each axis.

    Returns
    -------
    Corrected
        float32 image and field; the field's geometric mean over the brain is 1, so brain
        intensities stay on their scale.

    Raises
    ------
    InputError
        The mask is empty.

    References
    ----------
    .. [1] Tustison et al., N4ITK: improved N3 bias correction. IEEE Trans Med Imaging
       2010;29(6):1310-20.
    """
    brain = np.asarray(mask.dataobj) != 0
    if not brain.any():
        raise InputError('The brain mask is empty; give one, or check that the scan shows a brain.')
    data = np.asarray(image.dataobj, dtype=np.float32)
    zooms = voxel_sizes(image.affine)
    factors = np.maximum(np.round(spacing / zooms), 1).astype(int).tolist()
    whole = itk_image(data, image.affine)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(threads)
    n4.SetMaximumNumberOfIterations([ITERATIONS] * LEVELS)
    n4.Execute(
        sitk.Shrink(whole, factors),
        sitk.Shrink(itk_image(brain.astype(np.uint8), image.affine), factors),
    )
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).T
    field = np.exp(log_field - log_field[brain].mean()).astype(np.float32)
    return Corrected(Nifti1Image(data / field, image.affine), Nifti1Image(field, image.affine))
