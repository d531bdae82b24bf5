"""Training a model, stage by stage; the same call again goes on where the last one ended."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from demist_app.model.autoencoder import (
    Autoencoder,
    build_autoencoder,
    encode_mean,
    inherit,
    latent_statistics,
)
from demist_app.model.backbone_bundle import read_backbone
from demist_app.model.backbone_files import Pretrained, load_backbone
from demist_app.model.bundle import WEIGHTS as SAFETENSORS
from demist_app.model.demist import Demist, add_streams
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import STREAMS, Preset, StagePreset
from demist_app.training.course import WEIGHTS, Course, Step, Trained, patches, run_stage
from demist_app.training.examples import Example
from demist_app.training.fit import Machine, fit
from demist_app.training.latents import LatentCache, LatentPatches
from demist_app.training.patches import Patches
from demist_app.training.stages import (
    AlignmentStage,
    AutoencoderStage,
    BackboneStage,
    ConditionalStage,
    DistilledStage,
)

LOGGER = logging.getLogger('demist')
STAGES = ('1a-psr', '1a-cond', '1b-align', '1c-backbone', '2-conditional')
"""Of every model."""
DISTILLED = '3-distilled'
"""Of those whose preset says so."""
_STATISTICS_PATCHES = 32


def train(
    preset: Preset,
    training: Sequence[Example],
    validation: Sequence[Example],
    work: Path,
    *,
    seed: int = 0,
    backbone: Path | None = None,
    machine: Machine | None = None,
) -> dict[str, Any]:
    """Run every stage that is not done yet.

    Each leaves ``<work>/<stage>/`` with ``weights.safetensors``, ``facts.json`` and its logs.

    Parameters
    ----------
    preset : Preset
    training, validation : sequence of Example
    work : Path
    seed : int
    backbone : Path, optional
        Folder of the MONAI bundle ``brats_mri_generative_diffusion``.
    machine : Machine, optional

    Returns
    -------
    dict
        Stage to its facts.

    Raises
    ------
    TrainingError
        If a participant is in both sets, `work` belongs to another run, memory is short, or the
        loss became infinite.
    """
    return train_course(
        Course(preset, training, validation, work, seed, backbone, machine or Machine())
    )


def train_course(course: Course) -> dict[str, Any]:
    """Run every stage that is not done yet; see `train`."""
    facts: dict[str, Any] = {}
    past = ''  # a stage depends on all stages before it
    for name in stages_of(course.preset):
        if name == '1c-backbone' and course.backbone:
            continue
        past = _fingerprint(course, name, past)
        folder = stage_folder(course.work, name, course.preset)
        facts[name] = run_stage(course, folder, past, _STEPS[name])
    return facts


def stages_of(preset: Preset) -> tuple[str, ...]:
    """Return the stages of a preset, in their order."""
    return (*STAGES, DISTILLED) if preset.training.distill else STAGES


def stage_folder(work: Path, name: str, preset: Preset) -> Path:
    """Where a stage keeps its own: ablations of streams share all folders before stage 2."""
    active, finetune = preset.streams.active, preset.training.finetune
    if name[0] in '23' and (set(active) != set(STREAMS) or finetune):
        number, kind = name.split('-')
        name = '-'.join(
            [
                number,
                *(active or ['unconditional']),
                *(['finetuned'] if finetune else []),
                *([kind] if number == '3' else []),
            ]
        )
    return work / name


def assemble(preset: Preset, work: Path, until: str = '') -> Demist:
    """Put the weights of the finished stages together.

    Parameters
    ----------
    preset : Preset
    work : Path
        As given to `train`.
    until : str
        Last stage to take; by default the last there is.
    """
    model = Demist(preset)
    names = stages_of(preset)
    for name in names[: names.index(until or names[-1]) + 1]:
        path = stage_folder(work, name, preset) / WEIGHTS
        if not path.exists():  # with a pretrained backbone there is no stage 1c
            continue
        state = load_file(path)
        if name == '1c-backbone':
            model.denoiser.backbone.load_state_dict(state)
        elif name[0] in '23':
            model.denoiser.load_state_dict(state)
        else:
            part = 'psr' if name == '1a-psr' else 'cond'
            getattr(model, part).load_state_dict(
                {k: v for k, v in state.items() if k not in ('shift', 'scale')}
            )
            for key in ('shift', 'scale'):
                getattr(model, f'{part}_{key}').copy_(state[key])
    return model.eval()


def _train_autoencoder(course: Course, folder: Path, key: str) -> Trained:
    preset = course.preset
    torch.manual_seed(course.seed)
    autoencoder = build_autoencoder(preset.autoencoder, 1 if key == 'psr' else 2)
    if course.backbone:
        inherit(autoencoder, _pretrained(course).autoencoder)
    elif key == 'images':
        inherit(autoencoder, assemble(preset, course.work, '1a-psr').psr.state_dict())
    both = preset.training
    budget = both.psr_autoencoder if key == 'psr' else both.cond_autoencoder
    stage = AutoencoderStage(preset, budget, course.seed, autoencoder, key)
    state, facts = fit(stage, *patches(course, budget), folder, course.machine)
    autoencoder.load_state_dict(state)
    return state | _statistics(course, autoencoder, key), facts


def _align(course: Course, folder: Path) -> Trained:
    model = assemble(course.preset, course.work, '1a-cond')
    budget = course.preset.training.alignment
    stage = AlignmentStage(course.preset, budget, course.seed, model)
    state, facts = fit(stage, *patches(course, budget), folder, course.machine)
    model.cond.load_state_dict(state)
    return state | _statistics(course, model.cond, 'images'), facts


def _train_backbone(course: Course, folder: Path) -> Trained:
    preset = course.preset
    LOGGER.warning('no pretrained backbone was given: pretraining one on the PSR maps (stage 1c)')
    model = assemble(preset, course.work, '1b-align')
    torch.manual_seed(course.seed)
    backbone = build_backbone(preset.denoiser, preset.autoencoder.latent_channels)
    stage = BackboneStage(preset, preset.training.backbone, course.seed, backbone)
    data = _latents(course, model, preset.training.backbone, with_psr=False)
    return fit(stage, *data, folder, course.machine)


def _train_streams(course: Course, folder: Path) -> Trained:
    preset = course.preset
    model = assemble(preset, course.work, '1c-backbone')
    if course.backbone:
        model.denoiser.backbone.load_state_dict(_pretrained(course).denoiser)
    torch.manual_seed(course.seed)
    # built anew: the spatial stream is a copy of the backbone, whose weights are known only now
    model.denoiser = add_streams(model.denoiser.backbone, preset)
    budget = preset.training.conditional
    stage = ConditionalStage(preset, budget, course.seed, model)
    data = _latents(course, model, budget, with_psr=True)
    state, facts = fit(stage, *data, folder, course.machine)
    counts = dict.fromkeys(preset.streams.active, 0)
    for stream, parameter in model.denoiser.trainable():
        counts[stream] += parameter.numel()
    return state, facts | {'parameters_per_stream': counts}


def _distill(course: Course, folder: Path) -> Trained:
    preset = course.preset
    model = assemble(preset, course.work, '2-conditional')
    budget = preset.training.distillation
    stage = DistilledStage(preset, budget, course.seed, model)
    return fit(stage, *_latents(course, model, budget, with_psr=True), folder, course.machine)


_STEPS: dict[str, Step] = {
    '1a-psr': lambda course, folder: _train_autoencoder(course, folder, 'psr'),
    '1a-cond': lambda course, folder: _train_autoencoder(course, folder, 'images'),
    '1b-align': _align,
    '1c-backbone': _train_backbone,
    '2-conditional': _train_streams,
    DISTILLED: _distill,
}


def _pretrained(course: Course) -> Pretrained:
    assert course.backbone
    if (course.backbone / SAFETENSORS).is_file():  # what demist-model convert wrote
        return Pretrained(*read_backbone(course.backbone, course.preset))
    return load_backbone(course.backbone, course.preset)


def _latents(
    course: Course, model: Demist, budget: StagePreset, *, with_psr: bool
) -> tuple[Dataset[dict[str, Tensor]], Dataset[dict[str, Tensor]]]:
    cache = LatentCache(
        course.work / 'latents',
        model,
        course.preset.training.latent_versions,
        course.seed,
        course.machine.device,
    )
    cache.fill([*course.training, *course.validation])
    made = [
        LatentPatches(cache, examples, budget.patch, course.seed + k, with_psr=with_psr)
        for k, examples in enumerate((course.training, course.validation))
    ]
    model.cpu()
    return made[0], made[1]


@torch.no_grad()
def _statistics(course: Course, autoencoder: Autoencoder, key: str) -> dict[str, Tensor]:
    """Mean and standard deviation, per channel, of the latents of fixed patches."""
    budget = course.preset.training.psr_autoencoder
    drawn = Patches(course.training, budget, course.preset.psr_scale, course.seed + 2)
    autoencoder.eval()
    latents = [
        encode_mean(autoencoder, drawn[index][key][None])[0] for index in range(_STATISTICS_PATCHES)
    ]
    shift, scale = latent_statistics(latents)
    return {'shift': shift, 'scale': scale}


def _fingerprint(course: Course, name: str, past: str) -> str:
    """Hash what the weights of a stage depend on, and nothing else: ablations share stages."""
    preset = course.preset.as_dict()
    training, losses, diffusion = (preset[k] for k in ('training', 'losses', 'diffusion'))
    own: dict[str, Any] = {
        '1a': [
            preset['autoencoder'],
            preset['psr_scale'],
            training['psr_autoencoder'],
            training['cond_autoencoder'],
            training['adversarial_start'],
            [losses[k] for k in ('kl', 'edge', 'adversarial')],
        ],
        '1b': [
            training['alignment'],
            [losses[k] for k in ('align', 'align_reconstruction', 'align_decoded')],
            [losses[k] for k in ('edge_crop', 'edge_margin')],
        ],
        '1c': [
            preset['denoiser'],
            training['backbone'],
            training['latent_versions'],
            [diffusion[k] for k in ('prediction', 'steps', 'beta_start', 'beta_end')],
        ],
        '2-': [
            preset['streams'],
            training['conditional'],
            training['lora_learning_rate'],
            [losses[k] for k in ('diffusion_edge', 'edge_max_step', 'edge_crop', 'edge_margin')],
            # with a pretrained backbone, no stage before has taken these in
            [preset['denoiser'], diffusion['prediction'], diffusion['steps']],
            *(['finetune'] if training['finetune'] else []),
        ],
        '3-': [
            *(training['distillation'], training['distilled_steps']),
            *(training['distilled_strength'], 'without noise'),
        ],
    }
    return course.fingerprint(
        stage=name,
        past=past,
        own=own[name[:2]],
        common=[training[k] for k in ('ema', 'validate_every', 'patience')],
        backbone=bool(course.backbone),
    )
