import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from demist_app.evaluation.lesions import (
    DISTAL,
    LESION,
    PROXIMAL,
    Plane,
    inner_white,
    lesion_pairs,
    means,
    midsagittal,
    pair_scores,
    separate,
    voxel_scores,
)

SHAPE = (40, 30, 24)
SPACING = (1.0, 1.0, 1.0)
MIDDLE = Plane(np.array([1.0, 0.0, 0.0]), (SHAPE[0] - 1) / 2)


def block(start, size, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(s, s + size) for s in start)] = True
    return mask


def voxels(pair_part, shape=SHAPE):
    return np.stack(np.unravel_index(pair_part, shape), axis=1)


def test_diagonal_neighbours_are_one_lesion_and_small_ones_do_not_count():
    lesions = np.zeros((12, 12, 12), bool)
    lesions[1:4, 1:4, 1:4] = True
    lesions[4:6, 4:6, 4:6] = True  # touches the first with a corner
    lesions[9:11, 9:11, 9:11] = True  # 8 mm³
    labels, numbers = separate(lesions)
    assert len(numbers) == 1
    assert (labels == numbers[0]).sum() == 27 + 8
    assert len(separate(lesions, voxel_mm3=4.0)[1]) == 2


def test_a_lesion_in_plain_white_matter():
    lesions = block((6, 12, 10), 4)
    (pair,) = lesion_pairs(lesions, np.ones(SHAPE, bool), SPACING, MIDDLE)
    distance = ndimage.distance_transform_edt(~lesions).ravel()
    near = distance[pair.proximal]
    assert len(pair.lesion) == len(pair.proximal) == len(pair.distal) == 64
    # the nearest there are: no voxel from 2 mm on that is nearer was left out
    assert near.min() == 2
    assert near.max() <= np.sort(distance[distance >= 2])[63]
    mirrored = block((39 - 9, 12, 10), 4)
    assert set(pair.distal) == set(np.flatnonzero(mirrored))


def test_partners_are_white_touch_no_lesion_and_lie_where_they_should():
    lesions = block((6, 12, 10), 4) | block((12, 12, 10), 3) | block((30, 12, 10), 3)
    white = np.random.default_rng(0).random(SHAPE) < 0.9
    free = white & ~ndimage.binary_dilation(lesions, np.ones((3, 3, 3)))
    pairs = lesion_pairs(lesions, white, SPACING, MIDDLE)
    assert len(pairs) == 3
    for pair in pairs:
        assert free.ravel()[pair.proximal].all()
        assert free.ravel()[pair.distal].all()
        sides = voxels(pair.distal)[:, 0] - MIDDLE.offset
        assert (np.sign(sides) == -np.sign(voxels(pair.lesion)[:, 0].mean() - MIDDLE.offset)).all()


def test_the_mirror_image_moves_to_white_matter_but_not_far():
    lesions = block((6, 12, 10), 4)
    near, far = (block((30, 12 + shift, 10), 4) for shift in (6, 10))
    (pair,) = lesion_pairs(lesions, near, SPACING, MIDDLE)
    assert set(pair.distal) == set(np.flatnonzero(near))
    (pair,) = lesion_pairs(lesions, far, SPACING, MIDDLE)
    # 8 of the 10 voxels it would have to go: half of it arrives
    assert len(pair.distal) == 32
    (pair,) = lesion_pairs(lesions, block((30, 23, 10), 4), SPACING, MIDDLE)
    assert pair.distal is None
    assert pair.proximal is None


def test_distances_are_of_millimetres():
    lesions = block((6, 12, 10), 4)
    (pair,) = lesion_pairs(lesions, np.ones(SHAPE, bool), (1.0, 1.0, 4.0), MIDDLE)
    assert len(pair.proximal) == 64
    # the next slice is 4 mm away: what lies 2 or 3 mm away comes first
    assert set(voxels(pair.proximal)[:, 2]) == {10, 11, 12, 13}


