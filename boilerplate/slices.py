"""Planar cuts through volumes, in millimetres, whatever the voxels' shape and order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from contourpy import contour_generator
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float32]

PIXEL = 0.8
"""Edge of a pixel of a cut in millimetres."""

AXIAL, CORONAL, SAGITTAL = 2, 1, 0
_IN_PLANE = {AXIAL: (0, 1), CORONAL: (0, 2), SAGITTAL: (1, 2)}  # (right, up) on the screen


@dataclass(frozen=True)
class Volume:
    """A 3-D image whose axes run nearest to right, anterior, superior."""

    data: Array
    affine: NDArray[np.float64]
    path: Path

    @classmethod
    def load(cls, path: Path) -> 'Volume':
        """Read a NIfTI file, with its axes permuted and flipped towards RAS+."""
        image = nib.as_closest_canonical(nib.load(path))
        data = np.asarray(image.dataobj, dtype=np.float32).squeeze()
        if data.ndim != 3:
            raise ValueError(f'{path}: a figure needs a 3-D image, this one is {data.ndim}-D')
        return cls(data, image.affine, path)

    @property
    def zooms(self) -> NDArray[np.float64]:
        """Voxel edges, mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)

    def bounds(self, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Bounding box of `inside`, mm along the axes from the first voxel's centre: (3, 2)."""
        if not inside.any():
            raise ValueError(f'{self.path}: the mask is empty, there is nothing to show')
        rows = []
        for axis, zoom in enumerate(self.zooms):
            others = tuple(a for a in range(3) if a != axis)
            hit = np.flatnonzero(inside.any(axis=others))
            rows.append(((hit[0] - 0.5) * zoom, (hit[-1] + 0.5) * zoom))
        return np.asarray(rows)


@dataclass(frozen=True)
class Cut:
    """One plane to show: `axis` is its normal, `position` in mm along it from the first voxel."""

    axis: int
    position: float
    label: str
    sides: tuple[str, str]


@dataclass(frozen=True)
class Frame:
    """The box to show, along the axes of one image, and the world it lies in.

    The box is aligned with the image's own axes, not with the world's, so that the slices of an
    oblique acquisition are shown as they were acquired.
    """

    to_world: NDArray[np.float64]
    zooms: NDArray[np.float64]
    box: NDArray[np.float64]

    @classmethod
    def around(cls, volume: Volume, box: NDArray[np.float64]) -> 'Frame':
        """Frame along the axes of `volume` showing `box` (3, 2) in mm, cut to its field of view."""
        edge = (np.asarray(volume.data.shape) - 0.5) * volume.zooms
        box = np.clip(box, (-0.5 * volume.zooms)[:, None], edge[:, None])
        to_world = volume.affine @ np.diag([*(1 / volume.zooms), 1.0])
        return cls(to_world, volume.zooms, box)

    def size(self, axis: int) -> tuple[float, float]:
        """Width and height in mm of a cut across `axis`."""
        right, up = _IN_PLANE[axis]
        extent = self.box[:, 1] - self.box[:, 0]
        return float(extent[right]), float(extent[up])

    def cuts(
        self,
        axis: int,
        count: int,
        inside: NDArray[np.float64],
        trim: float,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[Cut]:
        """Spread `count` cuts evenly over the interval `inside[axis]`, on centres of slices.

        Parameters
        ----------
        axis : int
            Normal of the cuts.
        count : int
            How many.
        inside : ndarray
            (3, 2) box of what is to be seen, mm.
        trim : float
            Fraction of the interval left out at either end.
        wanted : ndarray, optional
            Voxels of the image that should be seen, e.g. of lesions: each cut moves to the slice
            that has most of them, by less than a third of the way to its neighbours.
        """
        low, high = inside[axis]
        margin = trim * (high - low)
        positions, distance = np.linspace(low + margin, high - margin, count, retstep=True)
        others = tuple(a for a in range(3) if a != axis)
        load = None if wanted is None else wanted.sum(axis=others)
        for position in positions:
            number = round(position / self.zooms[axis])
            if load is not None:
                reach = int(0.3 * distance / self.zooms[axis])
                near = load[number - reach : number + reach + 1]
                if near.any():
                    number += int(near.argmax()) - reach
            centre = number * self.zooms[axis]
            middle = self.box.mean(axis=1)
            middle[axis] = centre
            world = (self.to_world @ [*middle, 1.0])[axis]
            sides = ('P', 'A') if axis == SAGITTAL else ('L', 'R')
            yield Cut(axis, centre, f'{"xyz"[axis]} {world:+.0f}'.replace('-', '−'), sides)

    def sample(self, volume: Volume, cut: Cut, order: int = 1) -> Array:
        """Values of `volume` on `cut`, (height, width), first row on top; zero outside."""
        right, up = _IN_PLANE[cut.axis]
        width, height = (max(2, round(extent / PIXEL)) for extent in self.size(cut.axis))
        across = self.box[right, 0] + (np.arange(width) + 0.5) * PIXEL
        down = self.box[up, 1] - (np.arange(height) + 0.5) * PIXEL
        to_voxel = np.linalg.inv(volume.affine) @ self.to_world
        index = (
            to_voxel[:3, right, None, None] * across[None, None, :]
            + to_voxel[:3, up, None, None] * down[None, :, None]
            + to_voxel[:3, cut.axis, None, None] * cut.position
            + to_voxel[:3, 3, None, None]
        )
        values = map_coordinates(volume.data, index, order=order, mode='constant', cval=0.0)
        return np.asarray(values, dtype=np.float32)

    def sample_inside(self, weighted: Volume, support: Volume, cut: Cut) -> tuple[Array, Array]:
        """Return the values of a map on `cut`, and how opaque they are.

        Parameters
        ----------
        weighted : Volume
            The map, zero outside `support`.
        support : Volume
            1 inside, 0 outside, on the same grid.
        cut : Cut
        """
        cover = self.sample(support, cut)
        # divided by the cover, so that zeros outside the brain do not darken its rim
        values = self.sample(weighted, cut) / np.maximum(cover, np.float32(1e-3))
        return np.asarray(values, np.float32), np.clip(2 * cover - 0.5, 0, 1)


def outlines(mask: Array) -> str:
    """SVG path data, in millimetres, around what exceeds one half on a cut of a mask.

    Parameters
    ----------
    mask : ndarray
        (height, width) as `Frame.sample` returns it.
    """
    padded = np.pad(mask, 1)  # closes the outlines that leave the cut
    drawn = []
    for line in contour_generator(z=padded).lines(0.5):
        simple = Outline(np.asarray(line)).cleaned(simplify=True)
        drawn_to = np.isin(np.asarray(simple.codes), (Outline.MOVETO, Outline.LINETO))
        points = (np.asarray(simple.vertices)[drawn_to] - 0.5) * PIXEL
        drawn.append('M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points) + 'Z')
    return ''.join(drawn)
