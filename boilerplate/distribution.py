"""Distribution of PSR per tissue: one density per row over a common axis in percent."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from boilerplate.svg import PSR_MAXIMUM, WIDTH, gradient_id, nice_ticks, stops, write

_BINS = 200
_HEIGHT = 46.0  # of a density
_ROW = 66.0
_LEFT, _RIGHT = 170.0, 190.0


def plot_distribution(
    values_by_tissue: Mapping[str, NDArray[np.floating]],
    out: Path,
    vmax: float = PSR_MAXIMUM,
    label: str = 'PSR (%)',
    cmap: str = 'viridis',
    title: str = 'Distribution of PSR per tissue',
) -> Path:
    """Draw a smoothed histogram, the median and the quartiles of every tissue.

    Every density is scaled to its own peak: heights do not compare volumes.

    Parameters
    ----------
    values_by_tissue : mapping of str to ndarray
        Values in percent of the voxels of every tissue, in the order to show; tissues without
        voxels are left out.
    out : Path
        SVG file to write.
    vmax : float
        Upper end of the axis and of the colour scale; the axis is extended where more than one
        per cent of a tissue lies beyond. Values below 0 count as 0.
    label : str
        Quantity and unit, under the axis.
    cmap : str
        Colour map of the mosaic that stands beside this figure.
    title : str
        Accessible name of the figure.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        No tissue has a voxel.
    """
    tissues = {name: np.ravel(v) for name, v in values_by_tissue.items() if v.size}
    if not tissues:
        raise ValueError(f'{out}: no tissue has a voxel, there is no distribution to draw')
    end = max(vmax, *(2 * np.ceil(np.percentile(v, 99) / 2) for v in tissues.values()))
    span = WIDTH - _LEFT - _RIGHT
    rows = []
    for name, values in tissues.items():
        counts, edges = np.histogram(np.clip(values, 0, None), _BINS, range=(0, end))
        density = gaussian_filter1d(counts.astype(float), 1.5, mode='constant')
        density *= _HEIGHT / max(density.max(), 1.0)
        x = span * (edges[:-1] + edges[1:]) / (2 * end)
        points = 'L'.join(f'{a:.1f} {-b:.1f}' for a, b in zip(x, density, strict=True))
        quartiles = [float(q) for q in np.percentile(values, (25, 50, 75))]
        rows.append(
            {
                'name': name,
                'path': f'M0 0L{points}L{span:.0f} 0Z',
                'marks': [float(np.clip(span * q / end, 0, span)) for q in quartiles],
                'quartiles': quartiles,
            }
        )
    said = '; '.join(f'{row["name"]} median {row["quartiles"][1]:.1f}' for row in rows)
    return write(
        'distribution.svg.j2',
        out,
        rows=rows,
        ticks=[(span * tick / end, f'{tick:g}') for tick in nice_ticks(end)],
        span=span,
        full=span * vmax / end,
        left=_LEFT,
        row_height=_ROW,
        stops=stops(cmap),
        id=gradient_id(out, cmap),
        label=label,
        title=title,
        description=said,
    )