def test_at_the_border_of_the_volume():
    lesions = block((0, 0, 0), 4)
    (pair,) = lesion_pairs(lesions, np.ones(SHAPE, bool), SPACING, MIDDLE)
    assert set(pair.distal) == set(np.flatnonzero(block((36, 0, 0), 4)))


def test_mirroring_twice_is_nothing():
    plane = Plane(np.array([0.8, 0.6, 0.0]), 3.0)
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(plane.mirror(plane.mirror(points)), points)
    np.testing.assert_allclose(plane.height(plane.mirror(points)), -plane.height(points))


@settings(deadline=None, max_examples=15)
@given(tilt=st.floats(-0.12, 0.12), shift=st.floats(-4, 4))
def test_the_plane_of_a_tilted_head_is_found(tilt, shift):
    size = np.array([3.0, 3.0, 3.0])
    grid = np.stack(np.meshgrid(*(np.arange(n) * 3.0 for n in (56, 64, 48)), indexing='ij'), -1)
    centre = np.array([82.0 + shift, 95.0, 70.0])
    normal = np.array([1.0, tilt, -tilt / 2])
    normal /= np.linalg.norm(normal)
    frame = np.linalg.qr(np.column_stack([normal, [0, 1, 0], [0, 0, 1]]))[0]
    own = (grid - centre) @ frame
    mask = ((own / (60, 80, 55)) ** 2).sum(-1) < 1
    # symmetric about the plane, and about no other
    image = np.abs(own[..., 0]) + 0.6 * own[..., 1] + 0.4 * own[..., 2]
    found = midsagittal(np.where(mask, 300 + image, 0).astype(np.float32), mask, size)
    assert found.normal @ normal > np.cos(np.deg2rad(1))
    assert found.height(centre[None])[0] == pytest.approx(0, abs=0.5)


def test_means_and_scores():
    lesions = block((6, 12, 10), 4)
    image = np.full(SHAPE, 12, np.float32)
    image[20:] = 11
    image[lesions] = 6
    pairs = lesion_pairs(lesions, np.ones(SHAPE, bool), SPACING, MIDDLE)
    table = means(image, pairs)
    assert table[0, [LESION, PROXIMAL, DISTAL]].tolist() == [6, 12, 11]
    labels, scores, rows = pair_scores(table, 'combined')
    assert labels.tolist() == [True, False, False]
    assert scores.tolist() == [-6, -12, -11]
    assert rows.tolist() == [0, 0, 0]
    assert pair_scores(table, 'dNAWM', bright=True)[1].tolist() == [6, 11]
    labels, scores = voxel_scores(image, pairs, 'pNAWM')
    assert labels.sum() == (~labels).sum() == 64
    assert set(scores[labels]) == {-6}
    assert set(scores[~labels]) == {-12}


def test_a_lesion_without_partner_is_left_out():
    table = np.array([[6.0, 12, np.nan], [7, np.nan, np.nan], [8, 13, 12]])
    labels, scores, rows = pair_scores(table, 'dNAWM')
    assert (labels.tolist(), scores.tolist(), rows.tolist()) == ([True, False], [-8, -12], [2, 2])
    assert set(pair_scores(table, 'combined')[2]) == {0, 2}


def test_no_lesion():
    nothing = np.zeros(SHAPE, bool)
    assert lesion_pairs(nothing, ~nothing, SPACING, MIDDLE) == []
    assert means(np.zeros(SHAPE, np.float32), []).shape == (0, 3)
    assert voxel_scores(np.zeros(SHAPE, np.float32), [], 'combined')[0].size == 0


def test_inner_white_touches_nothing_but_white_matter_and_lesions():
    labels = np.full((7, 7, 7), 3, np.uint8)
    labels[3, 3, 0] = 2
    lesions = np.zeros(labels.shape, bool)
    lesions[3, 3, 4] = True
    labels[lesions] = 1  # whatever it is taken for
    white = inner_white(labels == 3, lesions)
    assert white[3, 3, 3]
    assert white[3, 3, 4]
    assert not white[3, 3, 1]
    assert not white[0].any()  # nobody knows what lies beyond
