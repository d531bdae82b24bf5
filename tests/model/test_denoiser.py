import dataclasses

import pytest
import torch

from demist_app.model.denoiser import attend, build_backbone, denoise, sites
from demist_app.model.presets import load_preset


@pytest.mark.parametrize('flash', [True, False])
@pytest.mark.parametrize(
    'change',
    [{}, {'res_blocks': 2}, {'attention': (False, False, True)}, {'attention': (False,) * 3}],
    ids=str,
)
@torch.no_grad()
def test_forward_is_that_of_monai_to_the_bit(tiny, fill, t, flash, change):
    network = fill(build_backbone(dataclasses.replace(tiny.denoiser, **change)))
    for site in sites(network):
        if site.attention is not None:
            site.attention.attn.use_flash_attention = flash
    noisy = torch.randn(2, 8, 4, 8, 12)
    expected = network(noisy, t)
    assert expected.std() > 0.1
    assert torch.equal(denoise(network, noisy, t), expected)


def test_gradients_are_those_of_monai(backbone, noisy, t):
    parameters = list(backbone.parameters())
    expected = torch.autograd.grad(backbone(noisy, t).square().sum(), parameters)
    got = torch.autograd.grad(denoise(backbone, noisy, t).square().sum(), parameters)
    assert all(gradient.any() for gradient in expected)
    for own, monai in zip(got, expected, strict=True):
        scale = float(monai.abs().max())
        torch.testing.assert_close(own, monai, atol=1e-4 * scale + 1e-4, rtol=0)


@torch.no_grad()
def test_residuals_are_added_as_in_monai(backbone, noisy, t):
    skips = [(16, 8), (16, 8), (16, 4), (32, 4), (32, 2), (32, 2)]
    residuals = [torch.randn(2, width, edge, edge, edge) for width, edge in skips]
    middle = torch.randn(2, 32, 2, 2, 2)
    expected = backbone(
        noisy,
        t,
        down_block_additional_residuals=tuple(residuals),
        mid_block_additional_residual=middle,
    )
    assert torch.equal(denoise(backbone, noisy, t, residuals=[*residuals, middle]), expected)
    assert not torch.equal(expected, backbone(noisy, t))


def test_paper_preset_is_the_pretrained_backbone():
    """189,325,576 parameters and 11 attention sites: the BraTS bundle, counted."""
    with torch.device('meta'):
        network = build_backbone(load_preset('paper').denoiser)
    assert sum(parameter.numel() for parameter in network.parameters()) == 189_325_576
    found = sites(network)
    attended = [site.channels for site in found if site.attention is not None]
    assert sorted(attended) == [256] * 5 + [512] * 6
    assert [site.attention is None for site in found] == [True, *[False] * 11, True]
    assert all(site.attention.norm.num_channels == site.channels for site in found[1:-1])


@torch.no_grad()
def test_memory_format_is_kept_throughout(backbone, noisy, t):
    last = torch.channels_last_3d
    expected = denoise(backbone, noisy, t)
    seen = []

    def visit(site, hidden):
        seen.append(hidden.is_contiguous(memory_format=last))
        if site.attention is None:
            return hidden
        return attend(site.attention, hidden, site.attention.attn)

    backbone.to(memory_format=last)
    visits = [lambda hidden, site=site: visit(site, hidden) for site in sites(backbone)]
    got = denoise(backbone, noisy.to(memory_format=last), t, visits)
    assert len(seen) == 9
    assert all(seen)
    assert got.is_contiguous(memory_format=last)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
