import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.imaging.normalise import normalise
from demist_app.imaging.volumes import InputError


@given(seed=st.integers(0, 1000), gain=st.floats(1e-3, 1e5), upper=st.floats(60, 100))
def test_gain_makes_no_difference(seed, gain, upper):
    rng = np.random.default_rng(seed)
    data, mask = rng.gamma(2, size=(8, 8, 8)), rng.random((8, 8, 8)) > 0.3
    scaled, scale = normalise(data, mask, upper)
    louder, louder_scale = normalise(gain * data, mask, upper)
    np.testing.assert_allclose(scaled, louder, atol=1e-4)
    assert louder_scale == pytest.approx(gain * scale, rel=1e-4)
    assert scaled.dtype == np.float32
    assert not scaled[~mask].any()
    assert scaled.max() == 1


def test_matches_the_percentile():
    data = np.arange(1, 1002, dtype=float).reshape(7, 11, 13)
    scaled, scale = normalise(data, np.ones_like(data))
    assert scale == pytest.approx(996)
    np.testing.assert_allclose(scaled.flat[[0, 995]], [1 / 996, 1], atol=1e-6)
    assert scaled.flat[500] == pytest.approx(501 / 996, abs=1e-6)


def test_a_dark_voxel_of_bone_in_the_mask_changes_nothing():
    data = np.linspace(50, 100, 1000).reshape(10, 10, 10)
    with_bone = data.copy()
    with_bone[0, 0, 0] = 1
    first, second = (normalise(image, np.ones_like(data))[0] for image in (data, with_bone))
    np.testing.assert_array_equal(first.flat[1:], second.flat[1:])


def test_what_lies_outside_the_brain_has_no_say():
    data = np.arange(27.0).reshape(3, 3, 3)
    mask = data < 20
    other = np.where(mask, data, 1e6)
    np.testing.assert_array_equal(normalise(data, mask)[0], normalise(other, mask)[0])


def test_negative_ripples_count_as_zero():
    data = np.linspace(0, 1, 1000).reshape(10, 10, 10)
    rippled = data.copy()
    rippled[0, 0, 0] = -0.5
    np.testing.assert_array_equal(
        normalise(data, np.ones_like(data))[0], normalise(rippled, np.ones_like(data))[0]
    )


def test_refuses_what_has_no_scale():
    data = np.full((4, 4, 4), 3.0)
    with pytest.raises(InputError, match='one value 3'):
        normalise(data, np.ones_like(data))
    mostly_black = np.zeros((10, 10, 10))
    mostly_black[0, 0, 0] = 1
    with pytest.raises(InputError, match='black'):
        normalise(mostly_black, np.ones_like(mostly_black))
    with pytest.raises(InputError, match='empty'):
        normalise(data, np.zeros_like(data))
