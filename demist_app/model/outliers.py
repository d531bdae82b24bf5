"""Telling scans unlike all training scans, at a stated rate of false alarms.

For every group of features of `demist_app.model.signature`, and for z_c where a model has one, a
unit has a distance from the training units: Mahalanobis, with a shrunken covariance, since they may
be fewer than features. Logarithms of distances are put on one scale, on which of the training
units, each judged without its participant, half lie below 0 and a tenth above 1; the largest is the
unit's score, and its group names what is unusual. One more score compares the distances with those
of the same scans exchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from demist_app.model.signature import Array, Signature, exchanged

WORDS = {
    'T1w intensities': 'the intensities of the T1w',
    'FLAIR intensities': 'the intensities of the FLAIR',
    'T1w detail': 'the noise or sharpness of the T1w',
    'FLAIR detail': 'the noise or sharpness of the FLAIR',
    'T1w shading': 'the T1w is brighter on one side',
    'FLAIR shading': 'the FLAIR is brighter on one side',
    'contrast': 'how the intensities of T1w and FLAIR go together',
    'edges': 'the edges of T1w and FLAIR are not in the same places',
    'latent': 'what the model itself makes of both scans',
    'exchange': 'T1w and FLAIR look as if they were exchanged',
}
"""What is unusual, by group."""
TELLING = ('T1w intensities', 'FLAIR intensities', 'contrast')
"""Groups that tell T1w from FLAIR."""


@dataclass(frozen=True)
class Verdict:
    """What is thought of a pair of scans.

    Attributes
    ----------
    score, threshold : float
        An alarm if the score passes the threshold.
    false_alarm_rate : float
        Share of units like the training units that pass it, at most.
    units : int
        Training units that taught this.
    scores : dict of str to float
        By group.
    """

    score: float
    threshold: float
    false_alarm_rate: float
    units: int
    scores: dict[str, float]

    @property
    def alarm(self) -> bool:
        """Whether this pair is unlike the training scans."""
        return self.score > self.threshold

    @property
    def unusual(self) -> list[str]:
        """Groups beyond the threshold, the farthest first."""
        beyond = [name for name, score in self.scores.items() if score > self.threshold]
        return sorted(beyond, key=lambda name: -self.scores[name])

    def facts(self) -> dict[str, Any]:
        """For the sidecar."""
        return {
            'OutlierScore': round(self.score, 2),
            'OutlierThreshold': round(self.threshold, 2),
            'OutlierFalseAlarmRate': round(self.false_alarm_rate, 4),
            'OutlierAlarm': self.alarm,
            'OutlierScores': {name: round(score, 2) for name, score in self.scores.items()},
        }

    def warning(self) -> str:
        """Say, of an alarm, what is unusual."""
        return (
            'These scans look unlike those that the model learned from, so the map may be far off. '
            f'Unusual: {"; ".join(WORDS[name] for name in self.unusual)}. Score {self.score:.2f}, '
            f'alarm above {self.threshold:.2f}, set for false alarms in at most '
            f'{100 * self.false_alarm_rate:.1f} % of scans like the {self.units} of the training.'
        )


def distance(values: Array, known: Mapping[str, Any]) -> float:
    """Return the Mahalanobis distance of one group of features.

    Parameters
    ----------
    values : ndarray, shape (p,)
    known : mapping
        ``mean`` and ``sd``, (p,), and ``precision`` of standardised features, (p, p).
    """
    scaled = (values - np.asarray(known['mean'])) / np.asarray(known['sd'])
    return float(np.sqrt(scaled @ np.asarray(known['precision']) @ scaled))


def exchange(found: Signature, groups: Mapping[str, Any]) -> float:
    """Return by how much a pair would be more usual with T1w and FLAIR exchanged.

    Parameters
    ----------
    found : dict
        Signature of the pair.
    groups : mapping
        What `distance` takes, of `TELLING` at least.

    Returns
    -------
    float
        Sum over groups of the logarithm of the ratio of both distances; usually negative.
    """
    other = exchanged(found)
    return sum(
        log_distance(found[name], groups[name]) - log_distance(other[name], groups[name])
        for name in TELLING
    )


def log_distance(values: Array, known: Mapping[str, Any]) -> float:
    """Return the logarithm of `distance`."""
    return float(np.log(distance(values, known) + 1e-9))


def judge(found: Signature, reference: Mapping[str, Any]) -> Verdict:
    """Compare a pair of scans with those a model was trained on.

    Parameters
    ----------
    found : dict
        `demist_app.model.signature.signature` of the pair.
    reference : mapping
        ``outliers`` of a bundle's metadata.
    """
    groups = reference['groups']
    raw = {name: log_distance(found[name], known) for name, known in groups.items()}
    raw['exchange'] = exchange(found, groups)
    scores = {}
    for name, (centre, spread) in reference['usual'].items():
        scores[name] = (raw[name] - centre) / spread
    return Verdict(
        score=max(scores.values()),
        threshold=reference['threshold'],
        false_alarm_rate=reference['false_alarm_rate'],
        units=reference['units'],
        scores=scores,
    )
