"""Training of the conditional wavelet diffusion model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from demist_app.model.baselines import WaveletPreset, load_baselines
from demist_app.model.diffusion import add_noise, scaled_linear, target
from demist_app.model.losses import Terms
from demist_app.model.presets import Preset
from demist_app.model.wavelet import build_denoiser, haar
from demist_app.training.course import Course, Trained, patches
from demist_app.training.fit import fit
from demist_app.training.stage import Automatic, Batch, part, wide


class WaveletStage(Automatic):
    """Denoising of the sub-bands of PSR beside those of T1w and FLAIR.

    Parameters
    ----------
    preset : Preset
    settings : WaveletPreset
    seed : int
    network : Module
        From `demist_app.model.wavelet.build_denoiser`.
    """

    def __init__(
        self, preset: Preset, settings: WaveletPreset, seed: int, network: nn.Module
    ) -> None:
        super().__init__(preset, settings.stage, seed)
        self.network = network
        self.diffusion = settings.diffusion
        self.factor = 2 ** len(settings.channels)
        self.noising = scaled_linear(
            self.diffusion.steps, self.diffusion.beta_start, self.diffusion.beta_end
        )

    @property
    def narrowest(self) -> int:
        """Voxels across the UNet's lowest level."""
        return self.budget.patch // self.factor

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the denoiser."""
        return part(state, 'network.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Mean squared error over all sub-bands."""
        clean = haar(batch['psr'])
        t = torch.randint(self.noising.steps, (len(clean),), generator=generator).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = add_noise(self.noising, clean, noise, t)
        inputs = torch.cat([noisy, haar(batch['images'])], dim=1)
        alpha_bar = self.noising.per_sample(t, clean)
        wanted = target(clean, noise, alpha_bar, self.diffusion.prediction)
        return {'loss': functional.mse_loss(self.network(wide(inputs), t).float(), wanted)}


def train_cwdm(course: Course, folder: Path) -> Trained:
    """Train the denoiser."""
    settings = load_baselines(course.preset.baselines).cwdm
    torch.manual_seed(course.seed)
    stage = WaveletStage(course.preset, settings, course.seed, build_denoiser(settings))
    return fit(stage, *patches(course, settings.stage), folder, course.machine)
