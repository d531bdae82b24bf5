"""The stages of training as Lightning modules (paper section 2.1)."""

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from demist_app.model.autoencoder import Autoencoder, encode_mean
from demist_app.model.conditioned import Conditioned
from demist_app.model.demist import Demist, normalised
from demist_app.model.denoiser import denoise
from demist_app.model.diffusion import add_noise, scaled_linear
from demist_app.model.losses import (
    Crop,
    Terms,
    alignment_loss,
    autoencoder_loss,
    build_discriminator,
    diffusion_loss,
    discriminator_loss,
)
from demist_app.model.presets import Preset, StagePreset

Batch = dict[str, Tensor]
_WARM_UP = 0.05
CLIP = 1.0


class Stage(pl.LightningModule):
    """What all stages share: budget, schedule of the learning rate, repeatable noise.

    Parameters
    ----------
    preset : Preset
    budget : StagePreset
        Of this stage.
    seed : int
        All noise of an update is a function of it, the update's number and the process.
    """

    def __init__(self, preset: Preset, budget: StagePreset, seed: int) -> None:
        super().__init__()
        self.preset = preset
        self.budget = budget
        self.seed = seed

    @property
    def narrowest(self) -> int:
        """Voxels across the smallest feature map of this stage."""
        return (self.budget.patch_min or self.budget.patch) // self.preset.autoencoder.factor

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what this stage gives to the model, from a checkpoint's state."""
        raise NotImplementedError

    def noise(self, batch_idx: int) -> torch.Generator:
        """Return the source of this update's noise; validation's is the same every time."""
        epoch = self.current_epoch if self.training else -1
        root = [self.seed, epoch + 1, batch_idx, self.global_rank]
        return torch.Generator().manual_seed(int(np.random.SeedSequence(root).generate_state(1)[0]))

    def schedule(self, optimizer: Optimizer) -> LambdaLR:
        """Warm up, then fall to zero along a cosine."""
        total = self.budget.updates

        def factor(update: int) -> float:
            done = min((update + 1) / total, 1.0)
            return min(done / _WARM_UP, 0.5 * (1 + math.cos(math.pi * min(done, 0.995))))

        return LambdaLR(optimizer, factor)

    def tell(self, prefix: str, terms: Terms) -> None:
        """Log every term; Lightning averages them over an epoch."""
        self.log_dict(
            {f'{prefix}/{name}': value for name, value in terms.items()},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=self.budget.batch,
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss on fixed patches with fixed noise."""
        self.tell('val', self.terms(batch, self.noise(batch_idx)))

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Return the loss and its terms."""
        raise NotImplementedError


class AutoencoderStage(Stage):
    """Stage 1a: one of the two autoencoders, equation 1.

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    autoencoder : Autoencoder
    key : {'psr', 'images'}
        Which images.
    """

    def __init__(
        self, preset: Preset, budget: StagePreset, seed: int, autoencoder: Autoencoder, key: str
    ) -> None:
        super().__init__(preset, budget, seed)
        self.automatic_optimization = False  # two optimisers
        self.autoencoder = autoencoder
        self.key = key
        self.discriminator: nn.Module | None = None
        if preset.losses.adversarial:
            channels = 1 if key == 'psr' else 2
            self.discriminator = build_discriminator(channels, preset.autoencoder.channels[0])

    @property
    def narrowest(self) -> int:
        """The discriminator halves its input three times, the last with a border to spare."""
        patch = self.budget.patch_min or self.budget.patch
        return patch // 16 if self.discriminator else super().narrowest

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the autoencoder."""
        return _part(state, 'autoencoder.')

    def configure_optimizers(self) -> Any:
        """AdamW for both players."""
        players = [self.autoencoder, *([self.discriminator] if self.discriminator else [])]
        optimizers = [AdamW(p.parameters(), self.budget.learning_rate) for p in players]
        return optimizers, [self.schedule(o) for o in optimizers]

    def _reconstruct(
        self, image: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        mu, sigma = self.autoencoder.encode(image)
        noise = torch.randn(mu.shape, generator=generator).to(mu)
        return self.autoencoder.decode(mu + sigma * noise).float(), mu.float(), sigma.float()

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Equation 1 without the adversarial term: comparable over the whole stage."""
        image = _wide(batch[self.key])
        return autoencoder_loss(image, *self._reconstruct(image, generator), self.preset.losses)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the autoencoder, and of the discriminator once it has joined."""
        image = _wide(batch[self.key])
        reconstruction, mu, sigma = self._reconstruct(image, self.noise(batch_idx))
        update = self.current_epoch * self.preset.training.validate_every
        update += batch_idx // self.budget.accumulate
        joined = self.discriminator if update >= self.preset.training.adversarial_start else None
        judgement = joined(reconstruction) if joined else None
        weights = self.preset.losses
        terms = autoencoder_loss(image, reconstruction, mu, sigma, weights, judgement)
        due = (batch_idx + 1) % self.budget.accumulate == 0
        players: Any = (self.optimizers(), self.lr_schedulers())
        optimizers, schedules = (p if isinstance(p, list) else [p] for p in players)
        self._step(optimizers[0], terms['loss'], due=due)
        if joined:
            optimizers[1].zero_grad()  # the autoencoder's loss went through it
            loss = discriminator_loss(joined(image), joined(reconstruction.detach()))
            self._step(optimizers[1], loss, due=True)
            terms = terms | {'discriminator': loss}
            schedules[1].step()
        if due:
            schedules[0].step()
        self.tell('train', terms)

    def _step(self, optimizer: Any, loss: Tensor, *, due: bool) -> None:
        self.manual_backward(loss / self.budget.accumulate)
        if due:
            self.clip_gradients(optimizer, CLIP, 'norm')
            optimizer.step()
            optimizer.zero_grad()


class _Automatic(Stage):
    """A stage with one optimiser."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        terms = self.terms(batch, self.noise(batch_idx))
        self.tell('train', terms)
        return terms['loss']

    def configure_optimizers(self) -> Any:
        """AdamW."""
        optimizer = AdamW(self.groups(), self.budget.learning_rate)
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': self.schedule(optimizer), 'interval': 'step'},
        }

    def groups(self) -> Any:
        """Return what trains."""
        return [p for p in self.parameters() if p.requires_grad]


