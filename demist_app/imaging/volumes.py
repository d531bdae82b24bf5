"""Reading, judging and writing single NIfTI volumes.

Images are RAS+ world millimetres as nibabel gives them; data are float32, masks uint8.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from scipy import ndimage

SMALLEST_FIELD_OF_VIEW = 80.0
"""Extent (mm) below which no adult brain fits: its shortest axis, right to left, is about 120."""
VOXEL_SIZES = (0.1, 20.0)
"""Plausible edge lengths of a voxel (mm)."""
THICK_SLICE = 2.0
"""Slices thicker than this (mm) are said in the report: detail between slices is interpolated."""
LARGEST_BRAIN = 2200.0
"""Foreground volume (ml) above which a scan on an empty background shows more than a brain."""
STRONGEST_FIELD = 30.0
"""Magnets for people are weaker (T): a larger number has another unit, or is none."""
RIGHT_ANGLE_TOLERANCE = 0.05
"""Largest cosine between two voxel axes (0.05 is 3 degrees)."""


class InputError(ValueError):
    """An image that cannot be used; the message says which, why and what to do."""


def load_volume(
    path: str | os.PathLike[str], what: str = 'T1w', *, blank: bool = False
) -> Nifti1Image:
    """Read one 3-D NIfTI volume, completely, and refuse whatever would go wrong later.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz`` file, NIfTI-1 or NIfTI-2. The content decides whether it is
        decompressed, not the name.
    what
        How messages call the image.
    blank
        Accept an image of one value, e.g. the lesion mask of a healthy person.

    Returns
    -------
    Nifti1Image
        float32 data of shape (i, j, k), in memory; sform and qform codes as in the file.

    Raises
    ------
    InputError
        File missing, empty, truncated or not NIfTI; several volumes, colours or complex numbers;
        NaN or infinite voxels; one value only; an impossible affine; a field of view smaller
        than a brain.
    """
    path = Path(path)
    content = _read_bytes(path, what)
    image = _parse(content, path, what)
    dtype = image.get_data_dtype()
    if dtype.fields is not None:
        raise InputError(f'{path}: the {what} holds colours, not intensities; give a grey image.')
    if np.issubdtype(dtype, np.complexfloating):
        raise InputError(f'{path}: the {what} holds complex numbers; give the magnitude image.')
    shape = _shape_3d(image.shape, path, what)
    _check_geometry(image, shape, path, what)
    # The header itself forgets its offset on reading
    offset = cast(ArrayProxy, image.dataobj).offset
    if offset + math.prod(shape) * dtype.itemsize > len(content):
        raise InputError(
            f'{path}: the {what} ends before its last voxel; copy or convert it again.'
        )
    with np.errstate(over='ignore'):  # beyond float32 is infinite, refused below
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape, order='F')
    _check_values(data, path, what, blank=blank)
    volume = Nifti1Image(data, image.affine, image.header)
    volume.set_data_dtype(np.float32)
    return volume


def save_volume(data: npt.NDArray[Any], affine: npt.NDArray[Any], path: str | Path) -> Path:
    """Write a NIfTI-1 file so that it appears whole or not at all, always with the same bytes.

    Parameters
    ----------
    data
        3-D, or (i, j, k, 1, 3) for an ITK displacement field. Integers and booleans are
        written as uint8, all else as float32; neither is scaled.
    affine
        4×4 voxel to RAS+ mm, written as sform and (as far as a qform can say it) qform.
    path
        ``.nii`` or ``.nii.gz``; its folder is made where missing.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    ValueError
        An integer value that uint8 cannot hold.
    """
    path = Path(path)
    integers = data.dtype == np.bool_ or np.issubdtype(data.dtype, np.integer)
    if integers and data.size and not 0 <= int(data.min()) <= int(data.max()) <= 255:
        raise ValueError(f'{path.name}: values {data.min()} to {data.max()} do not fit into uint8')
    image = Nifti1Image(data.astype(np.uint8 if integers else np.float32), affine)
    image.header.set_xyzt_units('mm')
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if data.ndim == 5:
        image.header.set_intent('vector')
    content = image.to_bytes()
    if path.name.endswith('.gz'):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    with written_aside(path) as aside:
        aside.write_bytes(content)
    return path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a hidden name beside ``path`` to write to; rename it to ``path`` on success only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def header_warnings(image: Nifti1Image, metadata: Mapping[str, Any]) -> list[str]:
    """Say what a header and its sidecar leave open or make worse.

    Parameters
    ----------
    image
        As :func:`load_volume` gives it.
    metadata
        The BIDS sidecar.

    Returns
    -------
    list of str
        One sentence each, without the file's name; empty when all is well.
    """
    warnings = []
    header = image.header
    sform, qform = int(header['sform_code']), int(header['qform_code'])
    if sform == 0 and qform == 0:
        warnings.append(
            'The header states no orientation (sform and qform codes are 0): left and right may '
            'be exchanged.'
        )
    elif sform > 0 and qform > 0:
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1)
        difference = (header.get_sform() - header.get_qform()) @ np.vstack([corners, np.ones(8)])
        distance = float(np.abs(difference).max())
        if distance > 1.0:
            warnings.append(
                f'The sform and qform differ by up to {distance:.0f} mm: the sform was used.'
            )
    thickest = float(max(voxel_sizes(image.affine)))
    if thickest > THICK_SLICE:
        warnings.append(
            f'The slices are {thickest:.1f} mm thick: detail between slices is interpolated.'
        )
    field = field_strength(metadata)
    if field is None:
        warnings.append('The sidecar states no MagneticFieldStrength: 3 T was assumed.')
    elif not 2.5 <= field <= 3.5:
        warnings.append(
            f'The scan was made at {field:g} T, PSR is defined here at 3 T: contrast, and with '
            'it the map, may be off.'
        )
    return warnings


def field_strength(metadata: Mapping[str, Any]) -> float | None:
    """Return the sidecar's field strength in tesla; None where it states no plausible number."""
    field = metadata.get('MagneticFieldStrength')
    if isinstance(field, bool) or not isinstance(field, int | float):
        return None
    return float(field) if 0 < field < STRONGEST_FIELD else None


