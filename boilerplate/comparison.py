"""A measured map, a synthetic one and their difference, side by side, as one SVG file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boilerplate.slices import AXIAL, CORONAL, Cut, Frame, Volume
from boilerplate.svg import (
    PSR_MAXIMUM,
    Block,
    Layer,
    Tile,
    colour_bar,
    coloured,
    compose,
    nice_ticks,
)

DIFFERENCE = 6.0
"""End of the scale of differences on either side, percentage points of PSR."""
_MAP, _CHANGE = 'viridis', 'RdBu_r'


def plot_comparison(measured: Path, synthetic: Path, mask: Path, out: Path) -> Path:
    """Show four axial and two coronal cuts of two PSR maps, and of their difference.

    Parameters
    ----------
    measured, synthetic, mask : Path
        Maps in percent, and where the first was measured: NIfTI images on one grid.
    out : Path
        SVG file to write.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        An image is not 3-D, or the mask is empty.
    """
    truth, ours, inside = (Volume.load(path) for path in (measured, synthetic, mask))
    seen = inside.data > 0
    bounds = inside.bounds(seen)
    frame = Frame.around(inside, bounds + np.array([-3.0, 3.0]))
    support = Volume(seen.astype(np.float32), inside.affine, mask)
    change = ours.data - truth.data + np.float32(DIFFERENCE)
    shown = [
        (name, Volume(values * support.data, inside.affine, mask), top, colours)
        for name, values, top, colours in (
            ('measured', truth.data, PSR_MAXIMUM, _MAP),
            ('synthetic', ours.data, PSR_MAXIMUM, _MAP),
            ('difference', change, 2 * DIFFERENCE, _CHANGE),
        )
    ]

    def tiles(cut: Cut, axis: int) -> list[Tile]:
        drawn = []
        for name, weighted, top, colours in shown:
            found, alpha = frame.sample_inside(weighted, support, cut)
            layer = Layer('map', coloured(found, alpha, top, colours))
            named = replace(cut, label=f'{name}, {cut.label}')
            drawn.append(Tile(named, frame.size(axis), (layer,)))
        return drawn

    axial = [tiles(cut, AXIAL) for cut in frame.cuts(AXIAL, 4, bounds, 0.3)]
    coronal = [tiles(cut, CORONAL) for cut in frame.cuts(CORONAL, 2, bounds, 0.35)]
    return compose(
        [_joined(axial[:2]), _joined(axial[2:]), _joined(coronal)],
        [
            _scale(nice_ticks(PSR_MAXIMUM), PSR_MAXIMUM, 'PSR (%)', _MAP, out),
            _scale(
                np.linspace(-DIFFERENCE, DIFFERENCE, 5).tolist(),
                DIFFERENCE,
                'Synthetic − measured (percentage points)',
                _CHANGE,
                out,
            ),
        ],
        out,
        narrow_columns=3,
        title='Measured and synthetic pool size ratio',
        description='Four axial and two coronal cuts of the measured map, the synthetic map and '
        'their difference',
        style='dm-light',
    )


def _joined(cuts: Sequence[list[Tile]]) -> list[Tile]:
    return [tile for row in cuts for tile in row]


def _scale(ticks: Sequence[float], top: float, label: str, colours: str, out: Path) -> Block:
    """Draw a colour bar from the first tick to `top`."""
    low = ticks[0]
    marks = [((tick - low) / (top - low), f'{tick:g}'.replace('-', '−')) for tick in ticks]
    return colour_bar(marks, label, colours, out)
