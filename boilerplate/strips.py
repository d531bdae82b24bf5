"""Where the marks of the group report's figures stand, in per cent of their frames.

Positions are relative, sizes of marks absolute, so that a figure fits every window without a
second layout.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HEIGHT = 64
"""Of a strip, CSS pixels."""
QUARTILES_FROM = 5
"""Values from which quartiles are told."""
_BINS = 90
_STEP = 7.0  # between neighbours of a column, pixels
_NARROWEST = 2.0  # an axis spans at least that, or noise would look like difference


@dataclass(frozen=True)
class Value:
    """One value to show: whose it is, how much, and whether it lies apart."""

    label: str
    value: float
    outlier: bool = False


@dataclass(frozen=True)
class Axis:
    """A stretch of a scale with its ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float]) -> 'Axis':
        """Choose an axis that holds all values, with three to seven round ticks.

        >>> Axis.around([10.2, 11.4])
        Axis(low=9.5, high=12.0, step=0.5)
        """
        low, high = min(values), max(values)
        middle, span = (low + high) / 2, max(1.1 * (high - low), _NARROWEST)
        magnitude = 10.0 ** math.floor(math.log10(span / 6))
        step = magnitude * min(f for f in (1, 2, 5, 10) if f * magnitude >= span / 6)
        low = math.floor((middle - span / 2) / step + 1e-9) * step
        high = math.ceil((middle + span / 2) / step - 1e-9) * step
        return cls(round(low, 9), round(high, 9), step)

    def at(self, value: float) -> float:
        """Return the place of a value, per cent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place and label of every tick."""
        count = round((self.high - self.low) / self.step)
        values = [self.low + n * self.step for n in range(count + 1)]
        return [(self.at(value), f'{value:.6g}'.replace('-', '−')) for value in values]


@dataclass(frozen=True)
class Mark:
    """A dot: place in per cent (x) and pixels (y)."""

    x: float
    y: float
    text: str
    outlier: bool


@dataclass(frozen=True)
class Strip:
    """The values of one region in one group.

    Attributes
    ----------
    group : str
        Empty where the cohort is not divided.
    number : int
        Of the group, for its colour.
    marks : tuple of Mark
    quartiles : tuple of float
        In the unit of the values.
    box : tuple of (float, float, float) or None
        Places of the quartiles; None for too few values.
    """

    group: str
    number: int
    marks: tuple[Mark, ...]
    quartiles: tuple[float, float, float]
    box: tuple[float, float, float] | None


@dataclass(frozen=True)
class Panel:
    """All strips of one region over their common axis."""

    region: str
    axis: Axis
    strips: tuple[Strip, ...]


def panel(region: str, groups: Mapping[str, Sequence[Value]]) -> Panel:
    """Lay out the strips of one region.

    Parameters
    ----------
    region : str
    groups : mapping of str to sequence of Value
        In the order to show; a group may be empty, not all of them.
    """
    axis = Axis.around([entry.value for values in groups.values() for entry in values])
    strips = []
    for number, (group, values) in enumerate(groups.items()):
        if not values:
            continue
        low, median, high = (
            float(q) for q in np.percentile([entry.value for entry in values], (25, 50, 75))
        )
        box = (
            (axis.at(low), axis.at(median), axis.at(high))
            if len(values) >= QUARTILES_FROM
            else None
        )
        strips.append(Strip(group, number, _stack(values, axis), (low, median, high), box))
    return Panel(region, axis, tuple(strips))


def _stack(values: Sequence[Value], axis: Axis) -> tuple[Mark, ...]:
    """Pile up dots that would hide each other, from the middle to both sides."""
    columns = [int(axis.at(entry.value) / 100 * _BINS) for entry in values]
    highest = max(Counter(columns).values())
    step = min(_STEP, (HEIGHT - 12) / highest)
    used: Counter[int] = Counter()
    marks = []
    for entry, column in sorted(zip(values, columns, strict=True), key=lambda pair: pair[0].value):
        number = used[column]
        used[column] += 1
        offset = (number + 1) // 2 * (1 if number % 2 else -1)
        text = f'{entry.label}: {entry.value:.1f} %'
        y = round(HEIGHT / 2 + offset * step, 1)
        marks.append(Mark(axis.at(entry.value), y, text, entry.outlier))
    return tuple(marks)


@dataclass(frozen=True)
class Line:
    """The sessions of one participant: places of the points, joined in this order."""

    text: str
    number: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Course:
    """All participants' values of one region over sessions."""

    region: str
    axis: Axis
    sessions: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def course(
    region: str,
    sessions: Sequence[str],
    participants: Mapping[str, Mapping[str, float]],
    numbers: Mapping[str, int],
) -> Course:
    """Lay out the sessions of all participants.

    Parameters
    ----------
    region : str
    sessions : sequence of str
        At least two, in order.
    participants : mapping of str to mapping of str to float
        Values by session; at least one.
    numbers : mapping of str to int
        Participant to the number of its group, for its colour.
    """
    axis = Axis.around([v for values in participants.values() for v in values.values()])
    margin, span = 8, 84 / (len(sessions) - 1)
    places = {name: round(margin + number * span, 2) for number, name in enumerate(sessions)}
    lines = []
    for participant, values in participants.items():
        points = tuple((places[name], round(100 - axis.at(v), 2)) for name, v in values.items())
        said = ', '.join(f'{name} {v:.1f} %' for name, v in values.items())
        lines.append(Line(f'{participant}: {said}', numbers[participant], points))
    shown = [(place, name) for name, place in places.items()]
    return Course(region, axis, tuple(shown), tuple(lines))
