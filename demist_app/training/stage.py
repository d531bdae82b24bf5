"""What the stages of all methods share, as Lightning modules."""

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from demist_app.model.losses import Terms
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


class Automatic(Stage):
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


def wide(images: Tensor) -> Tensor:
    """Channels last: twice as fast."""
    return images.contiguous(memory_format=torch.channels_last_3d)


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights of one part of a stage, by the names they have in it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
