"""Both autoencoders of stage 1."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import nn

from demist_app.model.autoencoder import (
    build_autoencoder,
    encode_mean,
    fold,
    inherit,
    latent_statistics,
    unfold,
)
from demist_app.model.presets import load_preset


@given(
    edge=st.sampled_from([1, 2, 4]),
    cubes=st.tuples(*[st.integers(1, 3)] * 3),
    channels=st.integers(1, 2),
)
@settings(max_examples=25, deadline=None)
def test_unfold_undoes_fold(edge, cubes, channels):
    images = torch.rand(2, channels, *(edge * n for n in cubes))
    folded = fold(images, edge)
    assert folded.shape == (2, channels * edge**3, *cubes)
    assert torch.equal(unfold(folded, edge), images)


def test_a_channel_of_a_folded_image_is_one_corner_of_every_cube():
    image = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    assert torch.equal(fold(image, 2)[0, 0], image[0, 0, ::2, ::2, ::2])
    assert torch.equal(fold(image, 2)[0, 7], image[0, 0, 1::2, 1::2, 1::2])


@pytest.mark.parametrize('name', ['paper', 'small', 'tiny'])
def test_latents_are_a_quarter_of_the_image(name):
    preset = load_preset(name).autoencoder
    assert preset.factor == 4
    if name != 'paper':  # whose forward takes seconds
        autoencoder = build_autoencoder(preset, 2)
        images = torch.rand(1, 2, 16, 32, 16)
        mean, sd = autoencoder.encode(images)
        assert mean.shape == sd.shape == (1, 8, 4, 8, 4)
        assert autoencoder.decode(mean).shape == images.shape
        assert torch.equal(encode_mean(autoencoder, images), mean)
        assert sd.detach() == pytest.approx(0.0498, abs=1e-3)  # exp(-6 / 2)


def test_paper_sizes_are_those_of_the_brats_bundle():
    """Counts of facts known of the MONAI bundle, for one and for two image channels."""
    with torch.device('meta'):
        counts = [
            sum(
                p.numel()
                for p in build_autoencoder(load_preset('paper').autoencoder, n).parameters()
            )
            for n in (1, 2)
        ]
    assert counts == [21_000_353, 21_003_810]


@pytest.mark.parametrize('name', ['small', 'tiny'])
def test_inherited_weights_see_equal_images_as_one(name):
    torch.manual_seed(0)
    preset = load_preset(name).autoencoder
    single, double = build_autoencoder(preset, 1), build_autoencoder(preset, 2)
    inherit(double, single.state_dict())
    image = torch.rand(1, 1, 16, 16, 16)
    latent = encode_mean(single, image)
    assert torch.allclose(encode_mean(double, image.repeat(1, 2, 1, 1, 1)), latent, atol=1e-5)
    decoded = double.decode(latent)
    for channel in (0, 1):
        assert torch.allclose(decoded[:, channel], single.decode(latent)[:, 0], atol=1e-5)


def test_without_group_norms_a_patch_decodes_as_in_the_volume():
    """Far from the border, which a group norm would not care about."""
    torch.manual_seed(0)
    preset = replace(load_preset('tiny').autoencoder, norm_groups=0)
    autoencoder = build_autoencoder(preset, 1)
    assert not any(isinstance(m, nn.GroupNorm) for m in autoencoder.modules())
    for parameter in autoencoder.parameters():  # the residual blocks start as identities
        nn.init.normal_(parameter, std=0.05)
    latent = torch.randn(1, 8, 24, 24, 24)
    with torch.no_grad():
        whole = autoencoder.decode(latent)
        patch = autoencoder.decode(latent[:, :, :20, :20, :20])
    assert torch.allclose(patch[..., :40, :40, :40], whole[..., :40, :40, :40], atol=1e-5)


def test_statistics_are_a_mean_per_channel_and_one_deviation_each():
    latents = [torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1).repeat(2, 1, 1, 1) for _ in range(3)]
    latents = [torch.cat([t[:1], 10 * t[1:]]) for t in latents]
    mean, sd = latent_statistics(latents)
    assert mean.tolist() == [1, 10]
    assert sd == pytest.approx([1.0954, 10.954], abs=1e-3)  # of (0, 2) six times over, unbiased


@pytest.mark.parametrize('name', ['tiny', 'paper'])
def test_residual_blocks_are_those_of_monai(name):
    """In place or not: the same to the bit, and so are the gradients."""
    own = build_autoencoder(load_preset(name).autoencoder, 1).decoder.blocks[1]
    for parameter in own.parameters():
        nn.init.normal_(parameter, std=0.1)
    stock = deepcopy(own)
    stock.__class__ = AEKLResBlock
    hidden = torch.randn(1, own.in_channels, 4, 5, 6)
    found = []
    for block in (own, stock):
        seen = hidden.clone().requires_grad_()
        made = block(seen)
        made.square().sum().backward()
        found.append([made, seen.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    with torch.inference_mode():
        seen = hidden.clone()
        assert torch.equal(own(seen), found[0][0])
        assert torch.equal(seen, hidden)
