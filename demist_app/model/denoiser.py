"""The denoiser's backbone: an unconditional 3D UNet (paper section 2.1), its forward written out.

The modules are MONAI's, so that its pretrained weights load; the forward is ours, because the
streams of section 2.2 act between them. Tensors keep the memory format they come in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

from demist_app.model.convolution import quick
from demist_app.model.presets import DenoiserPreset

Visit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Site:
    """A place where the streams meet the backbone.

    Attributes
    ----------
    channels : int
        Width of the hidden feature.
    attention : nn.Module or None
        The backbone's `SpatialAttentionBlock` there; None at the end of a level that has none.
    """

    channels: int
    attention: Any


def build_backbone(preset: DenoiserPreset, latent_channels: int = 8) -> DiffusionModelUNet:
    """Build the unconditional UNet with random weights.

    Its self-attention has no output projection, as in the pretrained one.

    Parameters
    ----------
    preset : DenoiserPreset
    latent_channels : int
        L of the paper.
    """
    backbone = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=latent_channels,
        out_channels=latent_channels,
        channels=preset.channels,
        attention_levels=preset.attention,
        num_head_channels=preset.head_channels,
        num_res_blocks=preset.res_blocks,
        norm_num_groups=preset.norm_groups,
        include_fc=False,
        use_combined_linear=False,
        use_flash_attention=True,
    )
    return quick(backbone)


def sites(network: nn.Module) -> tuple[Site, ...]:
    """List the sites of a backbone, or of its encoder half, in the order of the forward.

    One after every attention block, and one at the end of each level without attention, on the
    way down and on the way up.
    """
    net: Any = network
    middle = net.middle_block
    return (
        *(site for block in net.down_blocks for _, site in _level(block) if site),
        Site(middle.resnet_1.out_channels, middle.attention),
        *(site for block in getattr(net, 'up_blocks', ()) for _, site in _level(block) if site),
    )


def attend(block: Any, hidden: Tensor, attention: Visit) -> Tensor:
    """Apply a self-attention block, whose attention proper may be another than its own.

    Parameters
    ----------
    block : SpatialAttentionBlock
    hidden : Tensor
        (B, C, x, y, z).
    attention : callable
        From (B, x·y·z, C) to the same shape.
    """
    tokens = block.norm(hidden).flatten(2).transpose(1, 2)
    return hidden + attention(tokens).transpose(1, 2).reshape(hidden.shape)


def plain(site: Site) -> Visit:
    """Return what the backbone alone does at a site."""
    if site.attention is None:
        return _unchanged
    return partial(attend, site.attention, attention=site.attention.attn)


def embed_time(net: Any, t: Tensor, hidden: Tensor) -> Tensor:
    """Embed the time steps, (B,), for the residual blocks after the first feature `hidden`."""
    code = get_timestep_embedding(t, hidden.shape[1])
    return functional.silu(net.time_embed(code.to(hidden.dtype)))


def encode(
    net: Any, hidden: Tensor, embedded: Tensor, visits: Iterator[Visit]
) -> tuple[Tensor, list[Tensor]]:
    """Run the encoder half: the levels down and the middle block.

    Parameters
    ----------
    net : nn.Module
        Has `down_blocks` and `middle_block`: the backbone, or its trainable copy.
    hidden : Tensor
        (B, C, x, y, z), the output of the first convolution.
    embedded : Tensor
        From `embed_time`.
    visits : iterator
        What happens at each site.

    Returns
    -------
    tuple of Tensor and list of Tensor
        The middle feature, and the features that skip to the decoder half.
    """
    skips = [hidden]
    for block in net.down_blocks:
        for resnet, site in _level(block):
            hidden = _residual_block(resnet, hidden, embedded)
            hidden = next(visits)(hidden) if site else hidden
            skips.append(hidden)
        if block.downsampler is not None:
            hidden = block.downsampler(hidden)
            skips.append(hidden)
    middle = net.middle_block
    hidden = next(visits)(_residual_block(middle.resnet_1, hidden, embedded))
    return _residual_block(middle.resnet_2, hidden, embedded), skips


def denoise(
    backbone: nn.Module,
    noisy: Tensor,
    t: Tensor,
    visits: Sequence[Visit] | None = None,
    residuals: Sequence[Tensor] | None = None,
) -> Tensor:
    """Run the backbone.

    Parameters
    ----------
    backbone : nn.Module
        From `build_backbone`.
    noisy : Tensor
        (B, L, x, y, z) noisy latents; the sizes are multiples of 2 to the number of levels less
        one.
    t : Tensor
        (B,) time steps.
    visits : sequence of callables, optional
        What happens at each of `sites`; by default what the backbone alone does.
    residuals : sequence of Tensor, optional
        Added to each feature that skips to the decoder half, the last one to the middle feature.

    Returns
    -------
    Tensor
        (B, L, x, y, z), the prediction.
    """
    net: Any = backbone
    steps = iter([plain(site) for site in sites(net)] if visits is None else visits)
    hidden = net.conv_in(noisy)
    embedded = embed_time(net, t, hidden)
    hidden, skips = encode(net, hidden, embedded, steps)
    if residuals is not None:
        for index, residual in enumerate(residuals[:-1]):
            skips[index] = skips[index] + residual
        hidden = hidden + residuals[-1]
    for block in net.up_blocks:
        for resnet, site in _level(block):
            joined = torch.cat([hidden, skips.pop()], dim=1)
            hidden = _residual_block(resnet, joined, embedded)
            hidden = next(steps)(hidden) if site else hidden
        if block.upsampler is not None:
            hidden = block.upsampler(hidden)
    prediction: Tensor = net.out(hidden)
    return prediction


def _level(block: Any) -> Iterator[tuple[Any, Site | None]]:
    """Pair the residual blocks of a level with the sites that follow them."""
    for index, resnet in enumerate(block.resnets):
        if hasattr(block, 'attentions'):
            yield resnet, Site(resnet.out_channels, block.attentions[index])
        else:
            last = index == len(block.resnets) - 1
            yield resnet, Site(resnet.out_channels, None) if last else None


def _residual_block(block: Any, hidden: Tensor, embedded: Tensor) -> Tensor:
    # in place where autograd keeps nothing, and the sum in the format of the 3×3×3 convolution:
    # 1×1×1 ones may return another
    update: Tensor = block.conv1(functional.silu(block.norm1(hidden), inplace=True))
    update += block.time_emb_proj(embedded)[:, :, None, None, None]
    update = block.conv2(functional.silu(block.norm2(update), inplace=True))
    update += block.skip_connection(hidden)
    return update


def _unchanged(hidden: Tensor) -> Tensor:
    return hidden
