"""Lesions and the normal-appearing white matter they are compared with.

After Toubasi et al. (Mult Scler 2025, 31:1205), as the paper's section 3 has it: every lesion is
paired with proximal NAWM (its rim) and distal NAWM (its mirror image in the other hemisphere).
The distances are this project's: theirs are not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from demist_app.evaluation.roc import auc
from demist_app.imaging.tissue import FACES

SMALLEST_MM3 = 27.0
"""Volume of the smallest lesion that counts."""
PROXIMAL_MM = 2.0, 8.0
"""Distance of proximal NAWM from the nearest voxel of its lesion."""
SHIFT_MM = 8.0
"""How far a mirrored lesion may be moved to lie in NAWM."""
OVERLAP = 0.5
"""NAWM found, as a share of the lesion's volume, below which a lesion has no such partner."""
LESION, PROXIMAL, DISTAL = range(3)
"""Columns of what `means` returns."""
BRIGHT = 'FLAIR'
"""The one image whose lesions are brighter than white matter."""
PARTNERS = {'combined': (PROXIMAL, DISTAL), 'pNAWM': (PROXIMAL,), 'dNAWM': (DISTAL,)}
"""What lesions are told apart from, by the paper's names (its figure 2)."""

_BLOCK = np.ones((3, 3, 3), bool)
_SMOOTHING_MM = 4.0
_POINT_MM = 6.0  # between the points at which the hemispheres are compared

Mask = NDArray[np.bool_]
Voxels = NDArray[np.intp]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The plane between the hemispheres: points p (mm, array axes) with normal · p = offset."""

    normal: Array
    offset: float

    def height(self, points: Array) -> Array:
        """Signed distance of points, shape (n, 3), in mm; positive on the side of the normal."""
        return points @ self.normal - self.offset

    def mirror(self, points: Array) -> Array:
        """Reflect points, shape (n, 3), in mm."""
        return points - 2 * self.height(points)[:, None] * self.normal


@dataclass(frozen=True)
class Pair:
    """A lesion and its partners, each as indices into the raveled volume; None where there is none.

    Attributes
    ----------
    lesion : ndarray of int
    proximal : ndarray of int, or None
        As many voxels as the lesion, where there are so many.
    distal : ndarray of int, or None
        The part of the moved mirror image that is NAWM.
    """

    lesion: Voxels
    proximal: Voxels | None
    distal: Voxels | None

    @property
    def parts(self) -> tuple[Voxels | None, ...]:
        """Voxels in the order of the columns of `means`."""
        return self.lesion, self.proximal, self.distal


def separate(lesions: Mask, voxel_mm3: float = 1.0) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number the 26-connected lesions.

    Returns
    -------
    labels : ndarray of int32
    numbers : ndarray of int
        Those of at least 27 mm³.
    """
    labels, count = ndimage.label(lesions, _BLOCK)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels, 1 + np.flatnonzero(sizes * voxel_mm3 >= SMALLEST_MM3)


def inner_white(white: Mask, lesions: Mask) -> Mask:
    """Return white matter all of whose neighbours are white matter or lesions.

    Parameters
    ----------
    white, lesions : ndarray of bool, shape (X, Y, Z)
    """
    inner: Mask = ndimage.binary_erosion(white | lesions, FACES)
    return inner


