"""The pretrained backbone as a bundle: what `demist-model convert` writes and ``--backbone`` takes.

::

    <bundle>/models/model.safetensors   denoiser.<name> and autoencoder.<name>

The other files are those of `demist_app.model.bundle`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demist_app import __version__
from demist_app.model.bundle import Bundle, BundleError, load_bundle, write_bundle
from demist_app.model.presets import Preset

NETWORK = 'backbone'

State = dict[str, Tensor]


def write_backbone(out: Path, denoiser: State, autoencoder: State, preset: Preset) -> Bundle:
    """Write the weights of ``brats_mri_generative_diffusion`` as a bundle.

    Parameters
    ----------
    out : Path
        Folder to write; its name becomes the bundle's.
    denoiser, autoencoder : dict of str to Tensor
        As `demist_app.model.backbone_files.load_backbone` gives them.
    preset : Preset
        Whose sizes they have.
    """
    parts = {'denoiser': denoiser, 'autoencoder': autoencoder}
    tensors = {
        f'{part}.{name}': tensor.numpy()
        for part, state in parts.items()
        for name, tensor in state.items()
    }
    metadata = {
        'name': out.name,
        'version': __version__,
        'network': NETWORK,
        'description': 'unconditional latent diffusion model of brain MRI [@monaigenerative]',
        'sizes': _sizes(preset),
        'parameters': {
            part: sum(t.numel() for t in state.values()) for part, state in parts.items()
        },
        'training_data': 'FLAIR images of BraTS (multimodal brain tumour segmentation challenge)',
        'license': 'Apache-2.0',
    }
    return write_bundle(out, metadata, tensors, _CARD.format(name=out.name))


def read_backbone(path: Path, preset: Preset) -> tuple[State, State]:
    """Read what `write_backbone` wrote.

    Parameters
    ----------
    path : Path
    preset : Preset
        Sizes that the weights must have.

    Returns
    -------
    denoiser, autoencoder : dict of str to Tensor

    Raises
    ------
    BundleError
        If the bundle is damaged, is no backbone, or has other sizes.
    """
    bundle = load_bundle(path)
    if bundle.metadata.get('network') != NETWORK:
        raise BundleError(
            f'--backbone: {path} holds a network of type {bundle.metadata.get("network")!r}, not '
            'a backbone: give a folder written by demist-model convert'
        )
    if bundle.metadata['sizes'] != _sizes(preset):
        raise BundleError(
            f'--backbone: {path} has other sizes than the preset {preset.name}: use --preset paper'
        )
    tensors = {name: torch.from_numpy(tensor) for name, tensor in bundle.tensors().items()}

    def part(prefix: str) -> State:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    return part('denoiser.'), part('autoencoder.')


def _sizes(preset: Preset) -> dict[str, Any]:
    """Return the sizes as JSON keeps them."""
    every = preset.as_dict()
    return {
        part: {k: list(v) if isinstance(v, tuple) else v for k, v in every[part].items()}
        for part in ('autoencoder', 'denoiser')
    }


_CARD = """\
# Model card: {name}

The weights of `brats_mri_generative_diffusion` (MONAI model zoo, Apache-2.0), an unconditional
latent diffusion model of brain MRI (Pinaya et al., arXiv 2307.15208), under the names of today's
MONAI networks and as safetensors. Nothing was trained or rounded.

- **Trained on**: FLAIR images of BraTS, at 1.1 mm. Who uses the weights is asked to cite BraTS
  (Menze et al., IEEE TMI 2015).
- **What it is for**: the frozen backbone and the start of both autoencoders of a demist model of
  the preset `paper` (`demist … group --preset paper --backbone THIS_FOLDER`).
- **What it is not for**: on its own it makes images of nobody. The output projection of its
  attention was never applied when it was trained and is left out.
"""
