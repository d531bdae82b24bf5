"""3 × 3 × 3 convolutions of small inputs on the CPU, by the fast one of PyTorch's two ways."""

from typing import TypeVar

import torch
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
    same but for rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; (B, C, x, y, z)."""
        if not (_is_slow(input) and self._is_plain()):
            return super().forward(input)
        size = input.shape[2]
        half = (size + 1) // 2
        padded = functional.pad(input, (0, 0, 0, 0, 1, 1 + size % 2))
        halves = torch.cat([padded[:, :, : half + 2], padded[:, :, half:]])
        made = functional.conv3d(halves, self.weight, self.bias, padding=(0, 1, 1))
        return torch.cat([made[:1], made[1:]], 2)[:, :, :size]

    def _is_plain(self) -> bool:
        ones = (1, 1, 1)
        return (
            self.kernel_size == (3, 3, 3)
            and self.stride == self.padding == self.dilation == ones
            and self.groups == 1
            and self.padding_mode == 'zeros'
        )


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
    """Let all convolutions of a network be `Conv3d`; its weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
    return network
