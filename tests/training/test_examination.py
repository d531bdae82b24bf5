from dataclasses import replace

import numpy as np
import pytest

from demist_app.imaging.conform import brain_box
from demist_app.model.predictor import Prediction
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.training import examination
from demist_app.training.examination import Examination, examined, learn_uncertainty, scan
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
    predictor = Erring(given.scans(9), error=1.5, sd=0.5)
    found = learn_uncertainty(predictor, given, 8)
    assert found['sd_scale'] == pytest.approx(3, rel=0.02)
    assert found == {**found, 'draws': 4, 'units': 3, 'voxels': 60_000}
    expected = {'n_samples': 4, 'seed': SEED, 'device': 'cpu', 'threads': 1}
    assert predictor.asked == [expected] * 3


def test_maps_of_one_draw_get_a_table_of_their_errors(given):
    predictor = Erring(given.scans(9), error=1.5, sd=0.0)
    found = learn_uncertainty(predictor, given, 1)
    assert found == {**found, 'draws': 1, 'units': 4, 'voxels': 80_000}
    assert 'sd_scale' not in found
    assert len(found['residual_sd']) == 25
    assert np.mean(found['residual_sd'][4:10]) == pytest.approx(1.5, rel=0.1)
    assert [options['n_samples'] for options in predictor.asked] == [1] * 4


def test_a_model_with_a_latent_is_asked_what_it_makes_of_its_scans(
    given, untrained, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(examination, 'enough', lambda _: True)
    monkeypatch.setattr(examination, 'learn_outliers', lambda found, _: seen.extend(found))
    monkeypatch.setattr(examination, 'learn_uncertainty', lambda *_: 'learned')
    metadata = {k: v for k, v in untrained.metadata.items() if k not in ('format', 'sha256')}
    monkeypatch.setattr(DiffusionPredictor, 'describe', lambda _, images, *__, **___: images[0])
    facts = examined(metadata, untrained.tensors(), tmp_path / 'model', given)
    assert facts == metadata | {'uncertainty': 'learned'}
    assert len(seen) == len(given.training)
    for one, example in zip(seen, given.training, strict=True):
        np.testing.assert_array_equal(one['latent'], scan(example, None, SEED)[0][0])
    assert not list(tmp_path.iterdir())  # the bundle it was asked with is gone


def test_too_few_participants_are_not_looked_at_in_vain(given, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(examination, 'learn_uncertainty', lambda *_: 'learned')
    monkeypatch.setattr(examination, '_signature', None)
    monkeypatch.setattr(DiffusionPredictor, 'describe', None)
    metadata = {k: v for k, v in untrained.metadata.items() if k not in ('format', 'sha256')}
    facts = examined(metadata, untrained.tensors(), tmp_path / 'model', given)
    assert facts == metadata | {'uncertainty': 'learned'}


def test_the_cost_has_a_bound(given, monkeypatch):
    monkeypatch.setattr(examination, 'ALL_DRAWS', 8)
    assert learn_uncertainty(Erring(given.scans(9), 1, 1), given, 8)['units'] == 2
    assert learn_uncertainty(Erring(given.scans(9), 1, 1), given, 1)['units'] == 4


def test_a_participant_counts_once(given, examples):
    again = replace(examples[2], name='sub-2_ses-2')
    both = replace(given, validation=[*given.validation, again])
    assert len(list(both.scans(9))) == len(given.validation)


def test_scans_are_as_predictors_get_them(examples):
    images, psr, mask = scan(examples[0], None, SEED)
    inside = examples[0].mask > 0
    assert mask.sum() == inside.sum()
    assert mask.shape == tuple(s.stop - s.start for s in brain_box(inside))  # as in use
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
