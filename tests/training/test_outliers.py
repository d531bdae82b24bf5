import json

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from demist_app.model.bundle import find_bundle, load_bundle
from demist_app.model.outliers import judge
from demist_app.model.predictor import load_predictor
from demist_app.model.signature import exchanged, signature
from demist_app.phantom.randomised import simulate_random
from demist_app.training.augment import degrade
from demist_app.training.outliers import learn_outliers

MIXING = np.random.default_rng(9).normal(size=(21, 21))


def unit(rng, edges=None):
    """Correlated features, more of them than some cohorts have units."""
    found = {
        f'{channel} {kind}': rng.normal(level, 0.1, 3)
        for channel, level in (('T1w', 1), ('FLAIR', 2))
        for kind in ('intensities', 'detail', 'shading')
    }
    edges = rng.normal(2, 0.1, 2) if edges is None else np.array(edges, float)
    return found | {'contrast': MIXING @ rng.normal(size=21), 'edges': edges}


def units(rng, n):
    return [unit(rng) for _ in range(n)]


def people(n):
    return [f'sub-{k}' for k in range(n)]


@pytest.mark.parametrize(('n', 'rate'), [(39, 0.1), (9, 0.2)])
def test_new_units_raise_no_more_alarms_than_stated(n, rate):
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(5):
        known = learn_outliers(units(rng, n), people(n), rate)
        assert known['false_alarm_rate'] == pytest.approx(rate)
        alarms.append(np.mean([judge(new, known).alarm for new in units(rng, 50)]))
    # many fewer where training units are few: each was judged by fewer others than a new one is
    assert 0 < np.mean(alarms) < rate + 0.04


def test_few_participants_cannot_promise_a_small_rate():
    made = units(np.random.default_rng(1), 19)
    assert learn_outliers(made, people(19), rate=0.05)['false_alarm_rate'] == pytest.approx(0.05)
    assert learn_outliers(made[:18], people(18), rate=0.05) is None


def test_sessions_of_a_participant_do_not_vouch_for_each_other():
    made = units(np.random.default_rng(2), 30)
    odd = made[0] | {'edges': np.array([9.0, 9.0])}
    scans = [*made, odd, odd]
    one = learn_outliers(scans, [*people(30), 'odd', 'odd'])
    two = learn_outliers(scans, [*people(30), 'odd', 'other'])
    assert one['threshold'] > two['threshold']
    assert one['false_alarm_rate'] == pytest.approx(1 / 32)
    assert two['false_alarm_rate'] == pytest.approx(1 / 33)


def test_a_change_against_the_correlation_is_seen():
    rng = np.random.default_rng(3)
    made = []
    for _ in range(60):
        level = rng.normal()
        noise = rng.normal(0, 0.05, 2)
        made.append(unit(rng, np.array([level, level]) + noise))
    known = learn_outliers(made, people(60), rate=0.05)
    with_them, against_them = (
        made[0] | {'edges': np.ones(2)},
        made[0] | {'edges': np.array([1, -1])},
    )
    assert judge(with_them, known).scores['edges'] < known['threshold']
    assert judge(against_them, known).unusual == ['edges']


def test_exchanged_scans_are_told():
    rng = np.random.default_rng(6)
    known = learn_outliers(units(rng, 40), people(40), rate=0.05)
    new = units(rng, 10)
    assert all('exchange' in judge(exchanged(found), known).unusual for found in new)
    assert not any('exchange' in judge(found, known).unusual for found in new)


def test_it_can_be_written_into_metadata():
    known = learn_outliers(units(np.random.default_rng(4), 20), people(20))
    again = json.loads(json.dumps(known))
    new = units(np.random.default_rng(5), 1)[0]
    assert judge(new, again) == judge(new, known)


def test_the_shipped_model_knows_a_phantom_from_one_with_its_scans_exchanged():
    scan = simulate_random(5, 0, 1, resolution=2.0)
    mask = zoom(scan.mask, 2, order=0) > 0
    images = zoom(scan.images[0], (1, 2, 2, 2), order=1)
    images /= np.percentile(images[:, mask], 99.5, axis=-1)[:, None, None, None]
    pair = torch.from_numpy(images.astype(np.float32))
    pair = degrade(pair, torch.from_numpy(mask).float(), np.random.default_rng(0)).numpy()
    bundle = load_bundle(find_bundle('small'))
    predictor = load_predictor(bundle)
    brain = mask & (pair > 0).any(axis=0)

    def verdict(images):
        seen = signature(images, brain) | {'latent': predictor.describe(images, brain)}
        return judge(seen, bundle.metadata['outliers'])

    assert not verdict(pair).alarm
    assert 'exchange' in verdict(pair[::-1].copy()).unusual
