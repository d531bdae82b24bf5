"""Networks that turn T1w and FLAIR into PSR in one pass, as the methods that are compared with."""

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.nets import VQVAE, UNet
from torch import Tensor, nn

from demist_app.model.autoencoder import Autoencoder, encode_mean, fold, unfold
from demist_app.model.baselines import KLGANPreset, UNetPreset, VQVAEPreset
from demist_app.model.convolution import quick

_HALF = (2, 4, 1, 1)  # stride, kernel, dilation, padding of MONAI's example
_DOUBLE = (2, 4, 1, 1, 0)
_DECAY = 0.99  # of the codebook's moving average
_UNUSED = 0.5  # voxels per update


class RegressionUNet(nn.Module):
    """MONAI's residual UNet.

    Parameters
    ----------
    preset : UNetPreset
    """

    def __init__(self, preset: UNetPreset) -> None:
        super().__init__()
        norm: Any = 'INSTANCE' if preset.normalised else None
        self.fold = preset.fold
        self.network = UNet(
            spatial_dims=3,
            in_channels=2 * preset.fold**3,
            out_channels=preset.fold**3,
            channels=preset.channels,
            strides=[2] * (len(preset.channels) - 1),
            num_res_units=preset.res_units,
            norm=norm,
        )
        quick(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return PSR as a share of its scale, (B, 1, X, Y, Z), from images, (B, 2, X, Y, Z)."""
        return unfold(self.network(fold(images, self.fold)), self.fold)


class KLTranslator(Autoencoder):
    """A KL autoencoder that decodes PSR from the latent of both images.

    Parameters
    ----------
    preset : KLGANPreset
    """

    def __init__(self, preset: KLGANPreset) -> None:
        super().__init__(preset.autoencoder, 2, 1)

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Return PSR as a share of its scale, (B, 1, X, Y, Z), decoded from the latent's mean."""
        return self.decode(encode_mean(self, images))


class VQTranslator(nn.Module):
    """A vector-quantised autoencoder that decodes PSR from the codes of both images.

    Codes that are not in use are put where the encoder is (Dhariwal et al., arXiv 2005.00341),
    all of them at first: MONAI's own codebook, which starts far from the encoder's first outputs,
    was down to 4 codes of 256 after 200 updates.

    Parameters
    ----------
    preset : VQVAEPreset
    """

    def __init__(self, preset: VQVAEPreset) -> None:
        super().__init__()
        levels = len(preset.channels)
        self.fold = preset.fold
        self.network = VQVAE(
            spatial_dims=3,
            in_channels=2 * preset.fold**3,
            out_channels=preset.fold**3,
            channels=preset.channels,
            num_res_layers=preset.res_layers,
            num_res_channels=preset.channels,
            downsample_parameters=(_HALF,) * levels,
            upsample_parameters=(_DOUBLE,) * levels,
            num_embeddings=preset.embeddings,
            embedding_dim=preset.embedding_channels,
            decay=_DECAY,
        )
        quick(self)
        # set by its own moving average and never by a gradient, but it does change: what needs no
        # gradient counts as frozen in training
        self.network.quantizer.quantizer.embedding.weight.requires_grad_(True)

    def quantised(
        self, images: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return PSR, and the loss that commits the encoder to its codes.

        Parameters
        ----------
        images : Tensor, shape (B, 2, X, Y, Z)
        generator : torch.Generator, optional
            Of the CPU; in training, it draws the places of codes that are not in use.
        """
        latent = self.network.encode(fold(images, self.fold))
        # MONAI spares the codebook the low precision of GPUs alone
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            if self.training:
                self._revive(latent, generator)
            loss, codes = self.network.quantizer(latent)
        return unfold(self.network.decode(codes), self.fold), loss

    @torch.no_grad()
    def _revive(self, latent: Tensor, generator: torch.Generator | None) -> None:
        quantizer = self.network.quantizer.quantizer
        dead = quantizer.ema_cluster_size < _UNUSED
        found = latent.movedim(1, -1).flatten(0, -2)
        drawn = torch.randint(len(found), dead.shape, generator=generator).to(latent.device)
        fresh = found[drawn[dead]]
        quantizer.embedding.weight[dead] = fresh
        quantizer.ema_w[dead] = fresh
        quantizer.ema_cluster_size[dead] = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Return PSR as a share of its scale, (B, 1, X, Y, Z), from images, (B, 2, X, Y, Z)."""
        return self.quantised(images)[0]


TRANSLATORS: Mapping[str, tuple[type, type[nn.Module]]] = {
    'unet': (UNetPreset, RegressionUNet),
    'klgan': (KLGANPreset, KLTranslator),
    'vqvae': (VQVAEPreset, VQTranslator),
}
"""Settings and network, by the name of the method."""


def translate(network: nn.Module, images: Tensor) -> Tensor:
    """Run a network of this module; see `RegressionUNet.forward`."""
    psr: Tensor = network(images.contiguous(memory_format=torch.channels_last_3d))
    return psr
