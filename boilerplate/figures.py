"""The figures of a report: mask outlines, alignment, PSR mosaics. Every one is an SVG file.

Rasters are embedded as JPEG, outlines and text stay vectors, and nothing outside the file is
referred to. Images are cut along the axes of the background image in millimetres, so thick slices
keep their true proportions. Left is on the left.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from boilerplate.slices import AXIAL, CORONAL, SAGITTAL, Cut, Frame, Volume, outlines
from boilerplate.svg import (
    PSR_MAXIMUM,
    Block,
    Layer,
    Tile,
    block,
    colour_bar,
    coloured,
    compose,
    grey,
    nice_ticks,
    round_up,
    step_of,
)

STAMP = 'SYNTHETIC · NOT MEASURED'
_HEAD_MARGIN = 45.0  # mm of head shown around the brain at most
_BRAIN_MARGIN = 6.0


def plot_contours(
    background: Path,
    mask: Path,
    out: Path,
    title: str = 'Brain mask on the T1w image',
    *,
    lesions: Path | None = None,
) -> Path:
    """Outline a brain mask, and lesions where given, on three planes of an anatomical image.

    Parameters
    ----------
    background, mask : Path
        NIfTI images in one world; their grids may differ.
    out : Path
        SVG file to write.
    title : str
        Accessible name of the figure.
    lesions : Path, optional
        Lesion mask to outline; the cuts move a little to show as much of it as they can.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        An image is not 3-D, or the mask is empty.
    """
    image, brain = Volume.load(background), Volume.load(mask)
    inside = _within(brain, image)
    bounds = image.bounds(inside)
    low, high = _window(image, inside)
    head = image.bounds(image.data > low + 0.15 * (high - low))
    grown = bounds + np.array([-_HEAD_MARGIN, _HEAD_MARGIN])
    box = np.stack([np.maximum(head[:, 0], grown[:, 0]), np.minimum(head[:, 1], grown[:, 1])], 1)
    tight = bounds + np.array([-_BRAIN_MARGIN, _BRAIN_MARGIN])
    box = np.stack([np.minimum(box[:, 0], tight[:, 0]), np.maximum(box[:, 1], tight[:, 1])], 1)
    frame = Frame.around(image, box)
    marked = {'lesion': Volume.load(lesions)} if lesions else {}
    wanted = _within(marked['lesion'], image) if marked else None
    drawn = {'brain': brain} | marked
    rows = [
        [
            Tile(
                cut,
                frame.size(axis),
                (Layer('image', grey(frame.sample(image, cut), low, high, quality=76)),),
                tuple((name, outlines(frame.sample(v, cut))) for name, v in drawn.items()),
            )
            for cut in frame.cuts(axis, 6, bounds, 0.1, wanted)
        ]
        for axis in (AXIAL, CORONAL, SAGITTAL)
    ]
    return compose(
        rows,
        [_legend(*drawn)],
        out,
        narrow_columns=3,
        title=title,
        description='Six axial, six coronal and six sagittal cuts with outlines',
    )


def plot_alignment(
    fixed: Path,
    moving_before: Path,
    moving_after: Path,
    mask: Path,
    out: Path,
    title: str = 'FLAIR on the T1w image, before and after registration',
) -> Path:
    """Stack an image and another one before and after its registration, to be flipped through.

    The three rasters of a tile have the classes `dm-fixed`, `dm-before` and `dm-after`. Opened
    alone the figure alternates between the first and the last; a report sets what is visible.

    Parameters
    ----------
    fixed : Path
        Image that stayed, e.g. T1w.
    moving_before, moving_after : Path
        The other image where its header puts it, and where the registration put it.
    mask : Path
        Brain mask of `fixed`, outlined on all.
    out : Path
        SVG file to write.
    title : str
        Accessible name of the figure.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        An image is not 3-D, or the mask is empty.
    """
    image, brain = Volume.load(fixed), Volume.load(mask)
    inside = _within(brain, image)
    bounds = image.bounds(inside)
    frame = Frame.around(image, bounds + np.array([-12.0, 12.0]))
    before, after = Volume.load(moving_before), Volume.load(moving_after)
    moving_window = _window(after, _within(brain, after))
    layers = (
        ('fixed', image, _window(image, inside)),
        ('before', before, moving_window),
        ('after', after, moving_window),
    )
    rows = [
        [
            Tile(
                cut,
                frame.size(axis),
                tuple(
                    Layer(name, grey(frame.sample(volume, cut), *window, quality=68))
                    for name, volume, window in layers
                ),
                (('brain', outlines(frame.sample(brain, cut))),),
            )
            for cut in frame.cuts(axis, 4, bounds, 0.2)
        ]
        for axis in (AXIAL, CORONAL, SAGITTAL)
    ]
    return compose(
        rows,
        [_legend('brain')],
        out,
        narrow_columns=2,
        title=title,
        description='Four axial, four coronal and four sagittal cuts of both images',
    )


def plot_psr(
    psr: Path,
    mask: Path,
    out: Path,
    vmax: float | None = PSR_MAXIMUM,
    label: str = 'PSR (%)',
    cmap: str = 'viridis',
    title: str = 'Pool size ratio',
    stamp: str = STAMP,
    *,
    lesions: Path | None = None,
) -> Path:
    """Mosaic of a map in percent with a labelled colour bar; also for its standard deviation.

    Parameters
    ----------
    psr, mask : Path
        Map and brain mask (NIfTI images in one world); only voxels of the mask are shown.
    out : Path
        SVG file to write.
    vmax : float, optional
        Upper end of the colour scale; None takes the 99th percentile inside the mask, rounded up.
        The lower end is 0. A fixed scale lets figures of several people be compared.
    label : str
        Quantity and unit, above the colour bar.
    cmap : str
        Perceptually even matplotlib colour map.
    title : str
        Accessible name of the figure.
    stamp : str
        What the map is, printed into the figure.
    lesions : Path, optional
        Lesion mask to outline; the cuts move a little to show as much of it as they can.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        An image is not 3-D, or the mask is empty.
    """
    image, brain = Volume.load(psr), Volume.load(mask)
    inside = _within(brain, image)
    bounds = image.bounds(inside)
    values = image.data[inside]
    if vmax is None:
        vmax = round_up(float(np.percentile(values, 99)))
    frame = Frame.around(image, bounds + np.array([-3.0, 3.0]))
    support = Volume(inside.astype(np.float32), image.affine, mask)
    weighted = Volume(image.data * support.data, image.affine, psr)

    marked = {'lesion': Volume.load(lesions)} if lesions else {}
    wanted = _within(marked['lesion'], image) if marked else None

    def tile(cut: Cut, axis: int) -> Tile:
        shown, alpha = frame.sample_inside(weighted, support, cut)
        layer = Layer('map', coloured(shown, alpha, vmax, cmap))
        drawn = tuple((name, outlines(frame.sample(v, cut))) for name, v in marked.items())
        return Tile(cut, frame.size(axis), (layer,), drawn)

    axial = [tile(cut, AXIAL) for cut in frame.cuts(AXIAL, 12, bounds, 0.12, wanted)]
    rows = [axial[:6], axial[6:]]
    for axis in (CORONAL, SAGITTAL):
        rows.append([tile(cut, axis) for cut in frame.cuts(axis, 6, bounds, 0.12, wanted)])
    return compose(
        rows,
        [
            _colour_bar(vmax, label, cmap, out, exceeded=bool((values > vmax).mean() > 1e-3)),
            *([_legend(*marked)] if marked else []),
            block('stamp.svg.j2', 250.0, 28.0, text=stamp),
        ],
        out,
        narrow_columns=3,
        title=title,
        description=f'{label} from 0 to {vmax:g} on twelve axial, six coronal, six sagittal cuts',
        style='dm-light',
    )


def _legend(*names: str) -> Block:
    """What the outlines of the classes `dm-<name>` are."""
    said = {'brain': 'Brain mask', 'lesion': 'Lesions'}
    entries = [(name, said[name], 130 * number) for number, name in enumerate(names)]
    return block('legend.svg.j2', 130.0 * len(names), 18.0, entries=entries)


def _colour_bar(vmax: float, label: str, cmap: str, out: Path, *, exceeded: bool) -> Block:
    ticks = nice_ticks(vmax)
    marks = [(tick / vmax, f'{tick:g}') for tick in ticks]
    if vmax - ticks[-1] < 0.5 * step_of(ticks):
        marks[-1] = (1.0, f'≥ {vmax:g}' if exceeded else f'{vmax:g}')
    return colour_bar(marks, label, cmap, out)


def _within(mask: Volume, image: Volume) -> NDArray[np.bool_]:
    """Voxels of `image` inside `mask`, whose grid may be another."""
    to_mask = np.linalg.inv(mask.affine) @ image.affine
    moved = affine_transform(mask.data, to_mask, output_shape=image.data.shape, order=0)
    return np.asarray(moved > 0.5)


def _window(image: Volume, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Grey window of an anatomical image: black is 0 or the darkest per cent of the brain."""
    dark, bright = np.percentile(image.data[inside], (1, 99.7))
    low = min(0.0, float(dark))
    return low, max(float(bright), low + 1e-6)
