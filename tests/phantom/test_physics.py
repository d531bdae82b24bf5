import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from demist_app.phantom.physics import (
    Flair,
    Mprage,
    SirProtocol,
    fit_sir,
    flair_signal,
    mprage_signal,
    sir_signal,
)

SIR = SirProtocol()


def exchange(psr: float, r1: float, sf: float, k_mf: float, sm: float) -> np.ndarray:
    """Both pools by matrix exponential, normalised to their equilibria."""
    rates = np.array([[-(r1 + k_mf * psr), k_mf * psr, r1], [k_mf, -(r1 + k_mf), r1], [0, 0, 0]])
    signals = []
    for ti, td in zip(SIR.inversion_times, SIR.delays, strict=True):
        free, bound, _ = expm(rates * td) @ [0, 0, 1]
        signals.append((expm(rates * ti) @ [sf * free, sm * bound, 1])[0])
    return np.array(signals)


@settings(max_examples=60, deadline=None)
@given(
    psr=st.floats(0, 0.3),
    r1=st.floats(0.2, 3),
    sf=st.floats(-1, -0.5),
    k_mf=st.floats(5, 30),
    sm=st.floats(0.5, 1),
)
def test_sir_is_the_matrix_exponential(psr, r1, sf, k_mf, sm):
    closed = sir_signal(psr, r1, sf, SIR, k_mf=k_mf, sm=sm)
    np.testing.assert_allclose(closed, exchange(psr, r1, sf, k_mf, sm), atol=1e-12)


def test_sir_fit_recovers_what_was_put_in():
    rng = np.random.default_rng(0)
    psr, r1, sf = rng.uniform(0, 0.2, 500), rng.uniform(0.3, 1.3, 500), rng.uniform(-1, -0.8, 500)
    scale = rng.uniform(50, 900, 500)
    fitted = fit_sir(np.abs(scale * sir_signal(psr, r1, sf, SIR)), SIR)
    np.testing.assert_allclose(fitted, [psr, r1, sf, scale], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('k_mf', [9.0, 11.0, 15.0])
def test_another_exchange_rate_than_the_fit_assumes_biases_psr_a_little(k_mf):
    signal = sir_signal(0.128, 1.03, -0.96, SIR, k_mf=k_mf)
    fitted = fit_sir(np.abs(signal)[:, None], SIR)[0, 0]
    assert 0.002 < abs(fitted / 0.128 - 1) < 0.08


@pytest.mark.parametrize('r1', [0.265, 0.62, 1.03, 2.5])
@pytest.mark.parametrize('b1', [0.9, 1.1])
def test_mprage_is_the_steady_state_of_the_pulse_train(r1, b1):
    sequence = Mprage(2.3, 0.9, 9.0)
    angle = np.deg2rad(sequence.flip_angle) * b1
    half = sequence.train_length // 2
    before = sequence.inversion_time - half * sequence.echo_spacing
    dead = sequence.repetition_time - before - sequence.train_length * sequence.echo_spacing

    def relax(m: float, time: float) -> float:
        return 1 + (m - 1) * np.exp(-time * r1)

    m, centre = 1.0, 0.0
    for _ in range(60):
        m = relax(-sequence.inversion_efficiency * m, before)
        for pulse in range(sequence.train_length):
            if pulse == half:
                centre = m
            m = relax(m * np.cos(angle), sequence.echo_spacing)
        m = relax(m, dead)
    expected = 0.7 * np.sin(angle) * abs(centre) * np.exp(-sequence.echo_time * 20)
    assert mprage_signal(r1, 0.7, 20.0, sequence, b1) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ('sequence', 'grey_to_white'), [(Flair(4.8, 0.144), 1.10), (Flair(11.0, 0.145), 1.38)]
)
def test_flair_contrast(sequence, grey_to_white):
    white = flair_signal(0.265 + 6 * 0.128, 0.70, 0.073, 0.128, sequence)
    grey = flair_signal(0.265 + 6 * 0.060, 0.83, 0.095, 0.060, sequence)
    fluid = flair_signal(0.265, 1.0, 1.9, 0.0, sequence)
    assert grey / white == pytest.approx(grey_to_white, abs=0.04)
    assert fluid / white < 0.03
