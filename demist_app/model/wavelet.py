"""Conditional wavelet diffusion (cWDM): Friedrich et al., arXiv 2411.17203.

PSR is diffused as the eight sub-bands of its Haar transform, at half the resolution; those of T1w
and FLAIR are concatenated to it. The denoiser predicts the clean sub-bands.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from monai.networks.nets import DiffusionModelUNet
from numpy.typing import NDArray
from torch import Tensor, nn

from demist_app.memory import reusing_freed
from demist_app.model.autoencoder import fold, unfold
from demist_app.model.baselines import WaveletPreset
from demist_app.model.bundle import Bundle, understood
from demist_app.model.convolution import quick
from demist_app.model.demist import bfloat16_pays
from demist_app.model.diffusion import Denoised, convert, noise_like, scaled_linear, time_pairs
from demist_app.model.predictor import Image, Prediction
from demist_app.model.samplers import SAMPLERS
from demist_app.model.settings_file import build
from demist_app.model.sliding import Brain, in_windows, settle_device
from demist_app.model.spread import Spread
from demist_app.threads import torch_threads

BANDS = 8
_COARSE = 1 / 3
"""The coarse band of an image in [0, 1] reaches √8; the authors' code divides it by 3."""


def haar(images: Tensor) -> Tensor:
    """Return the sub-bands of a 3D Haar transform, orthonormal but for the coarse one.

    Parameters
    ----------
    images : Tensor, shape (B, C, X, Y, Z)
        Even sizes.

    Returns
    -------
    Tensor, shape (B, 8 C, X / 2, Y / 2, Z / 2)
        The sub-bands of an image follow each other, the coarse one first.
    """
    return _mix(fold(images, 2), _transform(images) * _scales(images)[:, None])


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo `haar`."""
    return unfold(_mix(bands, _transform(bands).T / _scales(bands)), 2)


def _transform(like: Tensor) -> Tensor:
    """Return the orthonormal matrix from the 8 voxels of a cube to its sub-bands."""
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    return torch.kron(torch.kron(pair, pair), pair).to(like)


def _scales(like: Tensor) -> Tensor:
    return torch.tensor([_COARSE, *[1.0] * (BANDS - 1)]).to(like)


def _mix(cubes: Tensor, matrix: Tensor) -> Tensor:
    parts = cubes.unflatten(1, (-1, BANDS))
    mixed = torch.einsum('ij,bcjxyz->bcixyz', matrix, parts).flatten(1, 2)
    return mixed.contiguous(memory_format=torch.channels_last_3d)


def build_denoiser(preset: WaveletPreset) -> nn.Module:
    """Build the denoiser: a UNet from 24 sub-bands to 8, with attention at the bottom alone."""
    levels = len(preset.channels)
    denoiser = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=3 * BANDS,
        out_channels=BANDS,
        channels=preset.channels,
        attention_levels=(False,) * levels,
        num_head_channels=preset.channels[-1],
        num_res_blocks=preset.res_blocks,
        norm_num_groups=preset.norm_groups,
        use_flash_attention=True,
    )
    return quick(denoiser)


class WaveletPredictor:
    """A cWDM behind the common interface.

    Parameters
    ----------
    network : Module
        From `build_denoiser`.
    preset : WaveletPreset
    psr_scale : float
        Percent that the network knows as 1.
    uncertainty : mapping, optional
        See `Spread`.
    """

    def __init__(
        self,
        network: nn.Module,
        preset: WaveletPreset,
        psr_scale: float,
        uncertainty: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.preset = preset
        self.psr_scale = psr_scale
        self.uncertainty = uncertainty

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Load the model of a bundle.

        Raises
        ------
        BundleError
            If this version of demist does not understand its settings, or the weights do not fit.
        """
        with understood(bundle):
            preset = build(WaveletPreset, bundle.metadata['settings'], 'settings')
            network = build_denoiser(preset)
            network.load_state_dict(
                {name: torch.from_numpy(t) for name, t in bundle.tensors().items()}
            )
            metadata = bundle.metadata
            return cls(network, preset, metadata['psr_scale'], metadata.get('uncertainty'))

    @torch.inference_mode()
    def predict(
        self,
        images: Image,
        mask: NDArray[np.bool_],
        *,
        n_samples: int,
        seed: int,
        device: str = 'cpu',
        threads: int = 1,
        **_: Any,
    ) -> Prediction:
        """Synthesise PSR; see `Predictor.predict`."""
        place, warnings = settle_device(device)
        brain = Brain(images, mask)
        spread = Spread(self.uncertainty)
        with torch_threads(threads), reusing_freed():
            for draw in range(n_samples):
                spread.add(self._draw(brain, np.random.SeedSequence([seed, draw]), place))
        sd = spread.sd
        return Prediction(
            mean=brain.volume(spread.mean),
            sd=None if sd is None else brain.volume(sd),
            facts={
                'Sampler': self.preset.diffusion.sampler,
                'SamplingSteps': self.preset.diffusion.sampling_steps,
                **spread.facts(),
                'Window': f'{self.preset.stage.patch} mm',
                'Device': str(place),
            },
            warnings=warnings,
        )

    def _draw(
        self, brain: Brain, root: np.random.SeedSequence, place: torch.device
    ) -> NDArray[np.float32]:
        """Return one draw inside the brain, percent."""
        diffusion = self.preset.diffusion
        schedule = scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
        generator = torch.Generator().manual_seed(int(root.generate_state(1)[0]))
        network = self.network.to(place)
        condition = haar(brain.images.to(place))

        def denoise(noisy: Tensor, t: int) -> Denoised:
            times = torch.full((1,), t, device=place)

            def run(window: Tensor) -> Tensor:
                with torch.autocast(place.type, torch.bfloat16, enabled=bfloat16_pays(place)):
                    prediction: Tensor = network(window, times)
                return prediction.float()

            inputs = torch.cat([noisy, condition], dim=1)
            prediction = in_windows(run, inputs, self.preset.stage.patch // 2)
            return convert(prediction, noisy, schedule.at(t), diffusion.prediction)

        noisy = noise_like(condition[:, :BANDS], generator)
        pairs = time_pairs(diffusion.steps, diffusion.sampling_steps)
        bands = SAMPLERS[diffusion.sampler](denoise, noisy, pairs, schedule, generator)
        return self.psr_scale * brain.inside(inverse_haar(bands).clamp(0, 1))
