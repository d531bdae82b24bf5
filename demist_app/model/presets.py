"""A preset: every size, weight and budget of a model, read from one JSON file."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from demist_app.model.settings_file import PresetError as PresetError
from demist_app.model.settings_file import build, read_settings

STREAMS = ('semantic', 'spatial', 'adaptive')
BRIDGE = 'bridge'
"""Sampler of models with a stage 3: it starts from z_c without noise, so that there is one map."""
CHOICES = {
    'prediction': ('epsilon', 'x0', 'v'),
    'sampler': ('ddpm', 'ddim', 'dpmpp_2m', BRIDGE),
}


@dataclass(frozen=True)
class AutoencoderPreset:
    """Both `AutoencoderKL` of stage 1 (paper section 2.1).

    Attributes
    ----------
    channels : tuple of int
        Per level; each level after the first halves the resolution.
    res_blocks : int
        Residual blocks per level.
    norm_groups : int
        Of the group norms; 0 takes them out. A group norm removes the level of what fills the
        patch, and couples all of its voxels: networks without learn quantities faster, and give
        the same for a patch as for the volume around it.
    latent_channels : int
        L of the paper.
    fold : int
        Edge of the cubes of voxels that become channels before the first convolution; 1, as in
        the paper, is none. PSR is measured at 2 mm, so that 2 spares the costliest level.
    """

    channels: tuple[int, ...]
    res_blocks: int
    norm_groups: int
    latent_channels: int = 8
    fold: int = 1

    @property
    def factor(self) -> int:
        """Voxels per latent voxel along one axis."""
        return int(self.fold * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class DenoiserPreset:
    """The unconditional backbone."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    head_channels: tuple[int, ...]
    res_blocks: int
    norm_groups: int


@dataclass(frozen=True)
class StreamsPreset:
    """The conditioning C(z_c) (paper section 2.2).

    Attributes
    ----------
    active : tuple of str
        Any of ``semantic``, ``spatial``, ``adaptive``.
    token_channels : int
        Width d of the semantic tokens; a multiple of 6.
    token_pool : int
        Edge, in latent voxels, of the cubes whose mean becomes one token.
    token_heads : int
        Heads of the cross-attention.
    lora_rank, lora_alpha : int
        r and α.
    """

    active: tuple[str, ...] = STREAMS
    token_channels: int = 192
    token_pool: int = 4
    token_heads: int = 4
    lora_rank: int = 8
    lora_alpha: int = 8


@dataclass(frozen=True)
class DiffusionPreset:
    """Noise schedule, parametrisation and sampler.

    Attributes
    ----------
    prediction : {'epsilon', 'x0', 'v'}
    steps : int
        T.
    beta_start, beta_end : float
    sampler : {'ddpm', 'ddim', 'dpmpp_2m', 'bridge'}
    sampling_steps : int
        Evaluations of the denoiser per draw.
    strength : float
        1 samples from noise alone, as the paper does. Less starts at t = strength · T - 1, from
        z_c noised to it: z_c already is an estimate of the clean latent, so that there is less to
        do (the idea of SDEdit, Meng et al., ICLR 2022).
    """

    prediction: str = 'epsilon'
    steps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    sampler: str = 'ddim'
    sampling_steps: int = 50
    strength: float = 1.0


@dataclass(frozen=True)
class LossPreset:
    """Weights of the terms of the paper's equations 1 and 2.

    Attributes
    ----------
    kl, edge, adversarial : float
        λ_KL, λ_edge, λ_adv of equation 1.
    align : float
        λ_align of equation 2, whose gradient goes to E_cond in stage 1b.
    align_reconstruction : float
        Weight of equation 1's reconstruction of both images in stage 1b, which keeps z_c from
        shrinking to the mean.
    align_decoded : float
        Weight of the squared error of D_PSR(z_c), by which the directions of the latent count as
        much in stage 1b as they show in the map. Not in the paper.
    diffusion_edge : float
        λ_edge of equation 2, multiplied by ᾱ_t.
    edge_max_step : int
        The edge term of equation 2 is computed for t below this.
    edge_crop : int
        Edge, in latent voxels, of the crops that are compared after decoding in stages 1b and 2.
    edge_margin : int
        Latent voxels decoded around each crop, and not compared.
    """

    kl: float = 1e-7
    edge: float = 0.1
    adversarial: float = 0.025
    align: float = 1.0
    align_reconstruction: float = 0.1
    align_decoded: float = 0.0
    diffusion_edge: float = 0.1
    edge_max_step: int = 250
    edge_crop: int = 8
    edge_margin: int = 2


@dataclass(frozen=True)
class StagePreset:
    """Budget of one stage of training.

    Attributes
    ----------
    updates : int
    learning_rate : float
    batch : int
        Patches per process and step.
    patch : int
        Edge (mm), a multiple of 16.
    patch_min : int
        If given, edges are drawn between it and `patch`, each axis by itself, so that the
        networks' group statistics suit volumes of any size; needs a batch of 1.
    accumulate : int
        Steps per update.
    """

    updates: int
    learning_rate: float
    batch: int
    patch: int
    patch_min: int = 0
    accumulate: int = 1


