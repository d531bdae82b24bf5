"""Figures on a square whose diagonal means something: ROC curves, coverage, spread and error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from boilerplate.plots import round_values

Points = Sequence[tuple[float, float]]

_SHARES = tuple((share, f'{share:g}') for share in (0.0, 0.25, 0.5, 0.75, 1.0))
_COLOURS = 6


@dataclass(frozen=True)
class Stroke:
    """A polyline: what it is, its classes, its points, and the places of its dots.

    Attributes
    ----------
    text : str
    style : str
        Classes.
    points : str
        Of a polyline, per cent of the frame, from the top left.
    dots : tuple of (float, float)
        The same of what was observed; empty where every step was.
    """

    text: str
    style: str
    points: str
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Square:
    """Lines in a square, with one scale for both axes.

    Attributes
    ----------
    title : str
    ticks : tuple of (float, str)
        Places from the lower left, and labels.
    strokes : tuple of Stroke
    said : str
        What the figure shows, in words.
    """

    title: str
    ticks: tuple[tuple[float, str], ...]
    strokes: tuple[Stroke, ...]
    said: str


def style(number: int) -> str:
    """Return the classes of the line of one of many: six colours, drawn through, then dotted.

    >>> style(2), style(8)
    ('g2', 'g2 again')
    """
    return f'g{number % _COLOURS}' + (' again' if number >= _COLOURS else '')


def shares(
    title: str, lines: Mapping[str, tuple[str, Points]], *, said: str, dots: bool = False
) -> Square:
    """Lay out lines of shares, from 0 to 1 on both axes.

    Parameters
    ----------
    title : str
    lines : mapping of str to (str, sequence of (float, float))
        What it is, its classes, and its points, from the left.
    said : str
    dots : bool
        Mark the points.
    """
    ticks = tuple((100 * share, text) for share, text in _SHARES)
    return Square(title, ticks, _strokes(lines, 1.0, dots=dots), said)


def amounts(title: str, lines: Mapping[str, tuple[str, Points]], *, said: str) -> Square:
    """Lay out lines of amounts, from 0 to the largest on both axes; the points are marked.

    Parameters
    ----------
    title : str
    lines : mapping of str to (str, sequence of (float, float))
        As for `shares`; not negative, and not all empty.
    said : str
    """
    largest = max(value for _, points in lines.values() for point in points for value in point)
    top = 1.05 * largest
    ticks = tuple((100 * value / top, f'{value:g}') for value in round_values(0.0, top))
    return Square(title, ticks, _strokes(lines, top, dots=True), said)


def _strokes(
    lines: Mapping[str, tuple[str, Points]], top: float, *, dots: bool
) -> tuple[Stroke, ...]:
    strokes = []
    for text, (classes, points) in lines.items():
        places = tuple((round(100 * x / top, 2), round(100 - 100 * y / top, 2)) for x, y in points)
        joined = ' '.join(f'{x:g},{y:g}' for x, y in places)
        strokes.append(Stroke(text, classes, joined, places if dots else ()))
    return tuple(strokes)
