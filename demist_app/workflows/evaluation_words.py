"""Numbers of the evaluation page in words."""

import math

from boilerplate.report import number

MINUS = str.maketrans('-', '−')


def interval(value: float, low: float, high: float, *, digits: int) -> str:
    """Write a number with its interval.

    >>> interval(0.5, -0.25, 1.0, digits=1)
    '0.5 [−0.2, 1.0]'
    """
    middle, lower, upper = (number(one, digits) for one in (value, low, high))
    return f'{middle} [{lower}, {upper}]'


def p_value(value: float) -> str:
    """Write a p-value.

    >>> p_value(0.0004), p_value(0.25), p_value(math.nan)
    ('< 0.001', '0.250', '–')
    """
    if math.isnan(value):
        return '–'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'
