"""Self-contained SVG mosaics that reflow: many columns on a desk, few on a phone.

A mosaic is a grid of tiles of equal width with blocks (legend, colour bar, stamp) beneath. Every
movable part carries two places, one for a wide and one for a narrow window; a media query in the
figure's own style sheet chooses, so the file behaves alike when opened alone and inside a report.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from boilerplate.files import write_atomic
from boilerplate.slices import Array, Cut

Values = NDArray[np.floating]

WIDTH = 1000.0
"""Width of a figure in its own units, about one CSS pixel each on a desk."""
PSR_MAXIMUM = 16.0
"""Upper end of the PSR scale, percent: 95 of 100 voxels of a healthy brain lie below 15."""
_NARROW_WIDTH = 400.0
_GAP = 6.0
_BAR = 380.0  # width of a colour bar
_BLOCK_GAP = 18.0

ENVIRONMENT = Environment(
    loader=PackageLoader('boilerplate'),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Jinja's own fails on a lone surrogate, which JSON can hold
ENVIRONMENT.filters['urlencode'] = lambda path: quote(path, errors='surrogatepass')


@dataclass(frozen=True)
class Layer:
    """One raster of a tile; `name` becomes its class `dm-<name>`."""

    name: str
    uri: str


@dataclass(frozen=True)
class Tile:
    """A cut of one or several images (same size in mm) with outlines `(class, path data)`."""

    cut: Cut
    size: tuple[float, float]
    layers: tuple[Layer, ...]
    outlines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Block:
    """Drawing beneath the tiles, at most 400 units wide."""

    width: float
    height: float
    markup: str


@dataclass(frozen=True)
class Place:
    """Where a part stands, and how much it is enlarged, in either layout."""

    x: float
    y: float
    narrow_x: float
    narrow_y: float
    narrow_scale: float


def grey(values: Array, low: float, high: float, quality: int) -> str:
    """Data URI of a grey JPEG of `values` windowed to [low, high]."""
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return _jpeg(Image.fromarray(np.round(255 * scaled).astype(np.uint8)), quality=quality)


def coloured(values: Values, alpha: Values, vmax: float, cmap: str) -> str:
    """Data URI of a JPEG of `values` over [0, vmax] in a colour map, on white where alpha is 0."""
    colours = mpl.colormaps[cmap](np.clip(values / vmax, 0, 1))[..., :3]
    cover = alpha[..., None]
    rgb = np.round(255 * (colours * cover + (1 - cover))).astype(np.uint8)
    return _jpeg(Image.fromarray(rgb), quality=78, subsampling=0)


def _jpeg(image: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', optimize=True, **options)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def stops(cmap: str, count: int = 17) -> list[tuple[float, str]]:
    """Offsets and colours of an SVG gradient that follows a colour map."""
    return [
        (float(offset), mpl.colors.to_hex(mpl.colormaps[cmap](offset)))
        for offset in np.linspace(0, 1, count)
    ]


def block(template: str, width: float, height: float, **values: object) -> Block:
    """Draw a block from a template of this package, which sees `width` and `values`."""
    drawn = ENVIRONMENT.get_template(template).render(width=width, **values)
    return Block(width, height, drawn)


def compose(
    rows: Sequence[Sequence[Tile]],
    blocks: Sequence[Block],
    out: Path,
    *,
    narrow_columns: int,
    title: str,
    description: str,
    style: str = '',
) -> Path:
    """Lay out a mosaic and write it.

    Parameters
    ----------
    rows : sequence of sequences of Tile
        Every row has the same number of tiles; those of one row have the same size.
    blocks : sequence of Block
        Beneath the tiles, from left to right (wide) or from top to bottom (narrow).
    out : Path
        SVG file.
    narrow_columns : int
        Tiles side by side on a phone; divides the length of a row.
    title, description : str
        Accessible name and description.
    style : str
        Class of the whole figure: `dm-light` for dark text on tiles.

    Returns
    -------
    Path
        `out`.
    """
    columns = len(rows[0])
    enlarge = WIDTH / _NARROW_WIDTH
    wide_tile = (WIDTH - _GAP * (columns - 1)) / columns
    narrow_gap = _GAP * enlarge / 1.5
    narrow_tile = (WIDTH - narrow_gap * (narrow_columns - 1)) / narrow_columns
    narrow_scale = narrow_tile / wide_tile

    tiles: list[tuple[Tile, Place, float, bool]] = []
    y = narrow_y = 0.0
    for row in rows:
        width, height = row[0].size
        scale = wide_tile / width
        for number, tile in enumerate(row):
            line, column = divmod(number, narrow_columns)
            place = Place(
                number * (wide_tile + _GAP),
                y,
                column * (narrow_tile + narrow_gap),
                narrow_y + line * (height * scale * narrow_scale + narrow_gap),
                narrow_scale,
            )
            tiles.append((tile, place, scale, number == 0))
        y += height * scale + _GAP
        lines = columns // narrow_columns
        narrow_y += lines * (height * scale * narrow_scale + narrow_gap)

    y += 8
    narrow_y += 8 * enlarge
    placed: list[tuple[Block, Place]] = []
    x = 0.0
    for number, part in enumerate(blocks):
        last = number == len(blocks) - 1 and number > 0
        placed.append((part, Place(WIDTH - part.width if last else x, y, 0, narrow_y, enlarge)))
        x += part.width + _BLOCK_GAP
        narrow_y += (part.height + 10) * enlarge
    y += max(part.height for part in blocks)

    return write(
        'mosaic.svg.j2',
        out,
        height=y,
        narrow_height=narrow_y,
        title=title,
        description=description,
        style=style,
        tiles=tiles,
        blocks=placed,
    )


def colour_bar(ticks: Sequence[tuple[float, str]], label: str, colours: str, out: Path) -> Block:
    """Draw a colour bar.

    Parameters
    ----------
    ticks : sequence of (float, str)
        How far along, 0 to 1, and what is written there; words at either end stay within the bar.
    label : str
        Quantity and unit, above it.
    colours : str
        matplotlib colour map.
    out : Path
        File of the figure.
    """
    anchors = {0.0: 'start', 1.0: 'end'}
    marks = [(_BAR * share, text, anchors.get(share, 'middle')) for share, text in ticks]
    return block(
        'colourbar.svg.j2',
        _BAR,
        52.0,
        id=gradient_id(out, colours),
        label=label,
        stops=stops(colours),
        ticks=marks,
    )


def gradient_id(out: Path, colours: str) -> str:
    """Identifier of a gradient that no other figure inlined into the same page has."""
    return f'dm-{hashlib.sha256(f"{out.name} {colours}".encode()).hexdigest()[:10]}'


def write(template: str, out: Path, **values: object) -> Path:
    """Render an SVG template to `out`."""
    text = ENVIRONMENT.get_template(template).render(width=WIDTH, **values)
    return write_atomic(out, text)


def nice_ticks(vmax: float) -> list[float]:
    """Between 4 and 9 round values from 0 to at most `vmax`.

    >>> nice_ticks(16)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]
    >>> nice_ticks(2.5)
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """
    magnitude = 10.0 ** np.floor(np.log10(vmax))
    steps = [magnitude * factor for factor in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)]
    step = min(step for step in steps if vmax / step < 8.5)
    return [float(np.round(n * step, 10)) for n in range(int(vmax / step + 1e-9) + 1)]


def step_of(ticks: Sequence[float]) -> float:
    """Smallest distance between neighbouring ticks."""
    return min(b - a for a, b in pairwise(ticks))


def round_up(value: float) -> float:
    """Next of 1, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten.

    >>> round_up(1.7), round_up(23)
    (2.0, 25.0)
    """
    magnitude = 10.0 ** np.floor(np.log10(max(value, 1e-3)))
    return float(
        magnitude * min(f for f in (1, 2, 2.5, 3, 4, 5, 6, 8, 10) if f * magnitude >= value)
    )
