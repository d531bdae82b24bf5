import numpy as np
import pytest

from demist_app.model.outliers import WORDS, distance, exchange, judge
from demist_app.model.signature import signature

ONE = {'mean': [0.0], 'sd': [1.0], 'precision': [[1.0]]}
REFERENCE = {
    'groups': {
        'T1w intensities': {'mean': [1.0, 2.0], 'sd': [1.0, 2.0], 'precision': [[1, 0], [0, 0.25]]},
        'FLAIR intensities': {'mean': [5.0, 5.0], 'sd': [1.0, 1.0], 'precision': [[1, 0], [0, 1]]},
        'contrast': {'mean': [0.0] * 21, 'sd': [1.0] * 21, 'precision': np.eye(21).tolist()},
        'edges': ONE,
    },
    'usual': {'T1w intensities': [0.0, 0.5], 'edges': [1.0, 1.0], 'exchange': [-3.0, 1.0]},
    'threshold': 2.0,
    'false_alarm_rate': 0.0125,
    'units': 79,
}


def found(t1w=(1.0, 3.0), flair=(5.0, 6.0), edges=1.0):
    values = dict.fromkeys(('detail', 'shading'), np.zeros(1))
    both = {f'{scan} {kind}': v for scan in ('T1w', 'FLAIR') for kind, v in values.items()}
    return both | {
        'T1w intensities': np.array(t1w),
        'FLAIR intensities': np.array(flair),
        'contrast': np.ones(21),
        'edges': np.array([edges]),
    }


def verdict(**values):
    return judge(found(**values), REFERENCE)


def test_distance_by_hand():
    # one SD away in the first feature, four in the second, whose precision is a quarter
    known = REFERENCE['groups']['T1w intensities']
    assert distance(np.array([2.0, 10.0]), known) == pytest.approx(5**0.5)


def test_the_worst_group_counts_and_is_named():
    seen = verdict(t1w=(1.0 + np.exp(1.5), 2.0), edges=np.exp(1.0))
    assert seen.scores['T1w intensities'] == pytest.approx(3)
    assert seen.scores['edges'] == pytest.approx(0, abs=1e-6)
    assert seen.score == seen.scores['T1w intensities']
    assert seen.alarm
    assert seen.unusual == ['T1w intensities']
    assert WORDS['T1w intensities'] in seen.warning()
    assert WORDS['edges'] not in seen.warning()
    assert (
        'set for false alarms in at most 1.2 % of scans like the 79 of the training'
        in seen.warning()
    )


def test_the_farthest_is_named_first():
    seen = verdict(t1w=(1.0 + np.exp(1.5), 2.0), edges=np.exp(4.5))
    assert seen.unusual == ['edges', 'T1w intensities']


def test_no_alarm_at_the_centre_of_what_is_known():
    seen = verdict()
    assert not seen.alarm
    assert seen.unusual == []
    assert seen.facts()['OutlierAlarm'] is False


def test_scans_that_are_more_usual_the_other_way_round_are_told():
    seen = verdict(t1w=(5.0, 5.1), flair=(1.1, 2.0))
    assert 'exchange' in seen.unusual
    again = exchange(found(t1w=(1.1, 2.0), flair=(5.0, 5.1)), REFERENCE['groups'])
    assert again == pytest.approx(-exchange(found((5.0, 5.1), (1.1, 2.0)), REFERENCE['groups']))


def test_every_group_has_words():
    rng = np.random.default_rng(0)
    seen = signature(rng.random((2, 16, 16, 16), np.float32), np.ones((16, 16, 16), bool))
    # those of the scans, of what a model makes of them, and of both together
    assert {*seen, 'latent', 'exchange'} == set(WORDS)
