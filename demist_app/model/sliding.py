"""Networks in voxel space on whole brains: in windows of the size that they were trained on."""

from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from demist_app.model.predictor import Image

OVERLAP = 0.25
_MARGIN = 8  # voxels around the brain, which networks see as zeros in training


class Brain:
    """The scans of one brain, cut to it.

    Parameters
    ----------
    images, mask
        As `demist_app.model.predictor.Predictor.predict` gets them.
    """

    def __init__(self, images: Image, mask: NDArray[np.bool_]) -> None:
        self.mask = mask
        self._box = tuple(
            slice(max(0, int(found.min()) - _MARGIN), int(found.max()) + 1 + _MARGIN)
            for found in np.nonzero(mask)
        )
        cut = torch.from_numpy((images * mask)[(slice(None), *self._box)].astype(np.float32))
        self.size = tuple(cut.shape[1:])
        # an even number of voxels, for wavelets
        odd = [(0, n % 2) for n in self.size]
        pads = [p for pair in reversed(odd) for p in pair]
        self.images = torch.nn.functional.pad(cut, pads)[None]

    def inside(self, volume: Tensor) -> NDArray[np.float32]:
        """Return the voxels of the brain, (N,), of a volume (1, 1, X, Y, Z) as `images`."""
        x, y, z = self.size
        cut = volume[0, 0, :x, :y, :z].float().cpu().numpy()
        values: NDArray[np.float32] = cut[self.mask[self._box]]
        return values

    def volume(self, values: NDArray[np.floating]) -> Image:
        """Return a volume of the whole grid with these voxels in the brain, zero around."""
        whole = np.zeros(self.mask.shape, np.float32)
        whole[self.mask] = values
        return whole


def in_windows(function: Callable[[Tensor], Tensor], inputs: Tensor, edge: int) -> Tensor:
    """Blend what a network gives in overlapping cubes, with Gaussian weights.

    Parameters
    ----------
    function : callable
        From (1, C, e, e, e) to (1, D, e, e, e).
    inputs : Tensor, shape (1, C, X, Y, Z)
    edge : int
        e; the inputs are padded where they are smaller.
    """
    blended = sliding_window_inference(
        inputs, (edge,) * 3, 1, function, overlap=OVERLAP, mode='gaussian'
    )
    assert isinstance(blended, Tensor)
    return blended


def settle_device(device: str) -> tuple[torch.device, list[str]]:
    """Return the device to use, and a warning where it is not the one that was asked for."""
    if device != 'cpu' and not torch.cuda.is_available():
        return torch.device('cpu'), [f'PyTorch finds no GPU for the device {device}: used the CPU']
    return torch.device(device), []