class AlignmentStage(_Automatic):
    """Stage 1b: E_cond learns to give what E_PSR gives (alignment term of equation 2).

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    model : Demist
        E_PSR is frozen, with its statistics known.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, preset: Preset, budget: StagePreset, seed: int, model: Demist) -> None:
        super().__init__(preset, budget, seed)
        self.cond = model.cond
        self.psr = model.psr.requires_grad_(False)
        # never drawn from here: D_cond sees means
        self.cond.quant_conv_log_sigma.requires_grad_(False)
        self.register_buffer('shift', model.psr_shift)
        self.register_buffer('scale', model.psr_scale)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return E_cond and D_cond."""
        return _part(state, 'cond.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Alignment of means; both decoders on a crop, which is what they cost."""
        images, psr = _wide(batch['images']), _wide(batch['psr'])
        with torch.no_grad():
            z_psr = normalised(encode_mean(self.psr, psr), self.shift, self.scale)
        mu = encode_mean(self.cond, images)
        weights, factor = self.preset.losses, self.preset.autoencoder.factor
        crop = Crop.at(torch.rand(3, generator=generator).tolist(), mu.shape[2:], weights)
        z_crop = crop.latent(mu)
        terms = alignment_loss(
            normalised(mu, self.shift, self.scale).float(),
            z_psr.float(),
            crop.image(images, factor),
            crop.decoded(self.cond.decode(z_crop).float(), factor),
            weights,
        )
        if weights.align_decoded:
            ours = crop.decoded(self.psr.decode(z_crop).float(), factor)
            decoded = functional.mse_loss(ours, crop.image(psr, factor))
            terms['loss'] = terms['loss'] + weights.align_decoded * decoded
            terms['decoded'] = decoded
        return terms


class _Diffusion(_Automatic):
    """A stage that trains the denoiser."""

    @property
    def narrowest(self) -> int:
        """Voxels across the UNet's lowest level."""
        return super().narrowest // 2 ** (len(self.preset.denoiser.channels) - 1)


class BackboneStage(_Diffusion):
    """Stage 1c: the unconditional denoiser, on latents of PSR maps alone.

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    backbone : Module
    """

    def __init__(self, preset: Preset, budget: StagePreset, seed: int, backbone: nn.Module) -> None:
        super().__init__(preset, budget, seed)
        self.backbone = backbone
        self.noising = _schedule(preset)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the backbone."""
        return _part(state, 'backbone.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Noise term of equation 2, unconditional."""
        clean = _wide(batch['z_y'])
        noisy, noise, t = _noised(self.noising, clean, generator)
        return diffusion_loss(
            denoise(self.backbone, noisy, t).float(),
            noisy=noisy,
            clean=clean,
            noise=noise,
            t=t,
            schedule=self.noising,
            kind=self.preset.diffusion.prediction,
            weights=self.preset.losses,
        )


class ConditionalStage(_Diffusion):
    """Stage 2: the three streams on the frozen backbone, equation 2.

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    model : Demist
        All but the streams is frozen.
    """

    def __init__(self, preset: Preset, budget: StagePreset, seed: int, model: Demist) -> None:
        super().__init__(preset, budget, seed)
        self.denoiser: Conditioned = model.denoiser
        self.frozen = (model.requires_grad_(False),)  # a tuple: the checkpoints need no copy of it
        for _, parameter in self.denoiser.trainable():
            parameter.requires_grad_(True)
        self.noising = _schedule(preset)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the denoiser, backbone included."""
        return _part(state, 'denoiser.')

    def on_fit_start(self) -> None:
        """Move the decoder along."""
        self.frozen[0].to(self.device).eval()

    def groups(self) -> list[dict[str, Any]]:
        """The adaptive stream has a learning rate of its own."""
        named = list(self.denoiser.trainable())
        adaptive = [p for stream, p in named if stream == 'adaptive']
        others = [p for stream, p in named if stream != 'adaptive']
        rates = self.preset.training
        groups = [(others, self.budget.learning_rate), (adaptive, rates.lora_learning_rate)]
        return [{'params': params, 'lr': rate} for params, rate in groups if params]

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Noise term and edge term of equation 2."""
        clean = _wide(batch['z_y'])
        noisy, noise, t = _noised(self.noising, clean, generator)
        conditioning = self.denoiser.condition(_wide(batch['z_c']), batch['origin'])
        return diffusion_loss(
            self.denoiser(noisy, t, conditioning).float(),
            noisy=noisy,
            clean=clean,
            noise=noise,
            t=t,
            schedule=self.noising,
            kind=self.preset.diffusion.prediction,
            weights=self.preset.losses,
            psr=batch['psr'],
            decode=lambda latent: self.frozen[0].decode(_wide(latent)).float(),
            generator=generator,
        )


def _schedule(preset: Preset) -> Any:
    diffusion = preset.diffusion
    return scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)


def _noised(
    schedule: Any, clean: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.randint(schedule.steps, (len(clean),), generator=generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return add_noise(schedule, clean, noise, t), noise, t


def _wide(images: Tensor) -> Tensor:
    """Channels last: twice as fast."""
    return images.contiguous(memory_format=torch.channels_last_3d)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
