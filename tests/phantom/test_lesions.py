from dataclasses import replace

import numpy as np
import pytest

from demist_app.phantom.anatomy import sample_anatomy
from demist_app.phantom.labels import Label
from demist_app.phantom.lesions import KINDS, ZONES, lesion_texture, render_lesions, sample_lesions
from demist_app.phantom.template import TISSUES, load_template


@pytest.fixture(scope='module')
def anatomy():
    return sample_anatomy(np.random.default_rng(7))


def drawn(anatomy, seeds=range(12), sessions=3):
    return [sample_lesions(np.random.default_rng(s), anatomy, sessions) for s in seeds]


def test_counts_zones_and_new_lesions(anatomy):
    patients = drawn(anatomy)
    for lesions in patients:
        assert 6 <= sum(lesion.born == 0 for lesion in lesions) <= 45
        assert all(sum(lesion.born == s for lesion in lesions) <= 2 for s in (1, 2))
        assert all(len(lesion.growth) == 3 and lesion.growth[0] == 1 for lesion in lesions)
    everything = [lesion for lesions in patients for lesion in lesions]
    for zone, share in ZONES.items():
        found = np.mean([lesion.zone == zone for lesion in everything])
        assert found == pytest.approx(share, abs=0.12)
    assert {lesion.kind for lesion in everything} == set(KINDS)


def test_brightness_does_not_tell_myelin(anatomy):
    """Water (FLAIR) and PSR drop vary apart within each kind of lesion."""
    everything = [lesion for lesions in drawn(anatomy, range(30)) for lesion in lesions]
    for kind in KINDS:
        pairs = np.array([(k.water, k.drop) for k in everything if k.kind == kind])
        assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.25


def test_centres_lie_in_white_matter(anatomy):
    centres = np.array([k.centre for lesions in drawn(anatomy) for k in lesions], np.float32)
    priors = load_template().priors.at(centres.T[:, :, None, None].copy())[:, :, 0, 0]
    hosts = [Label.WM, Label.CORPUS_CALLOSUM, Label.CEREBELLAR_WM, Label.BRAINSTEM]
    assert np.median(priors[[TISSUES.index(h) for h in hosts]].sum(0)) > 0.8


def test_rendering_replaces_white_matter_and_keeps_the_sum(head, anatomy):
    lesions = sample_lesions(np.random.default_rng(3), anatomy, 2)
    texture = lesion_texture(np.random.default_rng(4))
    fractions, where = render_lesions(head, lesions, texture, 0)
    np.testing.assert_allclose(fractions.sum(0), head.fractions.sum(0), atol=1e-5)
    volume = fractions[-1].sum() * 27
    expected = sum(
        4 / 3 * np.pi / abs(np.linalg.det(lesion.axes)) for lesion in lesions if lesion.born == 0
    ) * abs(np.linalg.det(anatomy.affine[:3, :3]))
    assert 0.3 * expected < volume < 1.2 * expected  # they overlap, and end at the cortex
    inside = where.fraction > 0.99
    assert where.drop[inside].min() > 0
    assert where.water[inside].min() > 0
    assert where.near[inside].min() > 0.99
    assert where.near[where.fraction == 0].max() < 1


def test_growth_and_birth(head, anatomy):
    texture = lesion_texture(np.random.default_rng(4))
    lesion = replace(sample_lesions(np.random.default_rng(3), anatomy, 2)[0], growth=(1.0, 1.8))
    volumes = [render_lesions(head, [lesion], texture, s)[1].fraction.sum() for s in (0, 1)]
    assert 1.3 < volumes[1] / volumes[0] < 2.4
    unborn = replace(lesion, born=1)
    assert render_lesions(head, [unborn], texture, 0)[1].fraction.sum() == 0
    assert render_lesions(head, [unborn], texture, 1)[1].fraction.sum() > 0
