import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter1d

from demist_app.model.signature import exchanged, signature

SHAPE = (40, 44, 36)
MASK = np.zeros(SHAPE, bool)
MASK[3:-3, 3:-3, 3:-3] = True


@pytest.fixture(scope='module')
def pair():
    """Two contrasts of one smooth anatomy, with a little noise."""
    rng = np.random.default_rng(0)
    anatomy = gaussian_filter(rng.standard_normal(SHAPE), 3)
    anatomy = (anatomy - anatomy.min()) / np.ptp(anatomy)
    t1w, flair = 0.2 + 0.7 * anatomy, 0.8 - 0.4 * anatomy**2
    noise = 0.005 * rng.standard_normal((2, *SHAPE))
    return (np.stack([t1w, flair]) + noise).astype(np.float32)


@pytest.fixture(scope='module')
def usual(pair):
    return signature(pair, MASK)


def changed(usual, pair):
    """Return the groups of which something differs."""
    found = signature(pair, MASK)
    assert found.keys() == usual.keys()
    return {name for name in usual if not np.allclose(found[name], usual[name], atol=0.05)}


def test_voxels_outside_the_brain_do_not_count(usual, pair):
    other = pair + 0.4 * ~MASK
    for name, values in signature(other, MASK).items():
        np.testing.assert_array_equal(values, usual[name])


def test_noise_is_seen_in_the_detail_of_its_scan(usual, pair):
    noise = 0.05 * np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    found = changed(usual, np.stack([pair[0], pair[1] + noise]))
    assert 'FLAIR detail' in found
    assert not {name for name in found if name.startswith('T1w')}


@pytest.mark.parametrize('axis', range(3))
def test_thick_slices_are_seen_along_their_axis(usual, pair, axis):
    thick = np.stack([uniform_filter1d(pair[0], 5, axis=axis), pair[1]])
    change = signature(thick, MASK)['T1w detail'] - usual['T1w detail']
    second = change[3:6]
    assert second.argmin() == axis
    assert second[axis] < -0.5


@pytest.mark.parametrize('axis', range(3))
def test_shading_is_seen_along_its_axis(usual, pair, axis):
    place = np.linspace(0, 1, SHAPE[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    shaded = np.stack([pair[0], pair[1] * np.exp(-0.5 * place)]).astype(np.float32)
    change = signature(shaded, MASK)['FLAIR shading'] - usual['FLAIR shading']
    assert change.argmin() == axis
    assert -0.6 < change[axis] < -0.15
    assert np.abs(np.delete(change, axis)).max() < 0.5 * abs(change[axis])


def test_exchanged_scans_exchange_what_belongs_to_them(usual, pair):
    found = signature(pair[::-1].copy(), MASK)
    for name, values in exchanged(usual).items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)
    for kind in ('intensities', 'detail', 'shading'):
        np.testing.assert_array_equal(found[f'T1w {kind}'], usual[f'FLAIR {kind}'])
    np.testing.assert_allclose(found['edges'], usual['edges'])
    assert not np.allclose(found['contrast'], usual['contrast'], atol=0.05)


def test_the_same_scan_twice_has_one_contrast(pair):
    contrast = signature(pair[[0, 0]], MASK)['contrast']
    assert contrast[0] == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(contrast[1:11], contrast[11:])
    assert contrast[10] < 0.05  # nothing is left to vary within a decile


def test_a_shift_is_seen_in_the_edges(usual, pair):
    shifted = np.stack([pair[0], np.roll(pair[1], 6, axis=1)])
    assert abs(signature(shifted, MASK)['edges'][0]) < 0.5 * abs(usual['edges'][0])
