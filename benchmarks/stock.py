"""Networks as their libraries make them, for the arms that ours is compared with."""

from torch import nn

from demist_app.model.convolution import Conv3d


def stock(network: nn.Module) -> None:
    """Give a network PyTorch's own convolutions back."""
    for module in network.modules():
        if type(module) is Conv3d:
            module.__class__ = nn.Conv3d
