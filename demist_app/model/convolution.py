"""Convolutions on the CPU with fewer operations or faster ones than PyTorch's own."""

from itertools import product
from typing import TypeVar

import torch
from monai.networks.blocks import UpSample
from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar('Network', bound=nn.Module)

_FAST = 20_480
"""Beyond so many channels times its first two sizes, a single sample goes to oneDNN."""


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, which halves a single small sample along its first axis.

    In float32 PyTorch (``ConvParams::use_mkldnn`` of its Convolution.cpp) computes a single sample
    by oneDNN if it is large, and else by a loop that takes two to seven times as long; two samples
    always go to oneDNN. The halves overlap by what the kernel reaches, so that the result is the
    same but for rounding. A kernel of one voxel is a product of matrices, for which that loop would
    copy channels that come last.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; (B, C, x, y, z)."""
        if input.device.type == 'cpu' and _is_last(input) and self._is_plain(1, 0):
            voxels = input.permute(0, 2, 3, 4, 1)
            made = functional.linear(voxels, self.weight.flatten(1), self.bias)
            return made.permute(0, 4, 1, 2, 3)
        if not (_is_slow(input) and self._is_plain(3, 1)):
            return super().forward(input)
        size = input.shape[2]
        half = (size + 1) // 2
        padded = functional.pad(input, (0, 0, 0, 0, 1, 1 + size % 2))
        halves = torch.cat([padded[:, :, : half + 2], padded[:, :, half:]])
        made = functional.conv3d(halves, self.weight, self.bias, padding=(0, 1, 1))
        return torch.cat([made[:1], made[1:]], 2)[:, :, :size]

    def _is_plain(self, edge: int, padding: int) -> bool:
        ones = (1, 1, 1)
        return (
            self.kernel_size == (edge,) * 3
            and self.padding == (padding,) * 3
            and self.stride == self.dilation == ones
            and self.groups == 1
            and self.padding_mode == 'zeros'
        )


class DoublingConv3d(Conv3d):
    """Nearest-neighbour doubling and the convolution after it, at once where no gradient is kept.

    Along an axis a voxel of the doubled volume and its two neighbours are copies of only two voxels
    of the small one. So the 27 weights act as 8, which differ between even and odd voxels: eight
    2 × 2 × 2 convolutions of the small volume take 3.4 times fewer operations than the large one
    and give the same but for rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Double and convolve; from (B, C, x, y, z) to (B, C', 2x, 2y, 2z)."""
        at_once = input.device.type == 'cpu' and not torch.is_grad_enabled()
        if not at_once or _is_slow(input) or not self._is_plain(3, 1):
            return super().forward(functional.interpolate(input, scale_factor=2.0, mode='nearest'))
        sizes = input.shape[2:]
        padded = functional.pad(input, (1,) * 6)
        doubled: Tensor | None = None
        for odd in product((False, True), repeat=3):
            weight = self.weight
            for axis in range(3):
                weight = _paired(weight, axis + 2, odd[axis])
            x, y, z = (slice(int(o), int(o) + n + 1) for o, n in zip(odd, sizes, strict=True))
            part = functional.conv3d(padded[:, :, x, y, z], weight, self.bias)
            if doubled is None:
                doubled = torch.empty(
                    (*part.shape[:2], *(2 * n for n in sizes)),
                    dtype=part.dtype,
                    memory_format=torch.channels_last_3d if _is_last(part) else None,
                )
            x, y, z = (slice(int(o), None, 2) for o in odd)
            doubled[:, :, x, y, z] = part
        assert doubled is not None
        return doubled


class Undoubled(nn.Upsample):
    """`torch.nn.Upsample` that leaves its work to the `DoublingConv3d` after it."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what it gets."""
        return input


def _paired(weight: Tensor, axis: int, odd: bool) -> Tensor:
    """Return the two weights that three are along an axis of copied voxels."""
    before, here, after = weight.split(1, axis)
    return torch.cat([before + here, after] if odd else [before, here + after], axis)


def _is_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last_3d)


def _is_slow(images: Tensor) -> bool:
    return (
        images.device.type == 'cpu'
        and images.dtype == torch.float32
        and len(images) == 1
        and images.shape[2] > 1
        and images.shape[1:4].numel() <= _FAST
        and not torch.is_autocast_enabled('cpu')
    )


def quick(network: Network) -> Network:
    """Let all convolutions of a network be those of this module; its weights and names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
        elif isinstance(module, UpSample):
            doubling = getattr(module, 'upsample_non_trainable', None)
            convolution = getattr(getattr(module, 'postconv', None), 'conv', None)
            if _doubles(doubling) and type(convolution) in (nn.Conv3d, Conv3d):
                doubling.__class__ = Undoubled
                convolution.__class__ = DoublingConv3d
    return network


def _doubles(module: nn.Module | None) -> bool:
    return (
        type(module) is nn.Upsample
        and module.mode == 'nearest'
        and module.size is None
        and module.scale_factor in (2, (2.0, 2.0, 2.0))
    )
