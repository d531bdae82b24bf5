"""Linear transforms in files that other tools apply.

A matrix here maps RAS+ mm of the fixed image to RAS+ mm of the moving image: what resampling the
moving image onto the fixed grid needs, and what ANTs, ITK and BIDS call the transform from moving
to fixed (``from-FLAIR_to-T1w``).
"""

import os
from pathlib import Path

import nitransforms.linear
import numpy as np
from nibabel.nifti1 import Nifti1Image

from demist_app.imaging.conform import LPS, Matrix
from demist_app.imaging.volumes import InputError, written_aside


def write_itk(matrix: Matrix, path: str | os.PathLike[str]) -> Path:
    """Write an ITK text transform (LPS+), readable by ANTs, ITK-SNAP, SimpleITK and Slicer.

    Parameters
    ----------
    matrix
        4×4, fixed to moving, RAS+ mm.
    path
        Ends in ``.txt`` (or ``.tfm``).

    Returns
    -------
    Path
        The written file.
    """
    lps = LPS @ matrix @ LPS
    # repr of a float is the shortest text that reads back to the same bits
    parameters = ' '.join(repr(float(x)) for x in (*lps[:3, :3].ravel(), *lps[:3, 3]))
    path = Path(path)
    with written_aside(path) as aside:
        aside.write_text(
            '#Insight Transform File V1.0\n'
            '#Transform 0\n'
            'Transform: AffineTransform_double_3_3\n'
            f'Parameters: {parameters}\n'
            'FixedParameters: 0 0 0\n'
        )
    return path


def read_itk(path: str | os.PathLike[str]) -> Matrix:
    """Read a linear ITK text transform, also one with a centre of rotation.

    Returns
    -------
    ndarray
        4×4, fixed to moving, RAS+ mm.

    Raises
    ------
    InputError
        The file holds no single 3-D matrix transform.
    """
    fields = dict(
        line.split(': ', 1)
        for line in Path(path).read_text(encoding='ascii', errors='replace').splitlines()
        if ': ' in line
    )
    try:
        numbers = np.array([float(x) for x in fields['Parameters'].split()])
        centre = np.array([float(x) for x in fields['FixedParameters'].split()][:3])
        linear, translation = numbers[:9].reshape(3, 3), numbers[9:].reshape(3)
        offset = translation + centre - linear @ centre
    except (KeyError, ValueError) as error:
        raise InputError(
            f'{path}: not an affine ITK text transform; give one written by demist or ANTs.'
        ) from error
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = linear, offset
    return LPS @ lps @ LPS


def write_x5(matrix: Matrix, fixed: Nifti1Image, path: str | os.PathLike[str]) -> Path:
    """Write the matrix in the draft BIDS transform format X5 (HDF5, RAS+), by nitransforms.

    Parameters
    ----------
    matrix
        4×4, fixed to moving, RAS+ mm.
    fixed
        The fixed image; its grid is noted as the transform's domain.
    path
        Ends in ``.x5``.

    Returns
    -------
    Path
        The written file.
    """
    path = Path(path)
    with written_aside(path) as aside:
        nitransforms.linear.Affine(matrix, reference=fixed).to_filename(str(aside), fmt='X5')
    return path


def read_x5(path: str | os.PathLike[str]) -> Matrix:
    """Read what :func:`write_x5` wrote: 4×4, fixed to moving, RAS+ mm."""
    affine = nitransforms.linear.Affine.from_filename(str(path), fmt='X5')
    return np.asarray(affine.matrix, dtype=np.float64)
