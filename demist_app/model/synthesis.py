"""Synthesis with a trained model: encode the scans, sample, decode; whole or in windows."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import lcm
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool3d

from demist_app.memory import reusing_freed
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
from demist_app.model.presets import BRIDGE, Preset
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
from demist_app.threads import torch_threads

LOGGER = logging.getLogger('demist')
OVERLAP = 0.5
"""Least share of a window's edge that its neighbour covers too."""
_MOSTLY = 0.5  # share of a latent voxel that lies in the brain
_FAINT = 1e-6
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
        with torch_threads(threads), reusing_freed():
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
                spread, latent = self._draw(device, brain, sizes, order)
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
            latent=latent,
        )

    def describe(
        self, images: Image, mask: NDArray[np.bool_], *, device: str = 'cpu', threads: int = 1
    ) -> NDArray[np.float64] | None:
        """Return ``latent`` of a `Prediction` without making one.

        Raises
        ------
        ShortOfMemoryError
            If the memory does not suffice for the smallest windows on the CPU.
        """
        brain = _Brain(images, mask, self.preset)
        with torch_threads(threads), reusing_freed():
            if device != 'cpu':
                with suppress(ShortOfMemoryError):
                    return self._describe(torch.device(device), brain)
            return self._describe(torch.device('cpu'), brain)

    @torch.inference_mode()
    def _describe(self, device: torch.device, brain: '_Brain') -> NDArray[np.float64] | None:
        with noting_shortage('the networks', device):
            self.model.to(device)
            free = _SPARE * free_bytes(device, None)
            *larger, smallest = self._choices(brain.latent_shape, free)['encoding']
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
            for size in larger:
                with suppress(ShortOfMemoryError):
                    return brain.describe(self._encode(device, brain, size))
            return brain.describe(self._encode(device, brain, smallest))

    def _encode(self, device: torch.device, brain: '_Brain', size: Shape) -> Tensor:
        """Return z_c, (1, L, x, y, z)."""
        factor = self.preset.autoencoder.factor

        def encode(window: Window) -> Tensor:
            return self.model.encode_cond(_wide(brain.images[window.index(factor)].to(device)))

        with noting_shortage('encoding', device):
            return fuse(encode, brain.latent_shape, size, OVERLAP)

    @torch.inference_mode()
    def _draw(
        self, device: torch.device, brain: '_Brain', sizes: dict[str, Shape], order: _Order
    ) -> tuple[Spread, NDArray[np.float64] | None]:
        """Return mean and SD over draws, per voxel of the brain, and what z_c is like."""
        model, diffusion, shape = self.model, self.preset.diffusion, brain.latent_shape
        factor = self.preset.autoencoder.factor
        schedule = scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
        levels = round(diffusion.strength * diffusion.steps)
        pairs = time_pairs(levels, diffusion.sampling_steps)

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
            z_c = self._encode(device, brain, sizes['encoding'])
            with noting_shortage('denoising', device):
                conditioning = {
                    window: model.denoiser.condition(
                        _wide(z_c[window.index()]), brain.origin_mm(window).to(device)
                    )
                    for window in windows(shape, sizes['denoising'], OVERLAP)
                }
            estimate = model.estimate(z_c)
            bridge = diffusion.sampler == BRIDGE
            for draw in range(1 if bridge else order.n_samples):
                generator = _generator(order.seed, draw)
                noisy = torch.zeros_like(z_c) if bridge else noise_like(z_c, generator)
                if levels < diffusion.steps or bridge:
                    noisy = add_noise(schedule, estimate, noisy, torch.tensor([levels - 1]))
                latent = SAMPLERS[diffusion.sampler](denoise, noisy, pairs, schedule, generator)
                with noting_shortage('decoding', device):
                    shares = fuse(decode, shape, sizes['decoding'], OVERLAP, factor)
                    spread.add(self.preset.psr_scale * brain.values(shares.clamp(0, 1)))
        return spread, brain.describe(z_c)

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
        self.windows_matter = preset.autoencoder.norm_groups > 0  # their statistics are of a window
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

    def describe(self, latent: Tensor) -> NDArray[np.float64] | None:
        """Return ``latent`` of a `Prediction` from z_c, (1, L, x, y, z)."""
        if self.windows_matter:
            return None
        shares = torch.zeros(self.images.shape[2:])
        shares[self._box] = torch.from_numpy(np.ascontiguousarray(self.mask, np.float32))
        inside = avg_pool3d(shares[None], self.factor)[0] > _MOSTLY
        values = latent[0].float().cpu()[:, inside].numpy().astype(float)
        return np.concatenate([values.mean(axis=1), np.log(values.std(axis=1) + _FAINT)])

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
