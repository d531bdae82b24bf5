"""Where lines and dots of the evaluation page's figures stand, in per cent of their frames."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from boilerplate.strips import Axis, Mark

_LOGARITHMIC_FROM = 5.0
"""Losses that span more than this factor are drawn on a logarithmic axis."""
_MANTISSAS = (1, 2, 5)

Ticks = tuple[tuple[float, str], ...]
"""Place and label of every tick."""


@dataclass(frozen=True)
class Trace:
    """One course of training: what it is, the number of its colour, and `points` of a polyline."""

    text: str
    number: int
    points: str


@dataclass(frozen=True)
class Curves:
    """The courses of one stage over a common frame.

    Attributes
    ----------
    title : str
    x, y : tuple of (float, str)
        Ticks; `y` from the bottom.
    traces : tuple of Trace
    """

    title: str
    x: Ticks
    y: Ticks
    traces: tuple[Trace, ...]


def curves(title: str, courses: Mapping[str, Sequence[tuple[float, float]]]) -> Curves:
    """Lay out losses over updates.

    Parameters
    ----------
    title : str
    courses : mapping of str to sequence of (updates, loss)
        At least one point in all; colours are numbered in this order.
    """
    values = [loss for course in courses.values() for _, loss in course]
    last = max(updates for course in courses.values() for updates, _ in course)
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOGARITHMIC_FROM:
        low, high = math.log10(low), math.log10(high)
        place = _place(math.log10, low, high)
        ticks = _decades(low, high)
    else:
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        place = _place(float, low - margin, high + margin)
        ticks = round_values(low - margin, high + margin)
    traces = tuple(
        Trace(
            text,
            number,
            ' '.join(
                f'{100 * updates / last:.2f},{100 - place(loss):.2f}' for updates, loss in course
            ),
        )
        for number, (text, course) in enumerate(courses.items())
        if course
    )
    return Curves(
        title,
        ((0.0, '0'), (100.0, f'{last:,.0f}')),
        tuple((round(place(value), 2), f'{value:.3g}'.replace('-', '−')) for value in ticks),
        traces,
    )


@dataclass(frozen=True)
class Differences:
    """A plot after Bland and Altman: the mean of two measurements and their difference.

    Attributes
    ----------
    title : str
    x, y : Axis
    marks : tuple of (Mark, int)
        `Mark.y` in per cent from the top; number of the colour.
    bias, lower, upper : float
        Places from the top.
    said : str
        The same in words.
    """

    title: str
    x: Axis
    y: Axis
    marks: tuple[tuple[Mark, int], ...]
    bias: float
    lower: float
    upper: float
    said: str


def differences(
    title: str,
    pairs: Mapping[str, tuple[float, float]],
    numbers: Mapping[str, int],
    limits: tuple[float, float, float],
) -> Differences:
    """Lay out one plot after Bland and Altman.

    Parameters
    ----------
    title : str
    pairs : mapping of str to (float, float)
        Who, and both measurements, in percent PSR.
    numbers : mapping of str to int
        Who, and the number of the group, for the colour.
    limits : (float, float, float)
        Lower limit of agreement, bias, upper limit of first − second.
    """
    lower, bias, upper = limits
    x = Axis.around([(first + second) / 2 for first, second in pairs.values()])
    y = Axis.around([*(first - second for first, second in pairs.values()), *limits, 0.0])
    marks = []
    for who, (first, second) in pairs.items():
        text = f'{who}: {first:.1f} and {second:.1f} %'
        mark = Mark(x.at((first + second) / 2), 100 - y.at(first - second), text, outlier=False)
        marks.append((mark, numbers[who]))
    said = f'bias {bias:.2f}, limits {lower:.2f} and {upper:.2f} percentage points'
    return Differences(
        title,
        x,
        y,
        tuple(marks),
        bias=round(100 - y.at(bias), 2),
        lower=round(100 - y.at(lower), 2),
        upper=round(100 - y.at(upper), 2),
        said=said.replace('-', '−'),
    )


def _place(scale: Callable[[float], float], low: float, high: float) -> Callable[[float], float]:
    return lambda value: 4 + 92 * (scale(value) - low) / (high - low)


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 of every decade between two logarithms."""
    found = [
        mantissa * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for mantissa in _MANTISSAS
    ]
    return [value for value in found if low <= math.log10(value) <= high]


def round_values(low: float, high: float) -> list[float]:
    """Return three to eight round values of an interval.

    >>> round_values(0, 2.3)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = max(m * magnitude for m in (1, 2, 5) if (high - low) / (m * magnitude) >= 3)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]
