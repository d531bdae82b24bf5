from dataclasses import replace

import numpy as np
import pytest

from demist_app.model.predictor import Prediction
from demist_app.training import examination
from demist_app.training.examination import Examination, learn_scale, scan
from demist_app.training.fit import Machine

SEED = 3


@pytest.fixture
def given(examples):
    return Examination(examples[:2], examples[2:], SEED, Machine(accelerator='cpu'))


class Erring:
    """Knows the PSR but for an error, and states an SD."""

    def __init__(self, scans, error, sd):
        self.scans, self.error, self.sd = iter(scans), error, sd
        self.asked = []

    def predict(self, images, mask, **options):
        self.asked.append(options)
        seen, psr, inside = next(self.scans)
        np.testing.assert_array_equal(images, seen)
        np.testing.assert_array_equal(mask, inside)
        rng = np.random.default_rng(0)
        mean = psr + self.error * rng.standard_normal(psr.shape).astype(np.float32)
        return Prediction(mean, np.full(psr.shape, self.sd, np.float32), {'Draws': 8})


def test_the_scale_is_error_over_stated_sd(given):
    predictor = Erring(given.scans(), error=1.5, sd=0.5)
    found = learn_scale(predictor, given)
    assert found['sd_scale'] == pytest.approx(3, rel=0.02)
    assert found == {**found, 'draws': 4, 'units': 3, 'voxels': 60_000}
    expected = {'n_samples': 4, 'seed': SEED, 'device': 'cpu', 'threads': 1}
    assert predictor.asked == [expected] * 3


def test_the_cost_has_a_bound(given, monkeypatch):
    monkeypatch.setattr(examination, 'UNITS', 2)
    assert learn_scale(Erring(given.scans(), 1, 1), given)['units'] == 2


def test_a_participant_counts_once(given, examples, monkeypatch):
    monkeypatch.setattr(examination, 'UNITS', 9)
    again = replace(examples[2], name='sub-2_ses-2')
    both = replace(given, validation=[*given.validation, again])
    assert len(list(both.scans())) == len(given.validation)


def test_scans_are_as_predictors_get_them(examples):
    images, psr, mask = scan(examples[0], None, SEED)
    inside = examples[0].mask > 0
    assert mask.sum() == inside.sum()
    assert all(mask.any(axis=axes).all() for axes in ((0, 1), (0, 2), (1, 2)))  # cut to the brain
    np.testing.assert_array_equal(psr[mask], examples[0].psr[inside])
    np.testing.assert_array_equal(images[:, mask], np.clip(examples[0].images[0][:, inside], 0, 1))


@pytest.mark.parametrize('version', range(4))
def test_phantoms_without_noise_are_degraded_and_stay_aligned(examples, version):
    images, psr, mask = scan(examples[0], version, SEED)
    assert (psr[mask] > 0).mean() > 0.99
    # its core is bright in the T1w, has more PSR, and lies where both say
    core = psr > 8
    assert images[0][core & mask].mean() > 1.3 * images[0][~core & mask].mean()
    clean = np.asarray(examples[0].images[0, 0], float)
    assert images[0][mask].std() != pytest.approx(clean[examples[0].mask > 0].std(), rel=1e-6)


def test_a_scan_is_looked_at_once_whatever_the_number_of_methods(given, monkeypatch):
    first = given.signatures()
    monkeypatch.setattr(examination, 'scan', None)
    again = given.signatures()
    assert [id(found) for found in first] == [id(found) for found in again]
