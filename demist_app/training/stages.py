"""The stages of training as Lightning modules (paper section 2.1)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from demist_app.model.autoencoder import Autoencoder, encode_mean
from demist_app.model.conditioned import Conditioned
from demist_app.model.demist import Demist, normalised
from demist_app.model.denoiser import denoise
from demist_app.model.diffusion import add_noise, bridge_noise, scaled_linear, time_pairs
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
from demist_app.training.stage import CLIP, Automatic, Batch, Stage, part, wide


class AutoencoderStage(Stage):
    """Stage 1a: one of the two autoencoders, equation 1.

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    autoencoder : Autoencoder
    key : {'psr', 'images'}
        Which images it gives.
    source : {'psr', 'images'}, optional
        Which images it sees; by default the same.
    """

    def __init__(
        self,
        preset: Preset,
        budget: StagePreset,
        seed: int,
        autoencoder: Autoencoder,
        key: str,
        source: str | None = None,
    ) -> None:
        super().__init__(preset, budget, seed)
        self.automatic_optimization = False  # two optimisers
        self.autoencoder = autoencoder
        self.key = key
        self.source = source or key
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
        return part(state, 'autoencoder.')

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
        reconstructed = self._reconstruct(wide(batch[self.source]), generator)
        return autoencoder_loss(wide(batch[self.key]), *reconstructed, self.preset.losses)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the autoencoder, and of the discriminator once it has joined."""
        image = wide(batch[self.key])
        source = wide(batch[self.source])
        reconstruction, mu, sigma = self._reconstruct(source, self.noise(batch_idx))
        _, per_epoch = self.preset.training.intervals(self.budget)
        update = self.current_epoch * per_epoch + batch_idx // self.budget.accumulate
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


class AlignmentStage(Automatic):
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
        return part(state, 'cond.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Alignment of means; both decoders on a crop, which is what they cost."""
        images, psr = wide(batch['images']), wide(batch['psr'])
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


class _Diffusion(Automatic):
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
        return part(state, 'backbone.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Noise term of equation 2, unconditional."""
        clean = wide(batch['z_y'])
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
    """Stage 2: the three streams on the backbone, which is frozen or trains as well, equation 2.

    Parameters
    ----------
    preset, budget, seed
        See `Stage`.
    model : Demist
        All but the streams is frozen, and the backbone if the preset says so.
    """

    def __init__(self, preset: Preset, budget: StagePreset, seed: int, model: Demist) -> None:
        super().__init__(preset, budget, seed)
        self.denoiser: Conditioned = model.denoiser
        self.frozen = (model.requires_grad_(False),)  # a tuple: the checkpoints need no copy of it
        for _, parameter in self.denoiser.trainable():
            parameter.requires_grad_(True)
        self.denoiser.backbone.requires_grad_(preset.training.finetune)
        self.noising = _schedule(preset)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the denoiser, backbone included."""
        return part(state, 'denoiser.')

    def on_fit_start(self) -> None:
        """Move the decoder along."""
        self.frozen[0].to(self.device).eval()

    def groups(self) -> list[dict[str, Any]]:
        """The adaptive stream has a learning rate of its own."""
        named = list(self.denoiser.trainable())
        adaptive = [p for stream, p in named if stream == 'adaptive']
        others = [p for stream, p in named if stream != 'adaptive']
        rates = self.preset.training
        if rates.finetune:
            others += self.denoiser.backbone.parameters()
        groups = [(others, self.budget.learning_rate), (adaptive, rates.lora_learning_rate)]
        return [{'params': params, 'lr': rate} for params, rate in groups if params]

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Noise term and edge term of equation 2."""
        clean = wide(batch['z_y'])
        noisy, noise, t = self.noised(clean, batch, generator)
        conditioning = self.denoiser.condition(wide(batch['z_c']), batch['origin'])
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
            decode=lambda latent: self.frozen[0].decode(wide(latent)).float(),
            generator=generator,
        )

    def noised(
        self,
        clean: Tensor,
        batch: Batch,  # noqa: ARG002 - for stage 3
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t, its noise and t."""
        return _noised(self.noising, clean, generator)


class DistilledStage(ConditionalStage):
    """Stage 3: the streams of stage 2 learn to do with few evaluations. Not in the paper.

    Sampling that starts from the estimate of stage 1b meets states that stage 2 never saw: there,
    what was noised was the truth. Here it is a bridge from the estimate to the truth
    (`bridge_noise`), at the steps alone that sampling visits. The first of these has nothing but
    the estimate to go by, and so learns the mean of all that is possible: what the mean of many
    draws of stage 2 comes near to.

    Parameters
    ----------
    preset, budget, seed, model
        See `ConditionalStage`; the model is that of stage 2.
    """

    def __init__(self, preset: Preset, budget: StagePreset, seed: int, model: Demist) -> None:
        super().__init__(preset, budget, seed, model)
        training = preset.training
        levels = round(training.distilled_strength * preset.diffusion.steps)
        self.times = torch.tensor([t for t, _ in time_pairs(levels, training.distilled_steps)])

    def noised(
        self, clean: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t between estimate and truth, what counts as its noise, and t."""
        chosen = torch.randint(len(self.times), (len(clean),), generator=generator)
        t = self.times[chosen].to(clean.device)
        estimate = self.frozen[0].estimate(batch['z_c'])
        noise = bridge_noise(self.noising, clean, estimate, int(self.times.max()))
        return add_noise(self.noising, clean, noise, t), noise, t


def _schedule(preset: Preset) -> Any:
    diffusion = preset.diffusion
    return scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)


def _noised(
    schedule: Any, clean: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.randint(schedule.steps, (len(clean),), generator=generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return add_noise(schedule, clean, noise, t), noise, t
