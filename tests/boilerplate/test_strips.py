import math

from hypothesis import given
from hypothesis import strategies as st

from boilerplate.strips import HEIGHT, Axis, Value, course, panel

VALUES = st.lists(st.floats(-5, 30), min_size=1, max_size=40)


@given(VALUES)
def test_axis_holds_all_values_between_round_ticks(values):
    axis = Axis.around(values)
    assert axis.low <= min(values)
    assert max(values) <= axis.high
    assert 3 <= len(axis.ticks) <= 9
    assert (axis.ticks[0][0], axis.ticks[-1][0]) == (0, 100)
    mantissa = axis.step / 10 ** math.floor(math.log10(axis.step))
    assert round(mantissa, 6) in (1, 2, 5)


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_every_value_has_a_dot_inside_its_strip(groups):
    drawn = panel(
        'WM',
        {f'g{n}': [Value(f'u{n}', v) for v in values] for n, values in enumerate(groups)},
    )
    assert [len(strip.marks) for strip in drawn.strips] == [len(values) for values in groups]
    for strip, values in zip(drawn.strips, groups, strict=True):
        assert all(0 <= mark.x <= 100 and 4 <= mark.y <= HEIGHT - 4 for mark in strip.marks)
        assert strip.quartiles == tuple(sorted(strip.quartiles))
        assert (strip.box is None) == (len(values) < 5)


def test_equal_values_stand_side_by_side():
    (strip,) = panel('WM', {'': [Value('u', 11.0)] * 7}).strips
    assert len({mark.y for mark in strip.marks}) == 7


def test_an_empty_group_keeps_the_colours_of_the_others():
    (strip,) = panel('lesions', {'control': [], 'patient': [Value('u', 7.0, True)]}).strips
    assert (strip.group, strip.number) == ('patient', 1)
    assert strip.marks[0].outlier


def test_sessions_that_are_missing_leave_a_gap():
    drawn = course('WM', ['1', '2', '3'], {'sub-1': {'1': 11.0, '3': 10.0}}, {'sub-1': 0})
    (line,) = drawn.lines
    assert [x for x, _ in line.points] == [drawn.sessions[0][0], drawn.sessions[2][0]]
    assert line.points[0][1] < line.points[1][1]  # y points down
    assert line.text == 'sub-1: 1 11.0 %, 3 10.0 %'
