"""Weights of the pretrained backbone: MONAI model zoo, ``brats_mri_generative_diffusion``.

An unconditional latent diffusion model of brain MRI (Pinaya et al., arXiv 2307.15208), trained on
the FLAIR images of BraTS. The bundle is Apache-2.0; BraTS asks to be cited.
"""

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from demist_app.model.autoencoder import build_autoencoder
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import Preset

AUTOENCODER = 'model_autoencoder.pt'
DENOISER = 'model.pt'

# version 1.1.2 of the bundle
MD5 = {
    AUTOENCODER: '9e6df4cc9a2decf49ab3332606b32c55',
    DENOISER: '35258b1112f701f3d485676d33141a55',
}

State = dict[str, Tensor]


class BackboneError(ValueError):
    """The files are not those of the pretrained backbone, or do not fit the preset."""


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from.

    Attributes
    ----------
    denoiser : dict
        State of `build_backbone`.
    autoencoder : dict
        State of `build_autoencoder` for one channel; both autoencoders of stage 1 start from it.
    """

    denoiser: State
    autoencoder: State


def load_backbone(path: Path, preset: Preset, md5: Mapping[str, str] = MD5) -> Pretrained:
    """Read the pretrained weights; nothing in the files is executed.

    Parameters
    ----------
    path : Path
        The bundle's folder, a folder with its two .pt files, or either of these files beside the
        other.
    preset : Preset
        Sizes that the weights must have; those of the bundle are the preset ``paper``.
    md5 : mapping
        Digest of each file.

    Raises
    ------
    BackboneError
        If a file is missing, is another than expected, holds more than tensors, or does not fit.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / 'models').is_dir():
        folder /= 'models'
    with torch.device('meta'):
        denoiser = build_backbone(preset.denoiser, preset.autoencoder.latent_channels)
        autoencoder = build_autoencoder(preset.autoencoder, channels=1)
    return Pretrained(
        _load(folder / DENOISER, md5[DENOISER], denoiser, denoiser_key),
        _load(folder / AUTOENCODER, md5[AUTOENCODER], autoencoder, autoencoder_key),
    )


def denoiser_key(key: str) -> str | None:
    """Return today's name of a weight of the denoiser, or None if it has no use.

    The networks of the `generative` package held an output projection that they never applied
    (MONAI issue 7991): today's network must do without, not fill one with random numbers.
    """
    if '.proj_attn.' in key:
        return None
    key = re.sub(r'(?<!\.attn)\.(to_[qkv]\.)', r'.attn.\1', key)
    return key.replace('.upsampler.conv.', '.upsampler.postconv.')


def autoencoder_key(key: str) -> str:
    """Return today's name of a weight of the autoencoder."""
    return re.sub(r'^(decoder\.blocks\.\d+)\.conv\.conv\.', r'\1.postconv.conv.', key)


def _load(file: Path, md5: str, network: nn.Module, rename: Callable[[str], str | None]) -> State:
    try:
        with file.open('rb') as stream:
            digest = hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
    except OSError as error:
        raise BackboneError(
            f'--backbone: {file} cannot be read ({error.strerror}); give the folder of the bundle '
            f'brats_mri_generative_diffusion, which holds {DENOISER} and {AUTOENCODER}'
        ) from error
    if digest != md5:
        raise BackboneError(
            f'--backbone: {file} is another file than the one expected (md5 {digest}, not {md5}) '
            'or was cut short; fetch version 1.1.2 of the bundle anew'
        )
    try:
        content: Any = torch.load(file, map_location='cpu', weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BackboneError(
            f'--backbone: {file} holds something other than tensors or is damaged; '
            'fetch the bundle anew'
        ) from error
    named = {rename(key): tensor for key, tensor in content.items()}
    state: State = {key: tensor for key, tensor in named.items() if key is not None}
    shapes = {key: tensor.shape for key, tensor in state.items()}
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    if shapes != expected:
        odd = sorted(key for key in shapes | expected if shapes.get(key) != expected.get(key))
        raise BackboneError(
            f'--backbone: {file} does not fit the sizes of the preset ({len(odd)} weights differ, '
            f'the first is {odd[0]}); use --preset paper'
        )
    return state
