"""What the benchmarks share: reading maps and telling lesions apart."""

from pathlib import Path

import nibabel as nb
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALLEST_LESION = 27.0  # mm³


def load(path: Path) -> NDArray[np.float32]:
    """Read an image, its axes in the order of RAS."""
    return nb.as_closest_canonical(nb.load(path)).get_fdata(dtype=np.float32)


def separate(
    lesions: NDArray[np.bool_], voxel_mm3: float = 1.0
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the 26-connected lesions; return labels, and numbers of those not too small."""
    labels, count = ndimage.label(lesions, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels, 1 + np.flatnonzero(sizes * voxel_mm3 >= SMALLEST_LESION)
