"""All networks of one model, as a bundle holds them."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demist_app.model.autoencoder import build_autoencoder, encode_mean
from demist_app.model.conditioned import Conditioned
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import Preset

_EXACT = ('psr_shift', 'psr_scale', 'cond_shift', 'cond_scale')


class Demist(nn.Module):
    """E_cond, E_PSR, D_PSR, D_cond, the conditioned denoiser, and the scale of the latents.

    Latents are diffused as (z - shift) / scale: every channel has zero mean and unit variance over
    the training patches.

    Parameters
    ----------
    preset : Preset
    """

    psr_shift: Tensor
    psr_scale: Tensor
    cond_shift: Tensor
    cond_scale: Tensor

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        latent = preset.autoencoder.latent_channels
        self.psr = build_autoencoder(preset.autoencoder, 1)
        self.cond = build_autoencoder(preset.autoencoder, 2)
        self.denoiser = add_streams(build_backbone(preset.denoiser, latent), preset)
        for name in ('psr', 'cond'):
            self.register_buffer(f'{name}_shift', torch.zeros(latent))
            self.register_buffer(f'{name}_scale', torch.ones(latent))

    def encode_psr(self, psr: Tensor) -> Tensor:
        """Return the normalised latent of PSR maps.

        Parameters
        ----------
        psr : Tensor, shape (B, 1, X, Y, Z)
            In [0, 1]: percent over the preset's scale.
        """
        return normalised(encode_mean(self.psr, psr), self.psr_shift, self.psr_scale)

    def encode_cond(self, images: Tensor) -> Tensor:
        """Return z_c, normalised.

        Parameters
        ----------
        images : Tensor, shape (B, 2, X, Y, Z)
            T1w and FLAIR in [0, 1], zero outside the brain.
        """
        return normalised(encode_mean(self.cond, images), self.cond_shift, self.cond_scale)

    def estimate(self, z_c: Tensor) -> Tensor:
        """Return z_c as the estimate of the normalised latent of the PSR map that it is.

        Parameters
        ----------
        z_c : Tensor, shape (B, L, x, y, z)
            As `encode_cond` returns it.
        """
        scale, shift = (v.view(-1, 1, 1, 1) for v in (self.cond_scale, self.cond_shift))
        return normalised(z_c * scale + shift, self.psr_shift, self.psr_scale)

    def decode(self, latent: Tensor) -> Tensor:
        """Return the PSR map of normalised latents, as a share of the preset's scale; unclipped.

        Parameters
        ----------
        latent : Tensor, shape (B, L, x, y, z)
        """
        scale, shift = (v.view(-1, 1, 1, 1) for v in (self.psr_scale, self.psr_shift))
        psr: Tensor = self.psr.decode(latent * scale + shift)
        return psr

    def tensors(self, dtype: torch.dtype = torch.float16) -> dict[str, NDArray[Any]]:
        """Return the weights by name, as a bundle stores them."""
        return {
            # the scale of everything is worth four more bytes
            name: tensor.detach().cpu().to(torch.float32 if name in _EXACT else dtype).numpy()
            for name, tensor in self.state_dict().items()
        }

    @classmethod
    def from_tensors(cls, preset: Preset, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild from `tensors`, in float32.

        Raises
        ------
        RuntimeError
            If a tensor is missing, foreign or of another shape than the preset's.
        """
        model = cls(preset)
        model.load_state_dict(
            {name: torch.from_numpy(t.astype(np.float32)) for name, t in tensors.items()}
        )
        return model.eval()


def add_streams(backbone: nn.Module, preset: Preset) -> Conditioned:
    """Put fresh streams on a backbone that has its final weights."""
    autoencoder = preset.autoencoder
    return Conditioned(
        backbone, preset.streams, autoencoder.latent_channels, float(autoencoder.factor)
    )


def normalised(latent: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return (z - shift) / scale, channel by channel."""
    return (latent - shift.view(-1, 1, 1, 1)) / scale.view(-1, 1, 1, 1)


def bfloat16_pays(device: torch.device) -> bool:
    """Tell whether bfloat16 is worth it: on GPUs, and on processors with instructions for it."""
    return device.type == 'cuda' or bool(torch.cpu.get_capabilities().get('avx512_bf16', False))
