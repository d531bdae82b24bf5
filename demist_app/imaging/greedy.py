"""Calls of greedy (Yushkevich et al. 2016) in memory, its prints captured.

A matrix maps the fixed image's RAS+ mm to the moving image's.

References
----------
Yushkevich et al., Fast automatic segmentation of hippocampal subfields and medial temporal lobe
subregions in 3 tesla and 7 tesla T2-weighted MRI. Alzheimer's & Dementia 2016;12(7S):P126-P127.
"""

import ctypes
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from picsl_greedy import Greedy3D

from demist_app.imaging.conform import Matrix, itk_image

SEED = 1
"""Of the jitter of greedy's sample points, which without a seed differs between runs."""


class Linear(NamedTuple):
    """A linear registration: 4×4 matrix, log."""

    matrix: Matrix
    log: str


class Deformable(NamedTuple):
    """A deformable registration: displacement (i, j, k, 3) in LPS mm at fixed voxels, log."""

    displacement: Matrix
    log: str


def linear(
    fixed: Nifti1Image, region: Nifti1Image, moving: Nifti1Image, start: Matrix, options: str
) -> Linear:
    """Refine a linear transform.

    One thread, because greedy adds up its histograms in the order in which threads finish: same
    images, same bits.

    Parameters
    ----------
    fixed, moving
        3-D images.
    region
        Where in the fixed image the match is judged; same grid.
    start
        4×4, where to start; rotation and translation only.
    options
        greedy's ``-dof``, ``-m``, ``-n``.
    """
    # The start goes into the moving image's geometry, so greedy starts at the identity. With the
    # centre of the fixed image at the origin, far origins cost no precision.
    centre = np.eye(4)
    centre[:3, 3] = apply_affine(fixed.affine, (np.array(fixed.shape) - 1) / 2)
    to_centre = np.linalg.inv(centre)
    greedy = Greedy3D()
    log: list[str] = []
    with _captured(log) as printed:
        greedy.execute(
            f'-a {options} -i fixed moving -gm region -o matrix -seed {SEED} -threads 1',
            out=printed,
            err=printed,
            fixed=itk_image(fixed.dataobj, to_centre @ fixed.affine),
            moving=itk_image(moving.dataobj, to_centre @ np.linalg.inv(start) @ moving.affine),
            region=itk_image(region.dataobj, to_centre @ region.affine),
            matrix=None,
        )
    found = np.asarray(greedy['matrix'], dtype=np.float64)
    return Linear(start @ centre @ found @ to_centre, ''.join(log))


def deformable(
    fixed: Nifti1Image, region: Nifti1Image, moving: Nifti1Image, options: str, threads: int
) -> Deformable:
    """Deform an image that lies on the fixed image's grid already, as smoothly as ``options`` say.

    Parameters
    ----------
    fixed, moving, region
        As for :func:`linear`.
    options
        greedy's ``-m``, ``-n``, ``-s``.
    threads
        Threads to use.
    """
    greedy = Greedy3D()
    log: list[str] = []
    with _captured(log) as printed:
        greedy.execute(
            f'{options} -i fixed moving -gm region -o warp -wp 0 -seed {SEED} -threads {threads}',
            out=printed,
            err=printed,
            fixed=itk_image(fixed.dataobj, fixed.affine),
            moving=itk_image(moving.dataobj, moving.affine),
            region=itk_image(region.dataobj, region.affine),
            warp=None,
        )
    warp = sitk.GetArrayFromImage(greedy['warp'])
    return Deformable(np.moveaxis(warp, (0, 1, 2), (2, 1, 0)), ''.join(log))


@contextmanager
def _captured(log: list[str]) -> Iterator[io.StringIO]:
    """Collect what greedy prints, through the streams it is given and past them.

    Some of its C++ writes straight to the file descriptors. These belong to the whole process: what
    other threads print meanwhile is collected too.
    """
    printed = io.StringIO()
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    sys.stderr.flush()
    flush(None)
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield printed
        finally:
            flush(None)
            for kept, descriptor in zip(saved, (1, 2), strict=True):
                os.dup2(kept, descriptor)
                os.close(kept)
            file.seek(0)
            log += [file.read().decode(errors='replace'), printed.getvalue()]
