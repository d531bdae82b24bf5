"""Random protocols change the contrast, never the PSR."""

import numpy as np
import pytest

from demist_app.phantom.randomised import random_flair, random_mprage, simulate_random


@pytest.fixture(scope='module')
def scan():
    """One head at 4 mm with two random protocols."""
    return simulate_random(seed=3, number=1, protocols=2, resolution=4.0)


def test_arrays_belong_together(scan):
    assert scan.images.shape[:2] == (2, 2)
    assert scan.images.shape[2:] == scan.psr.shape == scan.mask.shape == scan.lesions.shape
    assert not scan.psr[scan.mask == 0].any()
    assert (scan.lesions <= scan.mask).all()
    white = scan.truth > 11
    assert 9 < scan.psr[white].mean() < 15  # percent


def test_protocols_differ_in_contrast_and_agree_in_anatomy(scan):
    brain = scan.mask > 0
    first, second = (scan.images[k][:, brain] for k in (0, 1))
    assert not np.allclose(first, second, rtol=0.01)
    for channel in (0, 1):
        assert np.corrcoef(first[channel], second[channel])[0, 1] > 0.8
    # white matter is brighter on T1w, darker on FLAIR
    white, grey = scan.truth[brain] > 11, (scan.truth[brain] > 5) & (scan.truth[brain] < 7)
    for images in (first, second):
        assert images[0][white].mean() > images[0][grey].mean()
        assert images[1][white].mean() < images[1][grey].mean()


def test_a_head_is_a_function_of_seed_and_number(scan):
    again = simulate_random(seed=3, number=1, protocols=2, resolution=4.0)
    assert np.array_equal(again.images, scan.images)
    assert np.array_equal(again.psr, scan.psr)


def test_every_drawn_protocol_can_be_played_out():
    rng = np.random.default_rng(0)
    for _ in range(500):
        mprage, flair = random_mprage(rng), random_flair(rng)
        half = 0.5 * mprage.train_length * mprage.echo_spacing
        assert mprage.inversion_time > half
        assert mprage.repetition_time > mprage.inversion_time + half
        assert 1.2 < flair.inversion_time < flair.repetition_time
