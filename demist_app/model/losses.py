"""Losses of the paper's equations 1 and 2, term by term.

Every norm is a mean over elements, so that a weight means the same for every patch size; the
KL divergence alone is a sum over the latent (a mean over the batch), the convention that its
customary weights, 1e-7 and the like, belong to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from monai.losses.adversarial_loss import PatchAdversarialLoss
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor
from torch.nn import functional

from demist_app.model.diffusion import Schedule, convert, target
from demist_app.model.presets import LossPreset

Terms = dict[str, Tensor]
"""Terms by name, unweighted, and ``loss``, their weighted sum."""


def gradient(volume: Tensor) -> Tensor:
    """Differentiate by the 3D Sobel operator: a central difference, smoothed across.

    Written as sums of shifted volumes, because autocast would round a convolution's input.

    Parameters
    ----------
    volume : Tensor, shape (B, C, X, Y, Z)

    Returns
    -------
    Tensor, shape (B, C, 3, X - 2, Y - 2, Z - 2)
        Change per voxel along x, y and z, where all 27 voxels exist; 1 on a unit ramp.
    """
    across_z = _smooth(volume, -1)
    return torch.stack(
        [
            _smooth(_difference(across_z, -3), -2),
            _smooth(_difference(across_z, -2), -3),
            _smooth(_smooth(_difference(volume, -1), -2), -3),
        ],
        dim=2,
    )


def edge_loss(
    predicted: Tensor, target: Tensor, form: Literal['vector', 'magnitude'] = 'vector'
) -> Tensor:
    """Compare the gradients of two images: ‖∇û - ∇u‖₁ (equations 1 and 2).

    Parameters
    ----------
    predicted, target : Tensor, shape (B, C, X, Y, Z)
    form : {'vector', 'magnitude'}
        Compare gradients, as the paper does, or only their lengths.

    Returns
    -------
    Tensor, shape (B,)
        One mean per sample.
    """
    ours, theirs = gradient(predicted), gradient(target)
    if form == 'magnitude':
        # the square root has no derivative at 0, where most of the background is
        ours, theirs = ((g.square().sum(2) + 1e-12).sqrt() for g in (ours, theirs))
    return (ours - theirs).abs().flatten(1).mean(1)


def kl(mu: Tensor, sigma: Tensor) -> Tensor:
    """KL divergence of N(mu, diag sigma²) from N(0, I) (equation 1).

    Parameters
    ----------
    mu, sigma : Tensor, shape (B, L, x, y, z)

    Returns
    -------
    Tensor
        Sum over the latent, mean over the batch.
    """
    variance = sigma.square()
    return 0.5 * (mu.square() + variance - 2 * sigma.log() - 1).flatten(1).sum(1).mean()


def autoencoder_loss(
    image: Tensor,
    reconstruction: Tensor,
    mu: Tensor,
    sigma: Tensor,
    weights: LossPreset,
    judgement: Sequence[Tensor] | None = None,
) -> Terms:
    """Equation 1, for the autoencoder.

    Parameters
    ----------
    image, reconstruction : Tensor, shape (B, C, X, Y, Z)
        u and û.
    mu, sigma : Tensor, shape (B, L, x, y, z)
        Mean and standard deviation of the posterior q(z|u).
    weights : LossPreset
    judgement : sequence of Tensor, optional
        What the discriminator returns for `reconstruction`; without it there is no
        adversarial term.

    Returns
    -------
    dict
        ``reconstruction``, ``kl``, ``edge``, ``adversarial`` (if any) and ``loss``.
    """
    terms = {
        'reconstruction': functional.l1_loss(reconstruction, image),
        'kl': kl(mu, sigma),
        'edge': edge_loss(reconstruction, image).mean(),
    }
    loss = terms['reconstruction'] + weights.kl * terms['kl'] + weights.edge * terms['edge']
    if judgement is not None:
        terms['adversarial'] = _least_squares(judgement, real=True, for_discriminator=False)
        loss = loss + weights.adversarial * terms['adversarial']
    return terms | {'loss': loss}


def build_discriminator(image_channels: int, width: int) -> PatchDiscriminator:
    """Build the discriminator of equation 1's adversarial term.

    Parameters
    ----------
    image_channels : int
    width : int
        Channels after the first convolution; doubled by each of the three that follow.

    Notes
    -----
    Instance normalisation: a batch of one patch is the rule here.
    """
    return PatchDiscriminator(
        spatial_dims=3, in_channels=image_channels, channels=width, norm='INSTANCE'
    )


def discriminator_loss(of_image: Sequence[Tensor], of_reconstruction: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the discriminator [Mao et al., ICCV 2017, equation 9].

    Parameters
    ----------
    of_image, of_reconstruction : sequence of Tensor
        What the discriminator returns for u and for û, the latter detached from the autoencoder.
    """
    return 0.5 * (
        _least_squares(of_image, real=True, for_discriminator=True)
        + _least_squares(of_reconstruction, real=False, for_discriminator=True)
    )


