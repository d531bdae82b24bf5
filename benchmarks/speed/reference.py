"""The paper's recipe, assembled from stock parts of MONAI.

What the synthesis of demist is timed against:

`SlidingWindowInferer` over windows of 96³ voxels that overlap by half, and in each window
`ControlNetLatentDiffusionInferer` with MONAI's own schedulers, from noise alone, in single
precision. The networks have the same weights as the model under test and are shown to the inferers
through two thin modules: streams act where they act in demist, but tokens, hint and the update of
the attention's weights are computed at every step, as the inferers call for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.inferers import ControlNetLatentDiffusionInferer, SlidingWindowInferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from demist_app.model.demist import Demist
from demist_app.model.denoiser import denoise

WINDOW, OVERLAP = 96, 0.5
_KIND = {'epsilon': 'epsilon', 'x0': 'sample', 'v': 'v_prediction'}  # in MONAI's words


class _Denoiser(nn.Module):
    """Backbone with semantic and adaptive stream; its context is z_c and where the window is."""

    def __init__(self, model: Demist) -> None:
        super().__init__()
        self.denoiser = model.denoiser

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Any,
        down_block_additional_residuals: Sequence[Tensor] | None,
        mid_block_additional_residual: Tensor | None,
    ) -> Tensor:
        residuals = None
        if mid_block_additional_residual is not None:
            residuals = [*(down_block_additional_residuals or ()), mid_block_additional_residual]
        visits = self.denoiser.visits(self.denoiser.condition(*context))
        return denoise(self.denoiser.backbone, x, timesteps, visits, residuals)


class _ControlNet(nn.Module):
    """The spatial stream."""

    def __init__(self, model: Demist) -> None:
        super().__init__()
        self.spatial = model.denoiser.spatial

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        controlnet_cond: Tensor,
        context: Any,  # noqa: ARG002 - of the interface
    ) -> tuple[list[Tensor] | None, Tensor | None]:
        if self.spatial is None:
            return None, None
        *skips, middle = self.spatial(x, timesteps, self.spatial.hint(controlnet_cond))
        return skips, middle


class _Decoder(nn.Module):
    def __init__(self, model: Demist) -> None:
        super().__init__()
        self.model = model

    def decode_stage_2_outputs(self, latent: Tensor) -> Tensor:
        return self.model.decode(latent)


@dataclass
class Reference:
    """The recipe, for one model.

    Attributes
    ----------
    model : Demist
        Its streams not merged.
    sampler : {'ddim', 'ddpm'}
    steps : int
        Evaluations in each window.
    limit : int
        Evaluations that are really made, the last ones; equal to `steps` for a map. Fewer are for
        the time alone.
    """

    model: Demist
    sampler: str
    steps: int
    limit: int

    def scheduler(self) -> Any:
        """Return MONAI's scheduler with the settings of the model."""
        diffusion = self.model.preset.diffusion
        kind: Any = DDIMScheduler if self.sampler == 'ddim' else DDPMScheduler
        made = kind(
            num_train_timesteps=diffusion.steps,
            schedule='scaled_linear_beta',
            beta_start=diffusion.beta_start,
            beta_end=diffusion.beta_end,
            prediction_type=_KIND[diffusion.prediction],
            clip_sample=False,  # latents are not within -1 to 1
        )
        made.set_timesteps(self.steps)
        made.timesteps = made.timesteps[-self.limit :]
        return made

    @torch.no_grad()
    def synthesise(self, images: Any, mask: Any, seed: int, device: torch.device) -> Any:
        """Return the map of one draw, percent, (X, Y, Z).

        Parameters
        ----------
        images : ndarray, shape (2, X, Y, Z)
        mask : ndarray of bool, shape (X, Y, Z)
        seed : int
        device : torch.device
        """
        model, preset = self.model.to(device), self.model.preset
        inferer = ControlNetLatentDiffusionInferer(self.scheduler(), scale_factor=1.0)
        networks = _Denoiser(model), _ControlNet(model), _Decoder(model)
        torch.manual_seed(seed)

        def window(inputs: Tensor) -> Tensor:
            z_c = model.encode_cond(inputs[:, :2])
            corner = inputs[:, 2:, 0, 0, 0] - 0.5  # coordinates are of voxels' centres
            return inferer.sample(
                input_noise=torch.randn_like(z_c),
                autoencoder_model=networks[2],
                diffusion_model=networks[0],
                controlnet=networks[1],
                cn_cond=z_c,
                conditioning=(z_c, corner),  # type: ignore[arg-type]
                verbose=False,
            )

        inside = np.clip(images, 0, 1) * mask
        axes = [np.arange(n) + 0.5 - n / 2 for n in mask.shape]
        inputs = np.concatenate([inside, np.stack(np.meshgrid(*axes, indexing='ij'))])
        sliding = SlidingWindowInferer(WINDOW, overlap=OVERLAP, mode='gaussian')
        shares = sliding(torch.from_numpy(inputs[None].astype(np.float32)).to(device), window)
        psr = preset.psr_scale * shares[0, 0].clamp(0, 1).float().cpu().numpy()  # type: ignore[index]
        return psr * mask
