"""The spatial stream: a ControlNet between zero-initialised 1×1×1 gates (paper section 2.2)."""

import copy
from typing import Any

from torch import Tensor, nn

from demist_app.model.denoiser import embed_time, encode, plain, sites


class Spatial(nn.Module):
    """Trainable copy of the backbone's encoder half (Zhang et al., ICCV 2023).

    Parameters
    ----------
    backbone : nn.Module
        From `build_backbone`; its weights are copied.
    latent_channels : int
    """

    def __init__(self, backbone: nn.Module, latent_channels: int) -> None:
        super().__init__()
        net: Any = backbone
        for name in ('conv_in', 'time_embed', 'down_blocks', 'middle_block'):
            self.add_module(name, copy.deepcopy(getattr(net, name)).requires_grad_())
        first = net.block_out_channels[0]
        widths = [first]
        for block in net.down_blocks:
            width = block.resnets[-1].out_channels
            widths += [width] * (len(block.resnets) + (block.downsampler is not None))
        self.gate_in = _gate(latent_channels, first)
        self.gates_out = nn.ModuleList(_gate(width, width) for width in [*widths, widths[-1]])

    def hint(self, z_c: Tensor) -> Tensor:
        """Bring the conditional latent, (B, L, x, y, z), to the width of the first feature."""
        gated: Tensor = self.gate_in(z_c)
        return gated

    def forward(self, noisy: Tensor, t: Tensor, hint: Tensor) -> list[Tensor]:
        """Return the residuals of `denoise`, one for each skip and one for the middle feature.

        Parameters
        ----------
        noisy : Tensor
            (B, L, x, y, z).
        t : Tensor
            (B,).
        hint : Tensor
            From `hint`, for B or for 1.
        """
        net: Any = self
        hidden = net.conv_in(noisy) + hint
        visits = iter([plain(site) for site in sites(self)])
        middle, skips = encode(net, hidden, embed_time(net, t, hidden), visits)
        features = [*skips, middle]
        return [gate(feature) for gate, feature in zip(self.gates_out, features, strict=True)]


def _gate(inputs: int, outputs: int) -> nn.Conv3d:
    gate = nn.Conv3d(inputs, outputs, 1)
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)  # type: ignore[arg-type]
    return gate
