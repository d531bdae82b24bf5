"""Label maps of heads → training images of random contrast, resolution and field of view.

After SynthSeg and SynthStrip (Billot et al. 2023, Medical Image Analysis 86:102789; Hoopes et al.
2022, NeuroImage 260:119474): a network that has seen every label in every intensity cannot rely
on a contrast. Two in five images are of that kind here; the others have roughly the grey values of
T1w, FLAIR or T2w scans, since those are what the network will mostly see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor
from torch.nn import functional

from demist_app.imaging.brain_extraction import MULTIPLE, SPACING, scale_intensity
from demist_app.phantom.labels import BRAIN, Label

FAR = 30.0
"""Distances are kept up to this, mm."""
SIZES = ((5, 6, 7), (6, 7, 8), (4, 5, 6, 7))
"""Sizes of a training image along each axis, in multiples of 16 voxels; one is drawn."""

_CONTRASTS = {  # grey values of fat-suppression-free T1w, FLAIR and T2w scans, fat in T1w = 1
    Label.AIR: (0.01, 0.01, 0.01),
    Label.CSF_VENTRICLE: (0.15, 0.08, 1.0),
    Label.CSF_SULCAL: (0.17, 0.12, 0.95),
    Label.CORTICAL_GM: (0.45, 0.65, 0.6),
    Label.CAUDATE: (0.5, 0.62, 0.55),
    Label.PUTAMEN: (0.52, 0.6, 0.5),
    Label.PALLIDUM: (0.6, 0.5, 0.35),
    Label.THALAMUS: (0.58, 0.6, 0.5),
    Label.WM: (0.68, 0.52, 0.42),
    Label.CORPUS_CALLOSUM: (0.7, 0.48, 0.4),
    Label.CEREBELLAR_GM: (0.45, 0.62, 0.58),
    Label.CEREBELLAR_WM: (0.66, 0.52, 0.43),
    Label.BRAINSTEM: (0.62, 0.52, 0.45),
    Label.LESION: (0.45, 0.9, 0.8),
    Label.CSF_SUBARACHNOID: (0.16, 0.1, 0.95),
    Label.DURA: (0.35, 0.35, 0.3),
    Label.SKULL_TABLE: (0.06, 0.06, 0.06),
    Label.MARROW: (0.75, 0.45, 0.5),
    Label.FAT: (1.0, 0.7, 0.7),
    Label.MUSCLE: (0.42, 0.35, 0.25),
    Label.SKIN: (0.5, 0.45, 0.4),
    Label.EYE: (0.13, 0.08, 1.0),
    Label.LENS: (0.4, 0.3, 0.2),
    Label.FACE: (0.5, 0.5, 0.45),
    Label.SINUS: (0.03, 0.03, 0.03),
    Label.SPINAL_CORD: (0.62, 0.52, 0.45),
    Label.VESSEL: (0.3, 0.15, 0.15),
    Label.NERVE: (0.6, 0.5, 0.45),
    Label.CARTILAGE: (0.3, 0.3, 0.25),
}
_IN_BRAIN = torch.tensor([label in BRAIN for label in range(max(Label) + 1)])


@dataclass(frozen=True)
class LabelledHead:
    """A head to paint.

    Attributes
    ----------
    labels : Tensor
        uint8 `Label` values, RAS, shape (x, y, z).
    distance : Tensor
        float16 signed distance to the brain's surface in mm, negative inside.
    spacing : float
        Voxel size, mm.
    """

    labels: Tensor
    distance: Tensor
    spacing: float


def labelled_head(labels: NDArray[np.uint8], spacing: float) -> LabelledHead:
    """Add the signed distance to the surface of the brain labels."""
    brain = np.isin(labels, list(BRAIN))
    outside = ndimage.distance_transform_edt(~brain, sampling=spacing)
    inside = ndimage.distance_transform_edt(brain, sampling=spacing)
    half = spacing / 2
    distance = np.where(brain, half - inside, outside - half).clip(-FAR, FAR)
    return LabelledHead(
        torch.from_numpy(labels), torch.from_numpy(distance.astype(np.float16)), spacing
    )


@dataclass(frozen=True)
class Chance:
    """Random numbers of one training image.

    Attributes
    ----------
    generator : Generator
    """

    generator: Generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number, evenly spread."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator)

    def choice(self, *options: int) -> int:
        """One of `options`."""
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def happens(self, probability: float) -> bool:
        """Whether an event of that probability happens."""
        return self.uniform() < probability

    def field(self, shape: Sequence[int], nodes: Sequence[int], channels: int = 1) -> Tensor:
        """Smooth random field: trilinear between `nodes` normal numbers along each axis.

        Returns
        -------
        Tensor
            Shape (channels, x, y, z).
        """
        coarse = self.normal(1, channels, *nodes)
        return functional.interpolate(coarse, tuple(shape), mode='trilinear', align_corners=True)[0]


@dataclass(frozen=True)
class Sample:
    """One training image on the network's grid, each of shape (1, x, y, z).

    Attributes
    ----------
    image : Tensor
        In [0, 1].
    distance : Tensor
        Signed distance to the brain's surface, mm.
    seen : Tensor
        1 inside the field of view, 0 outside of it, where the image is zero and nothing is asked.
    """

    image: Tensor
    distance: Tensor
    seen: Tensor


def random_sample(head: LabelledHead, seed: int) -> Sample:
    """Draw one training image from a head; the same seed gives the same bits."""
    chance = Chance(torch.Generator().manual_seed(seed))
    shape = tuple(MULTIPLE * chance.choice(*sizes) for sizes in SIZES)
    grid, scale = _random_map(head, shape, chance)
    painted = _paint(head, chance)
    image = functional.grid_sample(painted[None, None], grid[None], align_corners=True)[0]
    distance = functional.grid_sample(
        head.distance.float()[None, None], grid[None], padding_mode='border', align_corners=True
    )[0]
    distance = distance * scale
    image, seen = _acquire(image, distance, chance)
    return Sample(scale_intensity(image), distance, seen)


def _random_map(head: LabelledHead, shape: tuple[int, ...], chance: Chance) -> tuple[Tensor, float]:
    """Positions of the sample's voxels in the head, as `grid_sample` wants them, and the scale.

    Rotation, shear, scale per axis, mirroring, translation and a smooth deformation. The scale is
    that of lengths, from head to sample.
    """
    brain = (head.distance < 0).nonzero().float()
    centre = (brain.amin(0) + brain.amax(0)) / 2
    angles = chance.normal(3) * torch.tensor([12.0, 7.0, 7.0]) * (torch.pi / 180)
    generators = torch.zeros(3, 3, 3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        generators[axis, i, j], generators[axis, j, i] = -1.0, 1.0
    rotation = torch.linalg.matrix_exp((angles[:, None, None] * generators).sum(0))
    shear = torch.eye(3) + 0.05 * chance.normal(3, 3).triu(1)
    zoom = torch.exp(0.08 * chance.normal(1) + 0.06 * chance.normal(3))
    mirror = torch.tensor([1.0 if chance.happens(0.5) else -1.0, 1.0, 1.0])
    linear = rotation @ shear @ torch.diag(mirror * zoom)  # sample mm → head mm
    middle = (torch.tensor(shape) - 1) / 2 + chance.normal(3) * torch.tensor([3.0, 4.0, 6.0])
    axes = [SPACING * (torch.arange(n) - m) for n, m in zip(shape, middle, strict=True)]
    where = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1) @ linear.T
    for nodes, amplitude in ((4, 4.0), (10, 1.5)):
        bend = chance.field(shape, (nodes,) * 3, channels=3).movedim(0, -1)
        where = where + chance.uniform(0, amplitude) * bend
    voxels = where / head.spacing + centre
    size = torch.tensor(head.labels.shape)
    grid = (2 * voxels / (size - 1) - 1).flip(-1)
    return grid, float(linear.det().abs()) ** (-1 / 3)


def _paint(head: LabelledHead, chance: Chance) -> Tensor:
    """Give every label a grey value of its own, outside the brain up to three."""
    count = len(_IN_BRAIN)
    if chance.happens(0.4):
        grey = torch.rand(count, generator=chance.generator)
    else:
        contrast = chance.choice(0, 0, 0, 1, 2)
        grey = torch.zeros(count)
        for label, values in _CONTRASTS.items():
            grey[label] = values[contrast]
        mean = grey[_IN_BRAIN].mean()
        grey = torch.where(_IN_BRAIN, mean + chance.uniform(0.3, 1.1) * (grey - mean), grey)
        grey = grey * torch.exp(0.2 * chance.normal(count)) + 0.03 * chance.normal(count).abs()
        grey[_IN_BRAIN] *= chance.uniform(0.6, 1.3)
    if chance.happens(0.8):
        grey[Label.AIR] = 0.04 * chance.uniform()
    # Real necks, faces and marrows hold more than one tissue: split their labels at random.
    split = torch.where(_IN_BRAIN, 0.03, 0.25) * chance.normal(3, count) * chance.uniform()
    split[:, [Label.AIR, Label.SINUS]] *= 0.1
    shape = head.labels.shape
    blob = chance.choice(8, 14, 24)
    patches = chance.field(shape, (blob,) * 3)[0]
    part = (patches > -0.3).long() + (patches > 0.3).long()
    texture = torch.where(_IN_BRAIN, 0.04, 0.1) * chance.uniform()
    texture[[Label.AIR, Label.SINUS]] *= 0.1
    labels = head.labels.long()
    image = (grey + split).clamp(min=0)[part, labels]
    grain = chance.field(shape, [max(2, n // chance.choice(2, 3, 5)) for n in shape])[0]
    return (image + texture[labels] * grain).clamp(min=0)


def _acquire(image: Tensor, distance: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Blur, slices, receive field, noise, gamma, field of view."""
    shape = image.shape[1:]
    if chance.happens(0.5):
        image = _blur(image, chance.uniform(0.3, 1.0))
    if chance.happens(0.6):
        axis = chance.choice(0, 1, 2, 2)
        slices = list(shape)
        slices[axis] = max(8, round(shape[axis] * SPACING / chance.uniform(2, 5.5)))
        thick = functional.interpolate(image[None], slices, mode='area')
        mode = 'trilinear' if chance.happens(0.8) else 'nearest'
        image = functional.interpolate(thick, shape, mode=mode)[0]
    nodes = chance.choice(2, 3, 4)
    image = image * torch.exp(chance.uniform(0, 0.4) * chance.field(shape, (nodes,) * 3))
    image = image / image.amax()
    noise = chance.uniform(0, 0.04) if chance.happens(0.7) else chance.uniform(0, 0.1)
    image = torch.hypot(image + noise * chance.normal(1, *shape), noise * chance.normal(1, *shape))
    image = image ** float(torch.exp(0.25 * chance.normal(1)))
    if chance.happens(0.3):  # scanners and defacing tools set the background to zero
        image = image * (image > image.amax() * chance.uniform(0, 0.08))
    if chance.happens(0.05):
        image = image * (distance < chance.uniform(0, 3))
    seen = _field_of_view(distance[0] < 0, chance)[None].float()
    return image * seen, seen


def _blur(image: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / sigma) ** 2)
    taps = taps / taps.sum()
    for axis in range(3):
        view = [1, 1, 1, 1, 1]
        view[2 + axis] = 7
        pad = [0, 0, 0]
        pad[axis] = 3
        image = functional.conv3d(image[None], taps.view(view), padding=tuple(pad))[0]
    return image


def _field_of_view(brain: Tensor, chance: Chance) -> Tensor:
    """Random box: ends in millimetres beyond the brain, sometimes within it."""
    inside = torch.ones(brain.shape, dtype=torch.bool)
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        extent = brain.any(others[1]).any(others[0]).nonzero()
        for end, edge in ((0, int(extent.amin())), (1, int(extent.amax()))):
            if not chance.happens(0.5):
                continue
            inner = -12 if axis == 2 else -3
            margin = round(chance.uniform(inner, 50) / SPACING)
            cut = edge - margin if end == 0 else edge + margin
            if end == 0:
                inside.narrow(axis, 0, min(max(cut, 0), brain.shape[axis])).fill_(False)
            elif cut + 1 < brain.shape[axis]:
                inside.narrow(axis, cut + 1, brain.shape[axis] - cut - 1).fill_(False)
    return inside
