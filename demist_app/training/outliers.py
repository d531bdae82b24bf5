"""Learning what scans a model was trained on look like, to tell others apart."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.covariance import ShrunkCovariance

from demist_app.model.outliers import exchange, log_distance
from demist_app.model.signature import Array, Signature

FALSE_ALARMS = 0.05
"""Share of units like the training units that may raise an alarm."""
SHRINKAGE = 0.02
"""Of the covariance, towards that of features that vary alone: there may be fewer units than
features. What Ledoit and Wolf (2004) estimate, for the covariance and not for distances, shrinks
more and hides what goes against a correlation."""
_HIGH = 0.9  # how far off units are that are far, and not how near the near ones


def enough(participants: Sequence[str], rate: float = FALSE_ALARMS) -> bool:
    """Tell whether so many participants, 1 / `rate` - 1, can promise such a rate."""
    n = len(set(participants))
    return _rank(n, rate) <= n


def learn_outliers(
    signatures: Sequence[Signature], participants: Sequence[str], rate: float = FALSE_ALARMS
) -> dict[str, Any] | None:
    """Summarise training scans for a bundle's metadata.

    Parameters
    ----------
    signatures : sequence of dict
        One per unit.
    participants : sequence of str
        Whose they are.
    rate : float
        Of false alarms.

    Returns
    -------
    dict or None
        ``groups``: for each, ``mean``, ``sd`` and ``precision`` of its features; ``usual``: for
        each, and for ``exchange``, median and spread over units whose participant was left out;
        ``threshold`` of the score; ``false_alarm_rate``: that of units like these, at most (the
        conformal quantile: Vovk et al., Algorithmic Learning in a Random World, 2005); ``units``.
        None for fewer than 1 / `rate` - 1 participants, who cannot promise such a rate.
    """
    owners = np.asarray(participants)
    people = np.unique(owners)
    if not enough(participants, rate):
        return None
    n = len(people)
    rank = _rank(n, rate)
    stacks = {name: np.stack([found[name] for found in signatures]) for name in signatures[0]}
    left_out: dict[str, Array] = {name: np.empty(len(owners)) for name in (*stacks, 'exchange')}
    for owner in people:
        own = owners == owner
        groups = {name: _spread(stack[~own]) for name, stack in stacks.items()}
        for unit in map(int, np.flatnonzero(own)):
            for name, known in groups.items():
                left_out[name][unit] = log_distance(stacks[name][unit], known)
            left_out['exchange'][unit] = exchange(signatures[unit], groups)
    usual = {}
    for name, values in left_out.items():
        centre, high = (float(np.quantile(values, share)) for share in (0.5, _HIGH))
        usual[name] = [centre, high - centre + 1e-6]
    scores = [(left_out[name] - centre) / spread for name, (centre, spread) in usual.items()]
    # what holds for participants holds for their scans, which are alike
    return {
        'groups': {name: _spread(stack) for name, stack in stacks.items()},
        'usual': usual,
        'threshold': _of_rank(np.max(scores, axis=0), rank, n),
        'false_alarm_rate': 1 - rank / (n + 1),
        'units': len(signatures),
    }


def _rank(people: int, rate: float) -> int:
    """Return which of so many, from the lowest, no more than a share of `rate` passes."""
    return math.ceil((people + 1) * (1 - rate))


def _of_rank(scores: Array, rank: int, people: int) -> float:
    """Return the score that so large a share is not above: the rank of so many people.

    >>> _of_rank(np.arange(1.0, 40.0), 38, 39)
    38.0
    """
    place = -(-rank * len(scores) // people)  # rounded up, of the scans
    return float(np.sort(scores)[place - 1])


def _spread(stack: Array) -> dict[str, Any]:
    """Return mean, SD and precision of features, (units, p); JSON-able."""
    mean, sd = stack.mean(axis=0), stack.std(axis=0) + 1e-6
    fitted = ShrunkCovariance(assume_centered=True, shrinkage=SHRINKAGE)
    precision = fitted.fit((stack - mean) / sd).precision_
    return {
        'mean': mean.round(6).tolist(),
        'sd': sd.round(6).tolist(),
        'precision': precision.round(4).tolist(),
    }
