"""Patches for stage 1: a function of (seed, number), whoever asks for them and however often."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.utils.data import Dataset, Sampler

from demist_app.model.presets import StagePreset
from demist_app.training.augment import degrade
from demist_app.training.examples import MULTIPLE, Example

ROTATED = 0.3
MAX_ANGLE = np.deg2rad(10)
_FEW = 0.1  # a patch with less brain is drawn again


class Patches(Dataset[dict[str, Tensor]]):
    """Random patches of a cohort.

    Parameters
    ----------
    examples : sequence of Example
    budget : StagePreset
        For the edges of a patch; cut to what the volume has.
    psr_scale : float
        Percent that becomes 1.
    seed : int
        Patch `index` is a function of it and `index`.
    augment : bool
        Degrade the images; else take them as they are, brain only.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        budget: StagePreset,
        psr_scale: float,
        seed: int,
        *,
        augment: bool = True,
    ) -> None:
        self.examples = examples
        self.sizes = range(budget.patch_min or budget.patch, budget.patch + 1, MULTIPLE)
        self.psr_scale = psr_scale
        self.seed = seed
        self.augment = augment

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``images`` (2, P, P, P) and ``psr`` (1, P, P, P), both in [0, 1]."""
        rng = np.random.default_rng([self.seed, index])
        example = self.examples[int(rng.integers(len(self.examples)))]
        images, psr, mask = example.images, example.psr, example.mask
        angle = rng.uniform(0, MAX_ANGLE) if self.augment and rng.random() < ROTATED else 0.0
        shape = [min(int(rng.choice(self.sizes)), n) for n in mask.shape]
        # a cube turned by 10° fits into one that is 1.2 times as wide
        read = [
            min(round(n * 1.2), m) if angle else n for n, m in zip(shape, mask.shape, strict=True)
        ]
        for _ in range(20):
            start = [int(rng.integers(n - r + 1)) for n, r in zip(mask.shape, read, strict=True)]
            box = tuple(slice(s, s + r) for s, r in zip(start, read, strict=True))
            if mask[box].mean() > _FEW:
                break
        t1w, flair = rng.integers(len(images), size=2)
        patch = torch.from_numpy(
            np.stack(
                [images[(t1w, 0, *box)], images[(flair, 1, *box)], psr[box], mask[box]]
            ).astype(np.float32)
        )
        if angle:
            patch = _rotate(patch, angle, rng, shape)
        if self.augment:
            axes = [axis + 1 for axis in range(3) if rng.random() < 0.5]
            patch = patch.flip(axes)
        brain = (patch[3] > 0.5).float()
        scans = degrade(patch[:2], brain, rng) if self.augment else patch[:2].clamp(0, 1) * brain
        return {'images': scans, 'psr': (patch[2:3] / self.psr_scale).clamp(0, 1)}


class Draws(Sampler[int]):
    """The numbers of the patches of one epoch, disjoint between epochs and processes.

    Parameters
    ----------
    count : int
        Patches per epoch and process.
    fixed : bool
        The same in every epoch, for validation.
    """

    def __init__(self, count: int, *, fixed: bool = False) -> None:
        self.count = count
        self.fixed = fixed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = 0 if self.fixed else epoch

    def __iter__(self) -> Iterator[int]:
        rank, world = 0, 1
        if distributed.is_initialized():  # not so when the loader is made
            rank, world = distributed.get_rank(), distributed.get_world_size()
        first = self.epoch * self.count
        return iter(number * world + rank for number in range(first, first + self.count))

    def __len__(self) -> int:
        return self.count


def _rotate(patch: Tensor, angle: float, rng: np.random.Generator, shape: list[int]) -> Tensor:
    """Turn about a random axis and cut the centre, with linear interpolation."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    # grid_sample's axes run from -1 to 1 over the patch that was read, in the order z, y, x
    size = np.array(patch.shape[1:], dtype=float)
    theta = np.diag(1 / size) @ matrix @ np.diag(np.array(shape, dtype=float))
    theta = theta[::-1, ::-1].copy()
    affine = torch.from_numpy(np.concatenate([theta, np.zeros((3, 1))], axis=1)).float()
    grid = functional.affine_grid(affine[None], [1, 1, *shape], align_corners=False)
    return functional.grid_sample(patch[None], grid, padding_mode='border', align_corners=False)[0]
