"""Sizes and budgets of the methods that are compared with, read from one JSON file."""

from dataclasses import dataclass

from demist_app.model.presets import (
    AutoencoderPreset,
    DiffusionPreset,
    LossPreset,
    StagePreset,
)
from demist_app.model.settings_file import build, read_settings


@dataclass(frozen=True)
class BoostingPreset:
    """Gradient boosting on the neighbourhood of a voxel.

    Attributes
    ----------
    voxels : int
        Of all scans together, drawn at random, as many of each.
    trees : int
    leaves, depth : int
        Of a tree, at most.
    learning_rate : float
    """

    voxels: int
    trees: int
    leaves: int
    depth: int
    learning_rate: float = 0.1


@dataclass(frozen=True)
class UNetPreset:
    """A regression UNet, trained with the L1 loss.

    Attributes
    ----------
    channels : tuple of int
        Per level; each level after the first halves the resolution.
    res_units : int
        Convolutions per residual unit.
    normalised : bool
        Instance norms, which MONAI's UNet has unless told otherwise; they remove the level of what
        fills the patch.
    stage : StagePreset
    fold : int
        Edge of the cubes of voxels that become channels, as in `AutoencoderPreset`.
    """

    channels: tuple[int, ...]
    res_units: int
    normalised: bool
    stage: StagePreset
    fold: int = 1


@dataclass(frozen=True)
class KLGANPreset:
    """A KL autoencoder from both images to PSR, with a patch discriminator (Pinaya et al. 2023).

    Attributes
    ----------
    autoencoder : AutoencoderPreset
    losses : LossPreset
        Those of equation 1 count.
    adversarial_start : int
        Update at which the discriminator joins.
    stage : StagePreset
    """

    autoencoder: AutoencoderPreset
    losses: LossPreset
    adversarial_start: int
    stage: StagePreset


@dataclass(frozen=True)
class VQVAEPreset:
    """A vector-quantised autoencoder from both images to PSR (van den Oord et al. 2017).

    Attributes
    ----------
    channels : tuple of int
        Per level; each halves the resolution.
    res_layers : int
        Residual units per level.
    embeddings, embedding_channels : int
        Vectors of the codebook, and their length.
    stage : StagePreset
    fold : int
        Edge of the cubes of voxels that become channels, as in `AutoencoderPreset`.
    """

    channels: tuple[int, ...]
    res_layers: int
    embeddings: int
    embedding_channels: int
    stage: StagePreset
    fold: int = 1

    @property
    def factor(self) -> int:
        """Voxels per code along one axis."""
        return int(self.fold * 2 ** len(self.channels))


@dataclass(frozen=True)
class WaveletPreset:
    """A conditional wavelet diffusion model (Friedrich et al. 2024).

    Attributes
    ----------
    channels : tuple of int
        Of the denoiser, per level; each level after the first halves the resolution.
    res_blocks, norm_groups : int
    diffusion : DiffusionPreset
        From pure noise (strength 1), prediction of x0.
    stage : StagePreset
    """

    channels: tuple[int, ...]
    res_blocks: int
    norm_groups: int
    diffusion: DiffusionPreset
    stage: StagePreset


@dataclass(frozen=True)
class Baselines:
    """All of them, by the name of the method."""

    boosting: BoostingPreset
    unet: UNetPreset
    klgan: KLGANPreset
    vqvae: VQVAEPreset
    cwdm: WaveletPreset


def load_baselines(name: str) -> Baselines:
    """Read settings of the package by their name (``paper``, ``small``, ``tiny``), or a JSON file.

    Raises
    ------
    PresetError
        If there is none of that name, or its content is not understood.
    """
    _, content = read_settings('baselines', name, f'the baselines {name} of the preset')
    built = build(Baselines, content, 'baselines')
    assert isinstance(built, Baselines)
    return built