@dataclass(frozen=True)
class TrainingPreset:
    """Budgets of all stages.

    Attributes
    ----------
    psr_autoencoder, cond_autoencoder, alignment, backbone, conditional : StagePreset
        Stages 1a (twice), 1b, 1c and 2.
    distillation : StagePreset
        Stage 3, where there is one.
    distilled_steps : int
    distilled_strength : float
        What takes the place of ``sampling_steps`` and ``strength`` after it.
    adversarial_start : int
        Update of stage 1a at which the discriminator joins.
    lora_learning_rate : float
        Of the adaptive stream, in stage 2.
    ema : float
        Decay of the moving average of the weights.
    validate_every : int
        Updates between two validations (and checkpoints), at most.
    patience : int
        Validations without improvement before a stage ends early.
    latent_versions : int
        Augmented versions of each brain whose latents stages 1c and 2 are trained on.
    finetune : bool
        Stage 2 trains the backbone as well, as it does the streams; else it stays frozen.
    distill : bool
        There is a stage 3.
    """

    psr_autoencoder: StagePreset
    cond_autoencoder: StagePreset
    alignment: StagePreset
    backbone: StagePreset
    conditional: StagePreset
    distillation: StagePreset = StagePreset(updates=2000, learning_rate=1e-4, batch=2, patch=80)
    distilled_steps: int = 1
    distilled_strength: float = 0.25
    adversarial_start: int = 1000
    lora_learning_rate: float = 1e-4
    ema: float = 0.999
    validate_every: int = 250
    patience: int = 10
    latent_versions: int = 4
    finetune: bool = False
    distill: bool = False

    def intervals(self, budget: StagePreset) -> tuple[int, int]:
        """Return how many validations a stage has, and the updates before each.

        They are evenly spaced, so that there may be a few updates more than the budget says where
        it cannot be divided.
        """
        count = -(-budget.updates // self.validate_every)
        return count, -(-budget.updates // count)


@dataclass(frozen=True)
class Preset:
    """One model.

    Attributes
    ----------
    psr_scale : float
        PSR (percent) that becomes 1 at the network; fixed, never per scan.
    baselines : str
        Settings of the methods it is compared with; see `demist_app.model.baselines`.
    """

    name: str
    autoencoder: AutoencoderPreset
    denoiser: DenoiserPreset
    streams: StreamsPreset
    diffusion: DiffusionPreset
    losses: LossPreset
    training: TrainingPreset
    psr_scale: float = 20.0
    baselines: str = 'small'

    def __post_init__(self) -> None:
        unknown = set(self.streams.active) - set(STREAMS)
        if unknown:
            raise PresetError(
                f'unknown stream {", ".join(sorted(unknown))}: choose from {", ".join(STREAMS)}'
            )
        for field, choices in CHOICES.items():
            if (chosen := getattr(self.diffusion, field)) not in choices:
                raise PresetError(
                    f'preset {self.name}: unknown {field} {chosen!r}: '
                    f'choose from {", ".join(choices)}'
                )
        diffusion = self.diffusion
        if not diffusion.sampling_steps <= diffusion.strength * diffusion.steps <= diffusion.steps:
            raise PresetError(
                f'preset {self.name}: strength must be at most 1 and leave room for '
                f'{diffusion.sampling_steps} sampling steps, not {diffusion.strength:g}'
            )
        if self.training.distill != (diffusion.sampler == BRIDGE):
            raise PresetError(
                f'preset {self.name}: the sampler {BRIDGE!r} is for models with a stage 3, and no '
                'other is: leave both to --distill'
            )
        if self.streams.token_channels % 6:
            raise PresetError(
                f'preset {self.name}: token_channels must be a multiple of 6 '
                f'(three axes, sine and cosine), not {self.streams.token_channels}'
            )

        for name, stage in vars(self.training).items():
            if isinstance(stage, StagePreset) and stage.patch_min and stage.batch > 1:
                raise PresetError(
                    f'preset {self.name}: {name} has patches of many sizes (patch_min), which do '
                    'not fit into one batch: set "batch" to 1 and raise "accumulate"'
                )

    def with_streams(self, streams: Sequence[str]) -> 'Preset':
        """Return this preset with these streams alone, in the order of `STREAMS`.

        Raises
        ------
        PresetError
            If one is unknown.
        """
        ordered = sorted(streams, key=(*STREAMS, *streams).index)
        return replace(self, streams=replace(self.streams, active=tuple(ordered)))

    def distilled(self) -> 'Preset':
        """Return this preset with stage 3, and the sampling that it is for."""
        diffusion = replace(
            self.diffusion,
            sampler=BRIDGE,
            sampling_steps=self.training.distilled_steps,
            strength=self.training.distilled_strength,
        )
        return replace(self, diffusion=diffusion, training=replace(self.training, distill=True))

    def as_dict(self) -> dict[str, Any]:
        """Return what `Preset.from_dict` takes."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> 'Preset':
        """Rebuild a preset.

        Raises
        ------
        PresetError
            If a field is unknown, missing or of the wrong kind.
        """
        built = build(cls, content, 'preset')
        assert isinstance(built, Preset)
        return built


def load_preset(name: str) -> Preset:
    """Read a preset of the package by its name, or a JSON file.

    Raises
    ------
    PresetError
        If there is none of that name, or its content is not understood.
    """
    path, content = read_settings('presets', name, f'--preset {name}')
    return Preset.from_dict({'name': path.stem} | content)
