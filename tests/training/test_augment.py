"""Augmentation changes what scanners change, and never the PSR."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demist_app.model.presets import StagePreset
from demist_app.training.augment import degrade, perturb
from demist_app.training.examples import read_examples
from demist_app.training.patches import Draws, Patches


def budget(patch, patch_min=0):
    return StagePreset(1, 1e-3, 1, patch, patch_min)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_degraded_scans_keep_the_range_and_the_background(seed):
    rng = np.random.default_rng(seed)
    mask = torch.zeros(24, 24, 24)
    mask[6:18, 6:18, 6:18] = 1
    images = torch.rand((2, 24, 24, 24), generator=torch.Generator().manual_seed(seed))
    scans = degrade(images, mask, rng)
    assert scans.shape == images.shape
    assert scans.min() >= 0
    assert scans.max() <= 1
    # the mask may move by two voxels, no further
    assert not scans[:, :3].any()
    assert not scans[:, :, :, 21:].any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_perturbed_masks_have_no_holes(seed):
    mask = torch.zeros(32, 32, 32)
    mask[8:24, 8:24, 8:24] = 1
    noise = torch.Generator().manual_seed(seed)
    moved = perturb(mask, np.random.default_rng(seed), noise)
    assert moved[11:21, 11:21, 11:21].all()


def test_degrading_is_a_function_of_the_seed():
    images, mask = torch.rand(2, 16, 16, 16), torch.ones(16, 16, 16)
    first, again, other = (degrade(images, mask, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_patches_are_a_function_of_their_number(examples):
    patches = Patches(examples, budget(16), 20.0, seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(patches[5].values(), patches[5].values(), strict=True)
    )
    assert not torch.equal(patches[5]['psr'], patches[6]['psr'])


def test_flips_and_rotations_move_psr_and_never_change_it(examples):
    """Whatever the patch, its PSR stays within what the scans hold."""
    patches = Patches(examples, budget(32), 20.0, seed=0)
    top = max(float(e.psr.max()) for e in examples) / 20
    for index in range(20):
        psr = patches[index]['psr']
        assert psr.min() >= 0
        assert psr.max() <= top + 1e-3


def test_a_whole_volume_patch_is_the_volume(examples):
    item = Patches(examples[:1], budget(64), 20.0, seed=0, augment=False)[0]
    assert torch.allclose(item['psr'][0] * 20, torch.tensor(np.array(examples[0].psr)).float())
    outside = torch.tensor(np.array(examples[0].mask)) == 0
    assert not item['images'][:, outside].any()


def test_rotation_turns_images_and_psr_together(examples):
    """T1w and PSR of the examples are the same shapes: they must stay so after a rotation."""
    patches = Patches(examples, budget(32), 20.0, seed=1)
    for index in range(12):
        item = patches[index]
        white = item['psr'][0] > 0.45
        grey = (item['psr'][0] > 0.2) & (item['psr'][0] < 0.4)
        if white.sum() > 50 and grey.sum() > 50:
            assert item['images'][0][white].mean() > item['images'][0][grey].mean() + 0.1


@pytest.mark.parametrize('world', [1, 2])
def test_draws_never_repeat(world, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: world > 1)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: world)
    seen = []
    for epoch in range(3):
        for rank in range(world):
            monkeypatch.setattr(torch.distributed, 'get_rank', lambda rank=rank: rank)
            draws = Draws(5)
            draws.set_epoch(epoch)
            seen += list(draws)
    assert sorted(seen) == list(range(15 * world))


def test_validation_draws_the_same_every_time():
    draws = Draws(5, fixed=True)
    draws.set_epoch(3)
    assert list(draws) == list(range(5))


def test_patch_sizes_vary_between_the_limits(examples):
    patches = Patches(examples, budget(32, 16), 20.0, seed=0)
    edges = {n for index in range(20) for n in patches[index]['psr'].shape[1:]}
    assert edges == {16, 32}


def test_the_store_gives_back_what_was_written(examples):
    found = read_examples(examples[0].path.parent)
    assert [e.digest for e in found] == [e.digest for e in examples]
    assert found[0].images.shape == (2, 2, 32, 32, 32)
    assert len({e.digest for e in found}) == 6


def test_an_empty_store_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no training examples'):
        read_examples(tmp_path)
