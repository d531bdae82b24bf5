import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boilerplate.plots import curves, differences

POINTS = st.lists(st.tuples(st.integers(1, 10_000), st.floats(-1e3, 1e3)), min_size=1, max_size=20)


def places(trace):
    return [tuple(map(float, point.split(','))) for point in trace.points.split()]


@settings(deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=4))
def test_curves_stay_inside_their_frame(courses):
    drawn = curves('stage', {str(n): course for n, course in enumerate(courses)})
    assert len(drawn.traces) == len(courses)
    for trace in drawn.traces:
        assert all(0 <= x <= 100 and 3.9 <= y <= 96.1 for x, y in places(trace))
    assert all(0 <= place <= 100 for place, _ in drawn.y)
    assert drawn.y


def test_a_lower_loss_is_lower_down_and_a_missing_fold_keeps_its_colour():
    drawn = curves('stage', {'fold 1': [], 'fold 2': [(10, 0.5), (20, 0.4)]})
    (trace,) = drawn.traces
    assert (trace.text, trace.number) == ('fold 2', 1)
    (x1, y1), (x2, y2) = places(trace)
    assert (x1, x2) == (50, 100)
    assert y1 < y2  # from the top
    assert drawn.x[-1] == (100, '20')
    assert [text for _, text in drawn.y] == ['0.4', '0.42', '0.44', '0.46', '0.48', '0.5']


def test_losses_over_decades_have_a_logarithmic_axis():
    drawn = curves('stage', {'fold 1': [(1, 0.01), (2, 0.1), (3, 1.0)]})
    ys = [y for _, y in places(drawn.traces[0])]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1])
    assert [text for _, text in drawn.y] == ['0.01', '0.02', '0.05', '0.1', '0.2', '0.5', '1']


def test_differences_stand_where_their_axes_say():
    drawn = differences(
        'WM', {'sub-1': (11.0, 13.0), 'sub-2': (12.0, 11.0)}, {'sub-1': 0, 'sub-2': 1},
        (-4.0, -0.5, 3.0),
    )  # fmt: skip
    (first, number), (second, other) = drawn.marks
    assert (number, other) == (0, 1)
    assert first.x == drawn.x.at(12.0)
    assert math.isclose(first.y, 100 - drawn.y.at(-2.0))
    assert first.y > second.y
    assert drawn.upper < drawn.bias < drawn.lower
    assert drawn.said == 'bias −0.50, limits −4.00 and 3.00 percentage points'
