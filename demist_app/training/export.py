"""From the weights of the stages to a bundle."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from demist_app import __version__
from demist_app.model.bundle import Bundle, write_bundle
from demist_app.model.demist import Demist
from demist_app.model.presets import Preset
from demist_app.training.card import model_card
from demist_app.training.course import kept_facts
from demist_app.training.examination import Examination, examined
from demist_app.training.run import assemble

_LIBRARIES = ('torch', 'monai', 'lightning', 'numpy')
_STREAMS = {
    'semantic': 'cross-attention [@ldm]',
    'spatial': 'a ControlNet branch [@controlnet]',
    'adaptive': 'low-rank adaptation of its attention [@lora]',
}


def export(
    work: Path,
    preset: Preset,
    out: Path,
    *,
    facts: Mapping[str, Any],
    examination: Examination | None = None,
) -> Bundle:
    """Write the bundle of a trained model, with its card.

    Parameters
    ----------
    work : Path
        As given to `demist_app.training.run.train`, which is done.
    preset : Preset
        As given to it.
    out : Path
        Folder of the bundle; its name becomes the model's.
    facts : mapping
        JSON-able, all of it kept in the metadata:

        - ``stages``: what `train` returned
        - ``seed``
        - ``training_units``, ``validation_units``: `demist_app.training.examples.facts` of each
          example
        - ``intensity_reference``: `demist_app.model.intensities.reference` of the training scans
        - ``metrics``: name to mean and SD; empty if there are none
        - ``scored_on`` (optional): of which models on which scans; by default, out of fold
        - ``training_data`` (optional): what the scans are, in words
        - anything else that shall be remembered, such as the fold.
    examination : Examination, optional
        What the model learns of its own limits from; see `examined`.
    """
    model = assemble(preset, work)
    units = [*facts['training_units'], *facts['validation_units']]
    participants = {unit['participant'] for unit in units}
    parameters = _parameters(model)
    whole = ['backbone', *(f'{stream} stream' for stream in preset.streams.active)]
    trained = whole if preset.training.finetune else whole[1:]
    metadata: dict[str, Any] = {
        'training_data': f'{len(units)} scans of {len(participants)} participants with measured '
        'PSR maps',
        'scored_on': 'out of fold: models trained in the same way, on participants they were not '
        'trained on',
        **facts,
        'name': out.name,
        'version': __version__,
        'network': 'demist',
        'description': _description(preset),
        'preset': preset.as_dict(),
        'psr_unit': 'percent',
        'grid': {'spacing_mm': 1.0, 'orientation': 'RAS', 'multiple': 16},
        'latent_statistics': {
            name: buffer.tolist() for name, buffer in model.named_buffers(recurse=False)
        },
        'backbone': 'pretrained without conditions on the PSR maps of the training units'
        if '1c-backbone' in facts['stages']
        else 'brats_mri_generative_diffusion 1.1.2 of the MONAI model zoo, trained on the FLAIR '
        'images of BraTS',
        'stages': kept_facts(facts['stages']),
        'parameters': parameters,
        'trainable_share': sum(parameters[part] for part in trained)
        / sum(parameters[part] for part in whole),
        'libraries': {'Python': platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
    }
    tensors = model.tensors()
    metadata = examined(metadata, tensors, out, examination)
    return write_bundle(out, metadata, tensors, model_card(metadata))


def _parameters(model: Demist) -> dict[str, int]:
    counts = {
        'autoencoder of PSR': _count(model.psr),
        'autoencoder of T1w and FLAIR': _count(model.cond),
        'backbone': _count(model.denoiser.backbone),
    }
    for stream, parameter in model.denoiser.trainable():
        key = f'{stream} stream'
        counts[key] = counts.get(key, 0) + parameter.numel()
    return counts


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def conditioning(preset: Preset) -> str:
    """Say, with citations, how the denoiser is conditioned."""
    streams = [_STREAMS[stream] for stream in preset.streams.active]
    ways = ' and '.join([', '.join(streams[:-1]), streams[-1]] if len(streams) > 1 else streams)
    return f'is conditioned on both images by {ways}' if ways else 'has no condition'


def _description(preset: Preset) -> str:
    conditioned = conditioning(preset)
    kind = 'fine-tuned' if preset.training.finetune else 'frozen'
    return f'a 3D latent diffusion model [@demist; @ldm] whose {kind} denoiser {conditioned}.'
