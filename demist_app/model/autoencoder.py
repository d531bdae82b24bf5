"""Stage 1: the two KL autoencoders (paper section 2.1)."""

from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn
from torch.nn import functional

from demist_app.model.convolution import quick
from demist_app.model.presets import AutoencoderPreset

_FIRST_LOG_VARIANCE = -6.0


class Autoencoder(AutoencoderKL):
    """MONAI's autoencoder, with cubes of voxels as channels if the preset says so.

    Parameters
    ----------
    preset : AutoencoderPreset
    channels : int
        Images: 1 (PSR) or 2 (T1w and FLAIR).
    decoded : int, optional
        Images it gives; by default as many.
    """

    def __init__(
        self, preset: AutoencoderPreset, channels: int, decoded: int | None = None
    ) -> None:
        levels = len(preset.channels)
        super().__init__(
            spatial_dims=3,
            in_channels=channels * preset.fold**3,
            out_channels=(decoded or channels) * preset.fold**3,
            channels=preset.channels,
            latent_channels=preset.latent_channels,
            num_res_blocks=(preset.res_blocks,) * levels,
            norm_num_groups=preset.norm_groups or 1,
            attention_levels=(False,) * levels,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
            include_fc=False,
        )
        self.fold = preset.fold
        # close to deterministic at first: small σ are learnt from large ones very slowly
        _fill(self.quant_conv_log_sigma, _FIRST_LOG_VARIANCE)
        if not preset.norm_groups:
            _unnormalise(self)
        for module in self.modules():
            if type(module) is AEKLResBlock:
                module.__class__ = _ResidualBlock
        quick(self)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and σ of the posterior, each (B, L, X / factor, Y / factor, Z / factor).

        Parameters
        ----------
        x : Tensor, shape (B, C, X, Y, Z)
        """
        mean, sd = super().encode(fold(x, self.fold))
        return mean, sd

    def decode(self, z: Tensor) -> Tensor:
        """Return images, shape (B, C, X, Y, Z).

        Parameters
        ----------
        z : Tensor, shape (B, L, x, y, z)
        """
        return unfold(super().decode(z), self.fold)


class _ResidualBlock(AEKLResBlock):
    """MONAI's, in place where autograd keeps nothing: a third less memory to fill."""

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.norm1(x)
        update: Tensor = self.conv1(functional.silu(normalised, inplace=normalised is not x))
        update = self.conv2(functional.silu(self.norm2(update), inplace=True))
        update += self.nin_shortcut(x)
        return update


def build_autoencoder(preset: AutoencoderPreset, channels: int) -> Autoencoder:
    """Build an autoencoder for `channels` images (1: PSR, 2: T1w and FLAIR).

    The topology is that of the BraTS bundle: no attention, so that it runs on volumes of any size.
    """
    return Autoencoder(preset, channels)


def encode_mean(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Return μ of the posterior.

    Parameters
    ----------
    autoencoder : Autoencoder
    images : Tensor, shape (B, C, X, Y, Z)

    Returns
    -------
    Tensor, shape (B, L, X / factor, Y / factor, Z / factor)
        The deterministic latent: draws differ by the diffusion alone, not by E_cond's own noise.
    """
    hidden: Tensor = autoencoder.encoder(fold(images, autoencoder.fold))
    mean: Tensor = autoencoder.quant_conv_mu(hidden)
    return mean


def inherit(autoencoder: Autoencoder, pretrained: dict[str, Tensor]) -> None:
    """Start from the weights of an autoencoder of one image, whatever the number of images.

    Two autoencoders trained from different starts have latent bases that are unrelated, which
    voids a frozen prior in the space of one of them. Every image gets the pretrained weights of
    the first and the last convolution, those of the first divided by the number of images, so
    that equal images give the hidden features of the single one.
    """
    own = autoencoder.state_dict()
    for name, tensor in pretrained.items():
        if own[name].shape == tensor.shape:
            own[name] = tensor
        elif name.startswith('encoder'):
            images = own[name].shape[1] // tensor.shape[1]
            own[name] = tensor.repeat(1, images, 1, 1, 1) / images
        else:
            images = own[name].shape[0] // tensor.shape[0]
            own[name] = tensor.repeat(images, *(1,) * (tensor.ndim - 1))
    autoencoder.load_state_dict(own)


def fold(images: Tensor, edge: int) -> Tensor:
    """Make channels of cubes of voxels.

    Parameters
    ----------
    images : Tensor, shape (B, C, X, Y, Z)
    edge : int
        Of the cubes, e; 1 changes nothing.

    Returns
    -------
    Tensor, shape (B, C e³, X / e, Y / e, Z / e)
        An image's channels follow each other.
    """
    if edge == 1:
        return images
    batch, channels, *shape = images.shape
    x, y, z = (n // edge for n in shape)
    cubes = images.reshape(batch, channels, x, edge, y, edge, z, edge)
    folded = cubes.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, -1, x, y, z)
    return folded.contiguous(memory_format=torch.channels_last_3d)


def unfold(folded: Tensor, edge: int) -> Tensor:
    """Undo `fold`."""
    if edge == 1:
        return folded
    batch, channels, x, y, z = folded.shape
    cubes = folded.reshape(batch, channels // edge**3, edge, edge, edge, x, y, z)
    return cubes.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, x * edge, y * edge, z * edge)


def _unnormalise(module: nn.Module) -> None:
    """Take out the group norms; residual blocks start as identities, which they then need."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, nn.Identity())
        elif isinstance(child, AEKLResBlock):
            _fill(child.conv2, 0.0)
        _unnormalise(child)


def _fill(convolution: Any, value: float) -> None:
    """Make a convolution give `value`, whatever it sees."""
    nn.init.zeros_(convolution.conv.weight)
    nn.init.constant_(convolution.conv.bias, value)


def latent_statistics(latents: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return per-channel mean and standard deviation of latents, each (L, x, y, z)."""
    flat = torch.cat([latent.flatten(1).double() for latent in latents], dim=1)
    return flat.mean(1).float(), flat.std(1).float()
