"""The semantic stream: cross-attention to tokens of the conditional latent (paper section 2.2)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Context = tuple[tuple[Tensor, Tensor], ...]

# from twice the distance between two tokens (4 latent voxels of 4 mm) to more than any brain
SHORTEST_MM, LONGEST_MM = 32.0, 512.0


def positional_code(centres: Sequence[Tensor], channels: int) -> Tensor:
    """Sinusoidal code of the points of a 3D grid.

    The code depends on millimetres alone, so that a patch has the codes of the volume that it
    was cut from.

    Parameters
    ----------
    centres : sequence of 3 Tensor
        (B, nx), (B, ny) and (B, nz): coordinates along each axis, mm.
    channels : int
        A multiple of 6: sine and cosine of as many wavelengths along three axes.

    Returns
    -------
    Tensor
        (B, channels, nx, ny, nz).
    """
    count = channels // 6
    exponents = torch.linspace(0, 1, count, device=centres[0].device)
    rates = 2 * math.pi / (SHORTEST_MM * (LONGEST_MM / SHORTEST_MM) ** exponents)
    batch, shape = len(centres[0]), [axis.shape[1] for axis in centres]
    codes = []
    for axis, along in enumerate(centres):
        angles = along[:, None, :] * rates[:, None]
        code = torch.cat([angles.sin(), angles.cos()], dim=1)
        view = [batch, 2 * count, 1, 1, 1]
        view[2 + axis] = shape[axis]
        codes.append(code.view(view).expand(batch, 2 * count, *shape))
    return torch.cat(codes, dim=1)


class CrossAttention(nn.Module):
    """Attention from a hidden feature of the backbone to the tokens, added to the feature.

    The output projection starts at zero: the module is an exact identity.

    Parameters
    ----------
    channels : int
        Width of the hidden feature; a multiple of `heads`.
    token_channels : int
    heads : int
    """

    def __init__(self, channels: int, token_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.to_query = nn.Linear(channels, channels, bias=False)
        self.to_key = nn.Linear(token_channels, channels, bias=False)
        self.to_value = nn.Linear(token_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def context(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project (B, N, token_channels) to keys and values, (B, heads, N, channels / heads)."""
        return self._split(self.to_key(tokens)), self._split(self.to_value(tokens))

    def forward(self, hidden: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        """Return the feature, (B, C, x, y, z), with what it attends to; the context may be of 1."""
        query = self._split(self.to_query(self.norm(hidden.flatten(2).transpose(1, 2))))
        key, value = (part.expand(len(query), -1, -1, -1) for part in context)
        attended = functional.scaled_dot_product_attention(query, key, value)
        update: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return hidden + update.transpose(1, 2).reshape(hidden.shape)

    def _split(self, projected: Tensor) -> Tensor:
        heads: Tensor = projected.unflatten(-1, (self.heads, -1))
        return heads.transpose(1, 2)


class Semantic(nn.Module):
    """Tokens of the conditional latent and their cross-attention at every site.

    Parameters
    ----------
    widths : sequence of int
        Width of the hidden feature at each site.
    latent_channels : int
    token_channels : int
        d of the paper; a multiple of 6.
    pool : int
        Edge, in latent voxels, of the cubes whose mean becomes one token.
    heads : int
    spacing_mm : float
        Edge of a latent voxel.
    """

    def __init__(
        self,
        widths: Sequence[int],
        latent_channels: int,
        token_channels: int,
        pool: int,
        heads: int,
        spacing_mm: float,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.spacing_mm = spacing_mm
        self.project = nn.Conv3d(latent_channels, token_channels, 1)
        self.sites = nn.ModuleList(CrossAttention(width, token_channels, heads) for width in widths)

    def tokens(self, z_c: Tensor, origin_mm: Tensor) -> Tensor:
        """Return the token sequence C of the paper.

        Parameters
        ----------
        z_c : Tensor
            (B, L, x, y, z), sizes multiples of `pool`.
        origin_mm : Tensor
            (B, 3), the corner of latent voxel (0, 0, 0), mm from the centre of the brain grid.

        Returns
        -------
        Tensor
            (B, N, token_channels).
        """
        # the projection and the mean commute: pooled first, it costs pool³ times less
        projected: Tensor = self.project(functional.avg_pool3d(z_c, self.pool))
        edge = self.pool * self.spacing_mm
        centres = [
            origin_mm[:, axis, None] + (torch.arange(n, device=z_c.device) + 0.5) * edge
            for axis, n in enumerate(projected.shape[2:])
        ]
        coded = projected + positional_code(centres, projected.shape[1])
        return coded.flatten(2).transpose(1, 2)

    def forward(self, z_c: Tensor, origin_mm: Tensor) -> Context:
        """Return keys and values for every site; independent of the time step."""
        tokens = self.tokens(z_c, origin_mm)
        sites: Any = self.sites
        return tuple(site.context(tokens) for site in sites)
