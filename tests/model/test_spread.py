import numpy as np
import pytest

from demist_app.model.spread import Spread

LEARNED = {'sd_scale': 1.75, 'units': 8}


def spread_of(draws, uncertainty=None):
    spread = Spread(uncertainty)
    for values in draws:
        spread.add(values)
    return spread


@pytest.mark.parametrize('n', [2, 3, 20])
def test_mean_and_sd_are_those_of_the_draws(n):
    draws = np.random.default_rng(0).normal(5, 2, (n, 50))
    spread = spread_of(draws)
    np.testing.assert_allclose(spread.mean, draws.mean(axis=0))
    expected = np.sqrt(1 + 1 / n) * draws.std(axis=0, ddof=1)
    np.testing.assert_allclose(spread.sd, expected)
    np.testing.assert_allclose(spread_of(draws, LEARNED).sd, 1.75 * expected)


@pytest.mark.parametrize('n', [2, 8])
def test_it_is_the_size_of_the_error_of_the_mean_of_few_draws(n):
    rng = np.random.default_rng(1)
    truth, *draws = rng.normal(0, 3, (n + 1, 200_000))
    spread = spread_of(draws)
    stated = np.sqrt(np.mean(spread.sd**2))
    assert stated == pytest.approx(np.sqrt(np.mean((truth - spread.mean) ** 2)), rel=0.01)


def test_a_single_draw_states_nothing():
    spread = spread_of(np.ones((1, 4)), LEARNED)
    assert spread.sd is None
    assert spread.facts() == {'Draws': 1}


def test_a_table_of_errors_takes_the_place_of_the_spread_of_draws():
    table = np.arange(25.0)
    spread = spread_of(np.array([[3.5, 7.0]]), {'residual_sd': list(table), 'units': 3})
    np.testing.assert_allclose(spread.sd, [3, 6.5])
    facts = spread.facts()
    assert (facts['Draws'], facts['SDCalibrated']) == (1, True)
    assert 'SDScale' not in facts
    assert 'in 3 scans' in facts['SDMeaning']


def test_facts_say_whether_the_scale_was_learned():
    draws = np.zeros((3, 4))
    learned, unknown = spread_of(draws, LEARNED).facts(), spread_of(draws).facts()
    assert (learned['SDScale'], learned['SDCalibrated']) == (1.75, True)
    assert (unknown['SDScale'], unknown['SDCalibrated']) == (1, False)
    assert 'learned from 8 scans' in learned['SDMeaning']
    assert 'never compared with its errors' in unknown['SDMeaning']
