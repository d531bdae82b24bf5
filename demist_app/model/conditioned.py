"""The conditional denoiser: a frozen backbone and the three streams (paper section 2.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from demist_app.model.adaptive import LowRank
from demist_app.model.denoiser import Site, Visit, attend, denoise, plain, sites
from demist_app.model.presets import StreamsPreset
from demist_app.model.semantic import Context, Semantic
from demist_app.model.spatial import Spatial


@dataclass(frozen=True)
class Conditioning:
    """C(z_c) of the paper, as far as it does not depend on the time step.

    Attributes
    ----------
    context : tuple of (Tensor, Tensor)
        Keys and values of the semantic tokens at every site; empty without that stream.
    hint : Tensor or None
        (B, C, x, y, z), gated conditional latent of the spatial stream.
    """

    context: Context
    hint: Tensor | None


class Conditioned(nn.Module):
    """The denoiser ε_θ(z_t, t; C(z_c)).

    Every stream starts as an exact identity: the network then is its backbone, which stays
    frozen.

    Parameters
    ----------
    backbone : nn.Module
        From `build_backbone`, with its final weights: the spatial stream starts from a copy.
    streams : StreamsPreset
        Streams that are not active are not built.
    latent_channels : int
        L of the paper.
    spacing_mm : float
        Edge of a latent voxel.
    """

    def __init__(
        self,
        backbone: nn.Module,
        streams: StreamsPreset,
        latent_channels: int = 8,
        spacing_mm: float = 4.0,
    ) -> None:
        super().__init__()
        self.semantic: Semantic | None = None
        self.spatial: Spatial | None = None
        self.adaptive: nn.ModuleDict | None = None
        places = sites(backbone)
        if 'semantic' in streams.active:
            self.semantic = Semantic(
                [site.channels for site in places],
                latent_channels,
                streams.token_channels,
                streams.token_pool,
                streams.token_heads,
                spacing_mm,
            )
        if 'spatial' in streams.active:
            self.spatial = Spatial(backbone, latent_channels)
        if 'adaptive' in streams.active:
            self.adaptive = nn.ModuleDict(
                {
                    str(index): LowRank(site.channels, streams.lora_rank, streams.lora_alpha)
                    for index, site in enumerate(places)
                    if site.attention is not None
                }
            )
        self.backbone = backbone.requires_grad_(False)

    def condition(self, z_c: Tensor, origin_mm: Tensor) -> Conditioning:
        """Prepare the conditioning of a brain or patch, once for all time steps.

        Parameters
        ----------
        z_c : Tensor
            (B, L, x, y, z) normalised latents of T1w and FLAIR.
        origin_mm : Tensor
            (B, 3), the corner of latent voxel (0, 0, 0) of each, mm from the centre of the brain
            grid.
        """
        return Conditioning(
            context=() if self.semantic is None else self.semantic(z_c, origin_mm),
            hint=None if self.spatial is None else self.spatial.hint(z_c),
        )

    def forward(self, noisy: Tensor, t: Tensor, conditioning: Conditioning | None) -> Tensor:
        """Predict noise, clean latent or velocity, whichever the network was trained for.

        Parameters
        ----------
        noisy : Tensor
            (B, L, x, y, z) noisy normalised latents.
        t : Tensor
            (B,) time steps.
        conditioning : Conditioning or None
            Of B brains, or of one for all draws; None runs the backbone alone.

        Returns
        -------
        Tensor
            (B, L, x, y, z).
        """
        if conditioning is None:
            return denoise(self.backbone, noisy, t)
        residuals = None
        if self.spatial is not None and conditioning.hint is not None:
            residuals = self.spatial(noisy, t, conditioning.hint)
        return denoise(self.backbone, noisy, t, self.visits(conditioning), residuals)

    def visits(self, conditioning: Conditioning) -> list[Visit]:
        """Return what the semantic and the adaptive stream do at each site of the backbone."""
        return [
            partial(self._visit, index, site, conditioning)
            for index, site in enumerate(sites(self.backbone))
        ]

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield every parameter of the active streams with the name of its stream."""
        for name in ('semantic', 'spatial', 'adaptive'):
            stream: nn.Module | None = getattr(self, name)
            if stream is not None:
                for parameter in stream.parameters():
                    yield name, parameter

    def merge(self) -> None:
        """Write the adaptive stream into the backbone's weights, once, for synthesis."""
        if self.adaptive is not None:
            for index, site in enumerate(sites(self.backbone)):
                if site.attention is not None:
                    update: Any = self.adaptive[str(index)]
                    update.merge(site.attention.attn)
            self.adaptive = None

    def _visit(self, index: int, site: Site, conditioning: Conditioning, hidden: Tensor) -> Tensor:
        if self.adaptive is not None and site.attention is not None:
            adapted = partial(self.adaptive[str(index)], attention=site.attention.attn)
            hidden = attend(site.attention, hidden, adapted)
        else:
            hidden = plain(site)(hidden)
        if self.semantic is not None:
            hidden = self.semantic.sites[index](hidden, conditioning.context[index])
        return hidden
