"""Overlapping windows over a latent, for networks that the memory cannot hold on all of it.

Predictions are blended inside every denoising step, so that the sampler sees one prediction and
no seam can grow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import EllipsisType

import torch
from torch import Tensor

from demist_app.model.presets import AutoencoderPreset, DenoiserPreset

Shape = tuple[int, int, int]

_EDGES = (64, 56, 48, 40, 32, 24, 16)  # latent voxels; multiples of every network's downsampling
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Window:
    """A box of latent voxels.

    Attributes
    ----------
    start, size : tuple of int
        Along x, y, z.
    """

    start: Shape
    size: Shape

    def index(self, factor: int = 1) -> tuple[EllipsisType, slice, slice, slice]:
        """Return what selects the box in a tensor (..., x, y, z) of `factor` voxels to a voxel."""
        x, y, z = (
            slice(factor * start, factor * (start + size))
            for start, size in zip(self.start, self.size, strict=True)
        )
        return ..., x, y, z


def windows(volume_shape: Shape, window_shape: Shape, overlap: float) -> tuple[Window, ...]:
    """Cover a volume.

    Parameters
    ----------
    volume_shape : tuple of int
        Latent voxels.
    window_shape : tuple of int
        Latent voxels; cut to the volume.
    overlap : float
        Least share of a window's edge that its neighbour covers too, 0 <= overlap < 1.

    Returns
    -------
    tuple of Window
        All of one size, evenly spread, the first and the last at the edges of the volume.
    """
    size = _cut(window_shape, volume_shape)
    x, y, z = (_starts(*axis, overlap) for axis in zip(volume_shape, size, strict=True))
    return tuple(Window(start, size) for start in product(x, y, z))


def fuse(
    predict_window: Callable[[Window], Tensor],
    volume_shape: Shape,
    window_shape: Shape,
    overlap: float,
    factor: int = 1,
) -> Tensor:
    """Predict window by window and blend with Gaussian weights that sum to 1 at every voxel.

    A single window is returned to the bit.

    Parameters
    ----------
    predict_window : callable
        From a window to (B, C, factor · x, factor · y, factor · z).
    volume_shape, window_shape, overlap
        As for `windows`.
    factor : int
        Voxels of the prediction per latent voxel along one axis: 1 for a denoiser, more for a
        decoder.

    Returns
    -------
    Tensor, shape (B, C, factor · X, factor · Y, factor · Z)
        At least single precision.
    """
    size = _cut(window_shape, volume_shape)
    weights = [_weights(*axis, overlap, factor) for axis in zip(volume_shape, size, strict=True)]
    fused: Tensor | None = None
    for window in windows(volume_shape, window_shape, overlap):
        prediction = predict_window(window)
        if fused is None:
            fused = torch.zeros(
                (*prediction.shape[:2], *(factor * extent for extent in volume_shape)),
                dtype=torch.promote_types(prediction.dtype, torch.float32),
                device=prediction.device,
            )
        x, y, z = (axis[start].to(fused) for axis, start in zip(weights, window.start, strict=True))
        fused[window.index(factor)] += prediction * (x[:, None, None] * y[:, None] * z)
    assert fused is not None
    return fused


def denoising_bytes(preset: DenoiserPreset, *, spatial: bool) -> int:
    """Return the memory one evaluation takes per latent voxel, beyond the weights.

    The peak is where the up path reaches the highest resolution: features and skip joined, their
    normalised and activated copies, a convolution's output and the copies the library makes for
    it, beside all skips of the level. For single precision, batch 1, no gradients. On a CPU this
    was 1.2 to 1.5 times the measured peak for the presets of the package.

    Parameters
    ----------
    preset : DenoiserPreset
    spatial : bool
        With the spatial stream, which adds one residual per skip.
    """
    highest, next_level = preset.channels[:2]
    skips = (1 + preset.res_blocks) * highest * (2 if spatial else 1)
    return _FLOAT * (6 * (highest + next_level) + 2 * skips)


def decoding_bytes(preset: AutoencoderPreset) -> int:
    """Return the memory the decoder takes per latent voxel, beyond the weights.

    The peak is at the highest resolution, where the channels are still those of the level below.
    The encoder takes less. For single precision, batch 1, no gradients. On a CPU this was 1.2 to
    1.4 times the measured peak for the presets of the package.
    """
    finest = (preset.factor // preset.fold) ** 3
    return int(_FLOAT * 5 * (preset.channels[1] * finest + preset.factor**3))


def window_choices(
    volume_shape: Shape, bytes_per_voxel: int, available: float
) -> tuple[Shape, ...]:
    """Return the windows that fit into memory.

    Parameters
    ----------
    volume_shape : tuple of int
        Latent voxels.
    bytes_per_voxel : int
        `denoising_bytes` or `decoding_bytes`.
    available : float
        Bytes.

    Returns
    -------
    tuple of shapes
        Largest first: the whole volume if it fits, then cubes cut to the volume. The smallest is
        there whatever the memory: what comes first is to be tried, and the next one if the
        prediction was wrong.
    """
    cubes = [_cut((edge, edge, edge), volume_shape) for edge in _EDGES]
    shapes = list(dict.fromkeys([volume_shape, *cubes]))
    fitting = [shape for shape in shapes if math.prod(shape) * bytes_per_voxel <= available]
    return tuple(fitting or shapes[-1:])


def _cut(window_shape: Shape, volume_shape: Shape) -> Shape:
    x, y, z = map(min, window_shape, volume_shape)
    return x, y, z


def _starts(extent: int, size: int, overlap: float) -> tuple[int, ...]:
    stride = max(1, math.floor(size * (1 - overlap)))
    jumps = math.ceil((extent - size) / stride)
    return tuple(round(i * (extent - size) / max(jumps, 1)) for i in range(jumps + 1))


@lru_cache(maxsize=64)
def _weights(extent: int, size: int, overlap: float, factor: int) -> dict[int, Tensor]:
    """Return the weights along one axis by the start of the window, shape (factor · size,).

    SD: an eighth of the window, as in nnU-Net. Since windows form a grid, their weights are
    products over the axes, and so is the sum to divide by.
    """
    n = factor * size
    profile = torch.exp(-32 * ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / n) ** 2)
    total = torch.zeros(factor * extent, dtype=torch.float64)
    starts = _starts(extent, size, overlap)
    for start in starts:
        total[factor * start : factor * start + n] += profile
    return {start: profile / total[factor * start : factor * start + n] for start in starts}
