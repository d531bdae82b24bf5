"""How the figures of the benchmarks look, and how they are kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

_LOOK = {
    'font.family': 'sans-serif', 'font.size': 8, 'axes.titlesize': 8, 'axes.linewidth': 0.6,
    'svg.fonttype': 'none', 'svg.hashsalt': 'demist', 'figure.dpi': 100,
}  # fmt: skip


@contextmanager
def drawn(path: Path, size: tuple[float, float], layout: str | None = None) -> Iterator[Figure]:
    """Give a figure to draw on, and write it: the same bytes from the same content.

    Parameters
    ----------
    path : Path
        Without suffix: SVG and PNG are written.
    size : tuple of float
        Inches.
    layout : str or None
        As of matplotlib's `Figure`.
    """
    with mpl.rc_context(_LOOK):
        figure = Figure(size, layout=layout)
        yield figure
        figure.savefig(path.with_suffix('.svg'), metadata={'Date': None})
        figure.savefig(path.with_suffix('.png'), dpi=200)
