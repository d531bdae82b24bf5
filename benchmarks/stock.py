"""Networks as their libraries make them, for the arms that ours is compared with."""

from torch import nn

from demist_app.model.convolution import Conv3d, DoublingConv3d, Undoubled


def stock(network: nn.Module) -> None:
    """Give a network PyTorch's own convolutions and doublings back."""
    for module in network.modules():
        if type(module) in (Conv3d, DoublingConv3d):
            module.__class__ = nn.Conv3d
        elif type(module) is Undoubled:
            module.__class__ = nn.Upsample
