import numpy as np
import pytest

from demist_app.evaluation.ceiling import ceiling

N = 100_000


def test_the_error_is_noise_and_what_is_not_known():
    rng = np.random.default_rng(0)
    known, hidden = rng.normal(8, 3, N), rng.normal(0, 1.5, N)
    clean = known + hidden
    measured = clean + rng.normal(0, 0.6, N)
    found = ceiling(known, measured, clean)
    assert found.noise == pytest.approx(0.36, rel=0.02)
    assert found.model == pytest.approx(2.25, rel=0.02)
    assert found.total == pytest.approx(found.noise + found.model, rel=0.02)
    # 2.25 of 11.25 are hidden
    assert found.undetermined == pytest.approx(0.2, abs=0.01)
    assert found.gap_db == pytest.approx(10 * np.log10(2.61 / 0.36), abs=0.1)


def test_scale_and_bias_are_not_ignorance():
    clean = np.random.default_rng(1).normal(8, 3, N)
    found = ceiling(0.5 * clean + 1, clean + 0.1, clean)
    assert found.undetermined == pytest.approx(0, abs=1e-9)
    assert found.bias == pytest.approx(1 - 0.5 * clean.mean())