def midsagittal(t1w: NDArray[np.float32], mask: Mask, spacing: Sequence[float]) -> Plane:
    """Find the plane about which a brain is most symmetric.

    Parameters
    ----------
    t1w : ndarray, shape (X, Y, Z)
        Axes in the order of RAS; the plane is sought around the sagittal one through the brain's
        centre.
    mask : ndarray of bool, shape (X, Y, Z)
    spacing : sequence of 3 floats
        mm.

    Returns
    -------
    Plane
        The one with the largest correlation between the smoothed brain and its reflection.
    """
    size = np.asarray(spacing, float)
    smooth = ndimage.gaussian_filter(np.where(mask, t1w, 0), _SMOOTHING_MM / size)
    points = np.argwhere(mask)[:: max(1, round(_POINT_MM**3 / size.prod()))] * size
    here = ndimage.map_coordinates(smooth, (points / size).T, order=1)
    centre = points.mean(axis=0)

    def plane(tilt: Array) -> Plane:
        normal = np.array([1.0, tilt[0], tilt[1]])
        normal /= np.linalg.norm(normal)
        return Plane(normal, float(centre @ normal + 100 * tilt[2]))

    def asymmetry(tilt: Array) -> float:
        there = plane(tilt).mirror(points) / size
        values = ndimage.map_coordinates(smooth, there.T, order=1)
        return float(-np.corrcoef(here, values)[0, 1])

    # 3 degrees, 3 degrees, 3 mm
    start = np.concatenate([np.zeros((1, 3)), np.diag([0.05, 0.05, 0.03])])
    best = minimize(asymmetry, start[0], method='Nelder-Mead', options={'initial_simplex': start})
    return plane(best.x)


def lesion_pairs(lesions: Mask, white: Mask, spacing: Sequence[float], plane: Plane) -> list[Pair]:
    """Find proximal and distal NAWM for every lesion.

    Parameters
    ----------
    lesions : ndarray of bool, shape (X, Y, Z)
    white : ndarray of bool, shape (X, Y, Z)
        Voxels that are surely white matter; whether lesions are among them does not matter.
    spacing : sequence of 3 floats
        mm.
    plane : Plane
        Between the hemispheres.

    Returns
    -------
    list of Pair
        One per 26-connected lesion of at least 27 mm³. Proximal are the voxels of NAWM nearest to
        the lesion, 2 to 8 mm away. Distal are those under the lesion's mirror image, moved by up to
        8 mm to where most of it is NAWM of the other hemisphere. NAWM touches no lesion.
    """
    size = np.asarray(spacing, float)
    labels, numbers = separate(lesions, size.prod())
    nawm = white & ~ndimage.binary_dilation(lesions, _BLOCK)
    boxes = ndimage.find_objects(labels)
    found = []
    for number in numbers:
        inside = labels == number
        found.append(
            Pair(
                np.flatnonzero(inside),
                _proximal(inside, boxes[number - 1], nawm, size),
                _distal(inside, nawm, size, plane),
            )
        )
    return found


def means(image: NDArray[np.float32], pairs: Sequence[Pair]) -> Array:
    """Return the mean of a map in every lesion and in its partners.

    Returns
    -------
    ndarray, shape (n, 3)
        Columns `LESION`, `PROXIMAL`, `DISTAL`; NaN where a lesion has no such partner.
    """
    values = image.ravel()
    rows = [
        [np.nan if part is None else values[part].mean(dtype=float) for part in pair.parts]
        for pair in pairs
    ]
    return np.array(rows).reshape(-1, 3)


def pair_scores(
    table: Array, partner: str, *, bright: bool = False
) -> tuple[Mask, Array, NDArray[np.intp]]:
    """Turn means into what a ROC curve is made of.

    Parameters
    ----------
    table : ndarray, shape (n, 3)
        As `means` returns it, of any number of participants.
    partner : {'combined', 'pNAWM', 'dNAWM'}
    bright : bool
        Lesions are brighter than NAWM (FLAIR), not darker (PSR, T1w).

    Returns
    -------
    labels : ndarray of bool, shape (m,)
        Lesion or not.
    scores : ndarray, shape (m,)
        Higher where more like a lesion.
    rows : ndarray of int, shape (m,)
        Row of `table` each comes from; lesions without the partner are left out.
    """
    columns = [LESION, *PARTNERS[partner]]
    chosen = table[:, columns]
    there: Mask = np.isfinite(chosen)
    there &= np.any(there[:, 1:], axis=1)[:, None]
    rows, which = np.nonzero(there)
    scores = chosen[rows, which]
    return which == 0, scores if bright else -scores, rows