def alignment_loss(
    mu_cond: Tensor, z_psr: Tensor, images: Tensor, reconstruction: Tensor, weights: LossPreset
) -> Terms:
    """Alignment term of equation 2, in the stage of its own in which E_cond trains.

    Means are aligned, not samples, whose noise no encoder can foretell; and the images are still
    to be reconstructed, without which the best z_c is the mean of z_y given the images.

    Parameters
    ----------
    mu_cond, z_psr : Tensor, shape (B, L, x, y, z)
        Normalised means of both posteriors.
    images, reconstruction : Tensor, shape (B, 2, X, Y, Z)
        T1w and FLAIR, and D_cond(mu_cond).
    weights : LossPreset

    Returns
    -------
    dict
        ``align``, ``reconstruction`` and ``loss``.
    """
    terms = {
        'align': functional.mse_loss(mu_cond, z_psr),
        'reconstruction': functional.l1_loss(reconstruction, images),
    }
    loss = weights.align * terms['align'] + weights.align_reconstruction * terms['reconstruction']
    return terms | {'loss': loss}


def diffusion_loss(
    prediction: Tensor,
    *,
    noisy: Tensor,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    schedule: Schedule,
    kind: str,
    weights: LossPreset,
    psr: Tensor | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Terms:
    """Equation 2 without its alignment term (see `alignment_loss`).

    The edge term is that of a random crop of each sample with t < ``weights.edge_max_step``,
    times ᾱ_t: a clean latent estimated from a noisier one is too wrong to have edges, and
    decoding the whole patch would cost more than the denoiser. Samples with a larger t count as
    zeros in its mean.

    Parameters
    ----------
    prediction : Tensor, shape (B, L, x, y, z)
        What the denoiser returned for `noisy`.
    noisy, clean, noise : Tensor, shape (B, L, x, y, z)
        z_t, z_y (normalised) and ε.
    t : Tensor of int64, shape (B,)
    schedule : Schedule
    kind : {'epsilon', 'x0', 'v'}
        What `prediction` is of.
    weights : LossPreset
    psr : Tensor, shape (B, 1, X, Y, Z), optional
        y, on the scale that `decode` returns; without it there is no edge term.
    decode : callable
        D_PSR, from normalised latents. It must not clip: a clipped voxel has no gradient.
    generator : torch.Generator
        Of the CPU; chooses the crops, three numbers per sample whatever its t.

    Returns
    -------
    dict
        ``noise`` (the squared error of the prediction), ``edge`` and ``loss``.
    """
    alpha_bar = schedule.per_sample(t, clean)
    wanted = target(clean, noise, alpha_bar, kind)
    terms = {'noise': functional.mse_loss(prediction.to(wanted), wanted)}
    if psr is None or decode is None:
        return terms | {'loss': terms['noise']}
    edge = clean.new_zeros(len(clean))
    places = torch.rand((len(clean), 3), generator=generator).tolist()
    crops = {
        i: Crop.at(places[i], clean.shape[2:], weights)
        for i, step in enumerate(t.tolist())
        if step < weights.edge_max_step
    }
    if crops:
        chosen, factor = list(crops), psr.shape[-1] // clean.shape[-1]
        estimate = convert(prediction, noisy, alpha_bar, kind).clean
        decoded = decode(torch.stack([crop.latent(estimate[i]) for i, crop in crops.items()]))
        decoded = crops[chosen[0]].decoded(decoded, factor)  # all crops have the same margin
        truth = torch.stack([crop.image(psr[i], factor) for i, crop in crops.items()])
        edge[chosen] = alpha_bar.flatten()[chosen].to(edge) * edge_loss(decoded.to(truth), truth)
    terms['edge'] = edge.mean()
    return terms | {'loss': terms['noise'] + weights.diffusion_edge * terms['edge']}


@dataclass(frozen=True)
class Crop:
    """Part of a latent that is decoded to be compared, but for a margin.

    Decoders pad with zeros, so that a crop's own border decodes to something else than the same
    place in a whole brain does (2 percentage points of PSR less, in the `small` preset): what is
    compared there teaches the encoder to make up for a border that is not there.

    Attributes
    ----------
    box : tuple of (int, int)
        Where the decoded part starts and stops on each axis.
    margin : tuple of int
        Latent voxels at both ends of each axis that are not compared.
    """

    box: tuple[tuple[int, int], ...]
    margin: tuple[int, ...]

    @classmethod
    def at(cls, place: Sequence[float], shape: Sequence[int], weights: LossPreset) -> 'Crop':
        """Put a crop `place` (0 to 1, both included) of the way along each axis of a latent."""
        sizes = [min(weights.edge_crop + 2 * weights.edge_margin, n) for n in shape]
        rooms = [n - size for n, size in zip(shape, sizes, strict=True)]
        starts = [min(int(p * (room + 1)), room) for p, room in zip(place, rooms, strict=True)]
        return cls(
            tuple((start, start + size) for start, size in zip(starts, sizes, strict=True)),
            tuple(min(weights.edge_margin, (size - 1) // 2) for size in sizes),
        )

    def latent(self, volume: Tensor) -> Tensor:
        """Cut out what is decoded; `volume` has any axes before the last three."""
        return _cut(volume, self.box, 1)

    def decoded(self, image: Tensor, factor: int) -> Tensor:
        """Cut the margin off what was decoded, `factor` times as fine."""
        ends = [(m, hi - lo - m) for (lo, hi), m in zip(self.box, self.margin, strict=True)]
        return _cut(image, ends, factor)

    def image(self, volume: Tensor, factor: int) -> Tensor:
        """Cut what `decoded` is compared with out of a whole image."""
        ends = [(lo + m, hi - m) for (lo, hi), m in zip(self.box, self.margin, strict=True)]
        return _cut(volume, ends, factor)


def _cut(volume: Tensor, box: Sequence[tuple[int, int]], factor: int) -> Tensor:
    x, y, z = (slice(factor * start, factor * stop) for start, stop in box)
    return volume[..., x, y, z]


def _difference(volume: Tensor, axis: int) -> Tensor:
    n = volume.shape[axis] - 2
    return (volume.narrow(axis, 2, n) - volume.narrow(axis, 0, n)) / 2


def _smooth(volume: Tensor, axis: int) -> Tensor:
    n = volume.shape[axis] - 2
    ends = volume.narrow(axis, 0, n) + volume.narrow(axis, 2, n)
    return (ends + 2 * volume.narrow(axis, 1, n)) / 4


def _least_squares(judgement: Sequence[Tensor], *, real: bool, for_discriminator: bool) -> Tensor:
    # the last of what the discriminator returns is its verdict, the others are features
    criterion = PatchAdversarialLoss(criterion='least_squares', no_activation_leastsq=True)
    loss = criterion(judgement[-1], target_is_real=real, for_discriminator=for_discriminator)
    assert isinstance(loss, Tensor)
    return loss
