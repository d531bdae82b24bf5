import numpy as np
import pytest

from demist_app.model.intensities import profile
from demist_app.model.outliers import (
    LATENT,
    alarm,
    distances,
    latent_profile,
    left_out,
    outlyingness,
)

PEOPLE = [f'sub-{k:03d}' for k in range(300)]


def found(rng, n):
    return {name: rng.chisquare(6, n) for name in ('T1w', 'FLAIR', LATENT)}


@pytest.mark.parametrize('rate', [0.2, 0.05])
def test_new_units_raise_alarms_at_the_stated_rate(rate):
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(60):
        known = alarm(found(rng, 99), rate)
        assert known['false_alarm_rate'] == pytest.approx(rate)
        new = found(rng, 100)
        scores = [outlyingness({k: v[i] for k, v in new.items()}, known) for i in range(100)]
        alarms.append(np.mean(np.array(scores) > known['threshold']))
    assert np.mean(alarms) == pytest.approx(rate, abs=0.02)


def test_few_units_cannot_promise_a_small_rate():
    known = alarm(found(np.random.default_rng(1), 9), rate=0.01)
    assert known['false_alarm_rate'] == pytest.approx(0.1)
    assert known['units'] == 9


def test_the_worst_distance_counts():
    known = {'typical': {'T1w': 1.0, 'FLAIR': 2.0, LATENT: 0.5}}
    assert outlyingness({'T1w': 1.0, 'FLAIR': 6.0, LATENT: 0.5}, known) == 3.0


def test_units_are_judged_without_their_participant():
    rng = np.random.default_rng(2)
    profiles = list(rng.normal(0, 1, (300, 2, 19)))
    odd = rng.normal(8, 0.1, (2, 19))
    people = [*PEOPLE[:-2], 'odd', 'odd']
    distance = left_out([*profiles[:-2], odd, odd], people)
    assert distance.shape == (300, 2)
    assert distance[:-2].max() < 2
    # two scans of one odd participant do not vouch for each other
    assert distance[-2:].min() == pytest.approx(8, abs=1)


def test_the_distance_of_the_latent_is_one_number():
    names = distances(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
    assert names['T1w'].tolist() == [1.0]
    assert names['FLAIR'].tolist() == [2.0]
    assert names[LATENT] == pytest.approx(np.sqrt(12.5))


def test_latents_outside_the_brain_do_not_count():
    rng = np.random.default_rng(3)
    z_c = rng.normal(size=(8, 4, 5, 6)).astype(np.float32)
    mask = np.zeros((16, 20, 24), bool)
    mask[4:12, 4:16, 4:20] = True
    mask[3] = True  # a quarter of a latent voxel
    inside = z_c[:, 1:3, 1:4, 1:5]
    expected = profile(inside, np.ones(inside.shape[1:], bool))
    np.testing.assert_array_equal(latent_profile(z_c, mask, 4), expected)
