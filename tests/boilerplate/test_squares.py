import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boilerplate.squares import amounts, shares

POINTS = st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-3, 1e4)), min_size=1, max_size=12)


def places(stroke):
    return [tuple(map(float, point.split(','))) for point in stroke.points.split()]


def test_shares_stand_where_they_are_from_the_lower_left():
    drawn = shares('ROC', {'one': ('g1', [(0, 0), (0.25, 0.5), (1, 1)])}, said='words')
    (stroke,) = drawn.strokes
    assert (stroke.text, stroke.style, stroke.dots) == ('one', 'g1', ())
    assert places(stroke) == [(0, 100), (25, 50), (100, 0)]
    assert drawn.ticks[0] == (0, '0')
    assert drawn.ticks[-1] == (100, '1')
    (dotted,) = shares('', {'one': ('', [(0.5, 0.5)])}, said='', dots=True).strokes
    assert dotted.dots == ((50, 50),)


@settings(deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=3))
def test_amounts_stay_inside_and_have_one_scale(lines):
    drawn = amounts('', {str(n): ('', points) for n, points in enumerate(lines)}, said='')
    for stroke, points in zip(drawn.strokes, lines, strict=True):
        assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in stroke.dots)
        for (x, y), point in zip(stroke.dots, points, strict=True):
            equal = pytest.approx(x, abs=0.01) == 100 - y
            assert equal or point[0] != point[1]
    assert drawn.ticks[0][0] == 0
    assert 3 <= len(drawn.ticks) <= 9
    assert all(0 <= place <= 100 for place, _ in drawn.ticks)
