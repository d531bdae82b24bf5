"""Training of the networks that are compared with: one stage each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demist_app.model.baselines import load_baselines
from demist_app.model.losses import Terms
from demist_app.model.presets import Preset, StagePreset
from demist_app.model.regression import RegressionPredictor
from demist_app.model.sliding import Brain
from demist_app.model.translation import KLTranslator, RegressionUNet, VQTranslator
from demist_app.training.course import Course, Trained, patches
from demist_app.training.fit import fit
from demist_app.training.stage import Automatic, Batch, Stage, part, wide
from demist_app.training.stages import AutoencoderStage
from demist_app.training.voxelwise import residual_table


class TranslationStage(Automatic):
    """L1 regression of PSR on both images.

    Parameters
    ----------
    preset, budget, seed
        See `demist_app.training.stages.Stage`.
    network : Module
        Of `demist_app.model.translation`.
    factor : int
        Voxels per voxel of its smallest feature map.
    """

    def __init__(
        self, preset: Preset, budget: StagePreset, seed: int, network: nn.Module, factor: int
    ) -> None:
        super().__init__(preset, budget, seed)
        self.network = network
        self.factor = factor

    @property
    def narrowest(self) -> int:
        """Voxels across the smallest feature map."""
        return self.budget.patch // self.factor

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network."""
        return part(state, 'network.')

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:  # noqa: ARG002
        """Mean absolute error."""
        predicted = self.network(wide(batch['images'])).float()
        return {'loss': functional.l1_loss(predicted, batch['psr'])}


class QuantisedStage(TranslationStage):
    """L1 regression through a codebook, which the encoder commits to."""

    def terms(self, batch: Batch, generator: torch.Generator) -> Terms:
        """Mean absolute error and commitment (van den Oord et al. 2017)."""
        network: Any = self.network
        predicted, commitment = network.quantised(wide(batch['images']), generator)
        error = functional.l1_loss(predicted.float(), batch['psr'])
        return {'loss': error + commitment, 'reconstruction': error, 'commitment': commitment}


def train_unet(course: Course, folder: Path) -> Trained:
    """Train the regression UNet."""
    settings = load_baselines(course.preset.baselines).unet
    torch.manual_seed(course.seed)
    network = RegressionUNet(settings)
    factor = settings.fold * 2 ** (len(settings.channels) - 1)
    stage = TranslationStage(course.preset, settings.stage, course.seed, network, factor)
    return _train(course, folder, stage, network)


def train_vqvae(course: Course, folder: Path) -> Trained:
    """Train the VQ-VAE."""
    settings = load_baselines(course.preset.baselines).vqvae
    torch.manual_seed(course.seed)
    network = VQTranslator(settings)
    stage = QuantisedStage(course.preset, settings.stage, course.seed, network, settings.factor)
    return _train(course, folder, stage, network)


def train_klgan(course: Course, folder: Path) -> Trained:
    """Train the KL-GAN: equation 1 with both images at its input and PSR at its output."""
    settings = load_baselines(course.preset.baselines).klgan
    torch.manual_seed(course.seed)
    network = KLTranslator(settings)
    training = replace(course.preset.training, adversarial_start=settings.adversarial_start)
    preset = replace(
        course.preset, autoencoder=settings.autoencoder, losses=settings.losses, training=training
    )
    stage = AutoencoderStage(preset, settings.stage, course.seed, network, 'psr', source='images')
    return _train(course, folder, stage, network)


def _train(course: Course, folder: Path, stage: Stage, network: nn.Module) -> Trained:
    """Train, and measure the residuals of the validation scans."""
    budget = stage.budget
    state, facts = fit(stage, *patches(course, budget), folder, course.machine)
    network.load_state_dict(state)
    predictor = RegressionPredictor(network, budget.patch, course.preset.psr_scale)
    device = course.machine.device

    def predict(images: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        return predictor.inside(Brain(images, mask), device)

    table = residual_table(predict, course.validation)
    network.cpu()
    return {**state, 'residual_sd': torch.from_numpy(table)}, facts
