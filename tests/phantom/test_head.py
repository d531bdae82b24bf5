import numpy as np
import pytest
from scipy import ndimage

from demist_app.phantom.anatomy import brain_fractions, sample_anatomy
from demist_app.phantom.head import Head, default_shape, sample_head
from demist_app.phantom.labels import Label
from demist_app.phantom.template import TISSUES


def brain_of(head: Head) -> np.ndarray:
    return (head.labels > 0) & (head.labels < 20)


def test_same_seed_same_head_other_seed_other_head(head):
    again = sample_head(np.random.default_rng(7), resolution=3.0)
    other = sample_head(np.random.default_rng(8), resolution=3.0)
    assert np.array_equal(again.labels, head.labels)
    assert np.array_equal(again.fractions, head.fractions)
    assert np.mean(brain_of(other) != brain_of(head)) > 0.01


def test_head_holds_every_tissue(head):
    # Lesions come later; lenses may fall between 3 mm voxels.
    missing = set(Label) - {Label(v) for v in np.unique(head.labels)}
    assert missing <= {Label.LESION, Label.LENS, Label.NERVE}


@pytest.mark.parametrize('seed', range(4))
def test_brain_is_of_human_size_in_one_piece_and_wrapped(seed):
    head = sample_head(np.random.default_rng(seed), resolution=3.0)
    brain = brain_of(head)
    assert 1000 < brain.sum() * 27 / 1000 < 1950
    pieces, _ = ndimage.label(brain)
    assert np.bincount(pieces.ravel())[1:].max() / brain.sum() > 0.99
    touching = head.labels[ndimage.binary_dilation(brain) & ~brain]
    assert np.isin(touching, [Label.AIR, Label.SKIN, Label.FAT]).mean() < 0.01


def test_fractions_agree_with_labels(head):
    total = head.fractions.sum(0)
    assert head.fractions.min() >= 0
    assert total.max() < 1 + 1e-4
    inside = total > 0.5
    best = np.asarray(TISSUES)[head.fractions.argmax(0)]
    assert np.array_equal(head.labels[head.box][inside], best[inside])
    assert np.array_equal(head.labels[head.box][~inside], head.beneath[~inside])


def test_left_and_right_follow_the_affine(head):
    voxels = np.argwhere(head.labels == Label.EYE)
    world = voxels @ head.affine[:3, :3].T + head.affine[:3, 3]
    brain = np.argwhere(brain_of(head)) @ head.affine[:3, :3].T + head.affine[:3, 3]
    assert (world[:, 0] > 0).any()
    assert (world[:, 0] < 0).any()
    assert world[:, 1].mean() > brain[:, 1].mean() + 40  # eyes in front of
    assert world[:, 2].mean() < brain[:, 2].mean()  # and below the middle of the brain


def test_widening_makes_ventricles_larger_and_nothing_else_much():
    anatomy = sample_anatomy(np.random.default_rng(3))
    axis = np.arange(-80, 80, 4, dtype=np.float32)
    coords = np.stack(np.meshgrid(axis, axis, axis, indexing='ij'))
    narrow, wide = (
        brain_fractions(anatomy, anatomy.to_template(coords, growth=mm)).sum((1, 2, 3))
        for mm in (0.0, 3.0)
    )
    index = TISSUES.index(Label.CSF_VENTRICLE)
    assert wide[index] > 1.3 * narrow[index]
    assert wide[-1] == pytest.approx(narrow[-1], rel=0.01)


def test_shape_and_default_shape():
    small = sample_head(np.random.default_rng(0), 4.0, shape=(40, 48, 40))
    assert small.labels.shape == (40, 48, 40)
    assert brain_of(small)[1:-1, 1:-1, 1:-1].sum() > 0.99 * brain_of(small).sum()
    assert default_shape(2.0) == (92, 116, 116)
