"""Synthesis with a trained model: encode the scans, sample, decode; whole or in windows."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demist_app.model.bundle import Bundle, understood
from demist_app.model.demist import Demist, bfloat16_pays
from demist_app.model.diffusion import (
    Denoised,
    add_noise,
    convert,
    noise_like,
    scaled_linear,
    time_pairs,
)
from demist_app.model.memory import ShortOfMemoryError, free_bytes, named, noting_shortage
from demist_app.model.predictor import Image, Prediction
from demist_app.model.presets import Preset
from demist_app.model.samplers import SAMPLERS
from demist_app.model.spread import Spread
from demist_app.model.windows import (
    Shape,
    Window,
    decoding_bytes,
    denoising_bytes,
    fuse,
    window_choices,
    windows,
)

LOGGER = logging.getLogger('demist')
OVERLAP = 0.5
"""Least share of a window's edge that its neighbour covers too."""
_SPARE = 0.9  # share of the free memory that windows are planned for


@dataclass(frozen=True)
class _Order:
    """What is asked for, whatever device does it."""

    images: Image
    mask: NDArray[np.bool_]
    n_samples: int
    seed: int


class DiffusionPredictor:
    """A `Demist` behind the interface of `demist_app.model.predictor.Predictor`.

    Parameters
    ----------
    model : Demist
        Is made ready for synthesis: the adaptive stream is merged into the backbone.
    uncertainty : mapping, optional
        See `Spread`.
    """

    def __init__(self, model: Demist, uncertainty: Mapping[str, Any] | None = None) -> None:
        model.denoiser.merge()
        model.eval().requires_grad_(False)
        self.model: Demist = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.preset = model.preset
        self.uncertainty = uncertainty

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Load the model of a bundle.

        Raises
        ------
        BundleError
            If this version of demist does not understand the preset, or the weights do not fit.
        """
        with understood(bundle):
            preset = Preset.from_dict(bundle.metadata['preset'])
            model = Demist.from_tensors(preset, bundle.tensors())
            return cls(model, bundle.metadata.get('uncertainty'))

    def predict(
        self,
        images: Image,
        mask: NDArray[np.bool_],
        *,
        n_samples: int,
        seed: int,
        device: str,
        threads: int = 1,
        memory_gb: float | None = None,
    ) -> Prediction:
        """Synthesise PSR; see `Predictor.predict`.

        The brain is diffused as a whole where memory is predicted to admit it, else windows of
        the size the network was trained on, or smaller ones, are blended at every step. Where the
        prediction was wrong, smaller windows are tried, and after them the CPU.

        Raises
        ------
        ShortOfMemoryError
            If the memory does not suffice for the smallest windows on the CPU.
        """
        order = _Order(images, mask, n_samples, seed)
        warnings: list[str] = []
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            if device != 'cpu' and not torch.cuda.is_available():
                _warn(warnings, f'PyTorch finds no GPU for the device {device}: used the CPU')
                device = 'cpu'
            if device != 'cpu':
                try:
                    return self._on(torch.device(device), order, None, warnings)
                except ShortOfMemoryError as error:
                    _warn(warnings, f'{error}: went on with the CPU')
                torch.cuda.empty_cache()
            return self._on(torch.device('cpu'), order, memory_gb, warnings)
        finally:
            torch.set_num_threads(before)

    def _on(
        self, device: torch.device, order: _Order, memory_gb: float | None, warnings: list[str]
    ) -> Prediction:
        """Synthesise on one device, in ever smaller windows until they fit."""
        brain = _Brain(order.images, order.mask, self.preset)
        with noting_shortage('the networks', device):
            self.model.to(device)
            choices = self._choices(brain.latent_shape, _SPARE * free_bytes(device, memory_gb))
        while True:
            sizes = {part: shapes[0] for part, shapes in choices.items()}
            try:
                spread = self._draw(device, brain, sizes, order)
                break
            except ShortOfMemoryError as error:
                part, smaller = error.part, choices[error.part][1:]
                if not smaller:
                    raise
                _warn(warnings, f'{error}: went on in windows of {self._extent(smaller[0])}')
            # not in the handler, which keeps the tensors of the failed attempt alive
            choices[part] = smaller
        diffusion, sd = self.preset.diffusion, spread.sd
        return Prediction(
            mean=brain.volume(spread.mean),
            sd=None if sd is None else brain.volume(sd),
            facts={
                'Sampler': diffusion.sampler,
                'SamplingSteps': diffusion.sampling_steps,
                'SamplingStrength': diffusion.strength,
                **spread.facts(),
                'Window': self._window(sizes['denoising'], brain),
                'DecoderWindow': self._window(sizes['decoding'], brain),
                'Device': 'cpu' if device.type == 'cpu' else f'{device} ({named(device)})',
                'Precision': 'bfloat16, latents float32' if bfloat16_pays(device) else 'float32',
            },
            warnings=warnings,
        )

    @torch.inference_mode()
    def _draw(
        self, device: torch.device, brain: '_Brain', sizes: dict[str, Shape], order: _Order
    ) -> Spread:
        """Return the mean and SD over draws, per voxel of the brain."""
        model, diffusion, shape = self.model, self.preset.diffusion, brain.latent_shape
        factor = self.preset.autoencoder.factor
        schedule = scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
        levels = round(diffusion.strength * diffusion.steps)
        pairs = time_pairs(levels, diffusion.sampling_steps)

        def encode(window: Window) -> Tensor:
            return model.encode_cond(_wide(brain.images[window.index(factor)].to(device)))

        def decode(window: Window) -> Tensor:
            return model.decode(_wide(latent[window.index()]))

        def denoise(noisy: Tensor, t: int) -> Denoised:
            def predict(window: Window) -> Tensor:
                part = _wide(noisy[window.index()])
                prediction: Tensor = model.denoiser(part, times, conditioning[window])
                return prediction

            times = torch.full((1,), t, device=device)
            with noting_shortage('denoising', device):
                prediction = fuse(predict, shape, sizes['denoising'], OVERLAP)
            return convert(prediction, noisy, schedule.at(t), diffusion.prediction)

        spread = Spread(self.uncertainty)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
            with noting_shortage('encoding', device):
                z_c = fuse(encode, shape, sizes['encoding'], OVERLAP)
            with noting_shortage('denoising', device):
                conditioning = {
                    window: model.denoiser.condition(
                        _wide(z_c[window.index()]), brain.origin_mm(window).to(device)
                    )
                    for window in windows(shape, sizes['denoising'], OVERLAP)
                }
            estimate = model.estimate(z_c)
            for draw in range(order.n_samples):
                generator = _generator(order.seed, draw)
                noisy = noise_like(z_c, generator)
                if levels < diffusion.steps:
                    noisy = add_noise(schedule, estimate, noisy, torch.tensor([levels - 1]))
                latent = SAMPLERS[diffusion.sampler](denoise, noisy, pairs, schedule, generator)
                with noting_shortage('decoding', device):
                    shares = fuse(decode, shape, sizes['decoding'], OVERLAP, factor)
                    spread.add(self.preset.psr_scale * brain.values(shares.clamp(0, 1)))
        return spread

    def _choices(self, shape: Shape, free: float) -> dict[str, tuple[Shape, ...]]:
        """Return for each part of the work the windows that fit, in the order of trial."""
        preset = self.preset
        spatial = 'spatial' in preset.streams.active
        coding = window_choices(shape, decoding_bytes(preset.autoencoder), free)
        fitting = window_choices(shape, denoising_bytes(preset.denoiser, spatial=spatial), free)
        trained = preset.training.conditional.patch // preset.autoencoder.factor
        # windows larger than any the network was trained on have no merit but being the whole
        denoising = tuple(
            size for size in fitting if size in (shape, fitting[-1]) or max(size) <= trained
        )
        return {'encoding': coding, 'denoising': denoising, 'decoding': coding}

    def _window(self, size: Shape, brain: '_Brain') -> str:
        return 'whole brain' if size == brain.latent_shape else self._extent(size)

    def _extent(self, size: Shape) -> str:
        return f'{self.preset.autoencoder.factor * max(size)} mm'


class _Brain:
    """The scans of one brain, padded to what the networks take.

    Parameters
    ----------
    images, mask
        As `Predictor.predict` gets them.
    preset : Preset
    """

    def __init__(self, images: Image, mask: NDArray[np.bool_], preset: Preset) -> None:
        self.factor = preset.autoencoder.factor
        downsampling = int(2 ** (len(preset.denoiser.channels) - 1))
        multiple = self.factor * lcm(downsampling, preset.streams.token_pool)
        pads = [(-n % multiple // 2, (-n % multiple + 1) // 2) for n in mask.shape]
        inside = np.clip(images, 0, 1) * mask
        self.images = torch.from_numpy(np.pad(inside, [(0, 0), *pads]).astype(np.float32))[None]
        self.mask = mask
        self._box = tuple(slice(a, a + n) for (a, _), n in zip(pads, mask.shape, strict=True))
        x, y, z = (n // self.factor for n in self.images.shape[2:])
        self.latent_shape: Shape = x, y, z

    def origin_mm(self, window: Window) -> Tensor:
        """Return where a window begins, (1, 3), mm from the centre of the grid."""
        corner = torch.tensor(window.start) - torch.tensor(self.latent_shape) / 2
        return self.factor * corner[None]

    def values(self, padded: Tensor) -> NDArray[np.float64]:
        """Return the voxels of the brain from a padded volume, (1, 1, X, Y, Z)."""
        volume: NDArray[np.float64] = padded[0, 0].cpu().numpy()[self._box][self.mask].astype(float)
        return volume

    def volume(self, values: NDArray[np.float64]) -> Image:
        """Return the volume of which these are the voxels of the brain, zero outside."""
        volume = np.zeros(self.mask.shape, np.float32)
        volume[self.mask] = values
        return volume


def _generator(seed: int, draw: int) -> torch.Generator:
    """Return the source of all noise of one draw, whatever the number of draws."""
    (state,) = np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state))


def _warn(warnings: list[str], message: str) -> None:
    LOGGER.warning(message)
    warnings.append(message[:1].upper() + message[1:])


def _wide(images: Tensor) -> Tensor:
    """Channels last: twice as fast."""
    return images.contiguous(memory_format=torch.channels_last_3d)