def is_skull_stripped(image: Nifti1Image, metadata: Mapping[str, Any]) -> bool:
    """Tell whether a scan shows a brain only.

    The sidecar's ``SkullStripped`` decides. Without it, a scan counts as stripped when at least a
    third of its voxels are one empty background and the rest is no larger than a brain: raw scans
    have noise around the head, and a head on an empty background (defaced, or masked by the
    scanner) is larger.

    Parameters
    ----------
    image
        As :func:`load_volume` gives it.
    metadata
        The BIDS sidecar.
    """
    if isinstance(metadata.get('SkullStripped'), bool):
        return bool(metadata['SkullStripped'])
    data = np.asarray(image.dataobj)
    # Interpolation leaves ripples of a thousandth around a stripped brain
    foreground = np.abs(data) > 1e-3 * np.percentile(np.abs(data), 99.9)
    # Sulci, ventricles and dark blood inside the outline belong to it
    outline = ndimage.binary_fill_holes(foreground)
    volume = float(outline.sum()) * float(np.prod(voxel_sizes(image.affine))) / 1000
    return float(foreground.mean()) < 2 / 3 and volume < LARGEST_BRAIN


def _read_bytes(path: Path, what: str) -> bytes:
    """Content of the file, decompressed to its end so that the checksum is verified."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device would never end
            raise InputError(f'{path}: the {what} cannot be read (not a file); check the path.')
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f'{path}: there is no such {what}; check the path.') from error
    except OSError as error:
        raise InputError(
            f'{path}: the {what} cannot be read ({error.strerror}); check the permissions.'
        ) from error
    if not content:
        raise InputError(f'{path}: the {what} is an empty file; copy or convert it again.')
    if content[:2] != b'\x1f\x8b':
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f'{path}: the {what} is truncated or damaged (gzip); copy or convert it again.'
        ) from error


def _parse(content: bytes, path: Path, what: str) -> Nifti1Image:
    kind = Nifti2Image if content[4:7] == b'n+2' else Nifti1Image
    if content[4:7] != b'n+2' and content[344:347] != b'n+1':
        raise InputError(f'{path}: the {what} is not a NIfTI file; convert it to .nii.gz.')
    try:
        return kind.from_bytes(content)
    except (OSError, ValueError, OverflowError, HeaderDataError, WrapStructError) as error:
        raise InputError(
            f'{path}: the NIfTI header of the {what} is damaged ({error}); convert it again.'
        ) from error


def _shape_3d(shape: tuple[int, ...], path: Path, what: str) -> tuple[int, int, int]:
    volumes = math.prod(shape[3:])
    if volumes > 1:
        raise InputError(
            f'{path}: the {what} holds {volumes} volumes; extract the one to use as a 3-D image.'
        )
    i, j, k = (*shape[:3], 1, 1, 1)[:3]
    if min(i, j, k) < 2 or volumes == 0:
        size = '×'.join(str(n) for n in shape)
        raise InputError(f'{path}: the {what} is no volume (size {size}); give a 3-D image.')
    return i, j, k


def _check_geometry(image: Nifti1Image, shape: tuple[int, int, int], path: Path, what: str) -> None:
    linear = image.affine[:3, :3]
    remedy = 'repair the header or convert the scan again.'
    if not np.isfinite(image.affine).all():
        raise InputError(f'{path}: the affine of the {what} holds NaN or infinity; {remedy}')
    zooms = np.linalg.norm(linear, axis=0)
    if not (VOXEL_SIZES[0] <= zooms.min() and zooms.max() <= VOXEL_SIZES[1]):
        sizes = ' × '.join(f'{zoom:.3g}' for zoom in zooms)
        raise InputError(f'{path}: the voxels of the {what} measure {sizes} mm; {remedy}')
    cosines = np.abs((linear / zooms).T @ (linear / zooms) - np.eye(3))
    if cosines.max() > RIGHT_ANGLE_TOLERANCE:
        raise InputError(
            f'{path}: the voxel axes of the {what} are not at right angles (singular or sheared '
            f'affine); {remedy}'
        )
    extent = zooms * shape
    if extent.min() < SMALLEST_FIELD_OF_VIEW:
        sizes = ' × '.join(f'{length:.0f}' for length in extent)
        raise InputError(
            f'{path}: the {what} covers {sizes} mm, too little for a brain; give a scan of the '
            f'whole brain (at least {SMALLEST_FIELD_OF_VIEW:.0f} mm along each axis).'
        )


def _check_values(data: npt.NDArray[np.float32], path: Path, what: str, *, blank: bool) -> None:
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise InputError(
            f'{path}: {bad} of {data.size} voxels of the {what} are NaN or infinite; replace '
            'them (by 0 outside the head) and run again.'
        )
    if data.min() == data.max() and not blank:
        raise InputError(
            f'{path}: every voxel of the {what} is {data.flat[0]:g}; the scan holds no image, '
            'convert it again.'
        )