def voxel_scores(
    image: NDArray[np.float32], pairs: Sequence[Pair], partner: str, *, bright: bool = False
) -> tuple[Mask, Array]:
    """Return labels and scores as `pair_scores` does, of voxels instead of means.

    Voxels of one lesion are alike, so that an interval must come from whole participants.
    """
    values = image.ravel()
    labels, scores = [np.empty(0, bool)], [np.empty(0)]
    for pair in pairs:
        others = [o for c in PARTNERS[partner] if (o := pair.parts[c]) is not None]
        for part in [pair.lesion, *others] if others else []:
            labels.append(np.full(len(part), part is pair.lesion))
            scores.append(values[part].astype(float))
    joined = np.concatenate(scores)
    return np.concatenate(labels), joined if bright else -joined


def voxel_auc(
    image: NDArray[np.float32], pairs: Sequence[Pair], partner: str, *, bright: bool = False
) -> float | None:
    """Return the area under the curve over the voxels of one scan, 4 digits; arguments as above.

    None where no lesion has such a partner.
    """
    labels, scores = voxel_scores(image, pairs, partner, bright=bright)
    return round(auc(labels, scores), 4) if len(labels) else None


def _proximal(inside: Mask, box: tuple[slice, ...], nawm: Mask, size: Array) -> Voxels | None:
    """Return the nearest voxels of NAWM."""
    reach = np.ceil(PROXIMAL_MM[1] / size).astype(int)
    around = tuple(slice(max(0, b.start - r), b.stop + r) for b, r in zip(box, reach, strict=True))
    distance = ndimage.distance_transform_edt(~inside[around], size)
    near = nawm[around] & (distance >= PROXIMAL_MM[0]) & (distance <= PROXIMAL_MM[1])
    wanted = int(inside.sum())
    candidates = np.argwhere(near)
    if len(candidates) < OVERLAP * wanted:
        return None
    nearest = np.argsort(distance[near], kind='stable')[:wanted]
    corner = [a.start for a in around]
    return np.ravel_multi_index(tuple((candidates[nearest] + corner).T), inside.shape)


def _distal(inside: Mask, nawm: Mask, size: Array, plane: Plane) -> Voxels | None:
    """Return the voxels of NAWM under the mirror image, moved to where there are most."""
    points = np.argwhere(inside) * size
    image = np.unique(np.rint(plane.mirror(points) / size).astype(int), axis=0)
    reach = np.floor(SHIFT_MM / size).astype(int)
    shifts = np.stack(
        np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing='ij'), axis=-1
    ).reshape(-1, 3)
    lengths = np.linalg.norm(shifts * size, axis=1)
    order = np.argsort(lengths, kind='stable')
    shifts = shifts[order[lengths[order] <= SHIFT_MM]]
    # all that any shift can reach, cut out with a margin so that no index leaves it
    low, high = image.min(axis=0) - reach, image.max(axis=0) + reach + 1
    grid = np.stack(np.meshgrid(*map(np.arange, low, high), indexing='ij'), axis=-1)
    within: Mask = np.all((grid >= 0) & (grid < inside.shape), axis=-1)
    ours = np.sign(plane.height(points).mean())
    within[within] = plane.height(grid[within] * size) * ours < 0
    within[within] = nawm[tuple(grid[within].T)]
    flat = within.ravel()
    start = np.ravel_multi_index(tuple((image - low).T), within.shape)
    steps = shifts @ (np.array(within.strides) // within.itemsize)
    overlaps = np.array([np.count_nonzero(flat[start + step]) for step in steps])
    best = int(overlaps.argmax())  # the first, thus the shortest
    if overlaps[best] < OVERLAP * len(points):
        return None
    moved = image + shifts[best]
    chosen = moved[flat[start + steps[best]]]
    return np.ravel_multi_index(tuple(chosen.T), inside.shape)
