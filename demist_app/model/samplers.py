"""Samplers: pure functions from a noisy latent to a clean one, over explicit pairs of steps."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from demist_app.model.diffusion import Denoised, Schedule, noise_like
from demist_app.model.presets import BRIDGE

Denoise = Callable[[Tensor, int], Denoised]
"""Takes a noisy latent and its step t."""

Pairs = Iterable[tuple[int, int]]
"""(t, t_next) as `demist_app.model.diffusion.time_pairs` gives them."""

Sampler = Callable[[Denoise, Tensor, Pairs, Schedule, torch.Generator | None], Tensor]


def ddpm(
    denoise: Denoise,
    noisy: Tensor,
    pairs: Pairs,
    schedule: Schedule,
    generator: torch.Generator | None,
) -> Tensor:
    """Ancestral sampling: Algorithm 2 of Ho et al., NeurIPS 2020.

    Every step draws from the posterior q(z_s | z_t, z_0) (their equations 6 and 7, with the α of
    the whole jump from t to s), at the denoiser's clean latent.

    Parameters
    ----------
    denoise : callable
        From (z_t, t) to `Denoised`.
    noisy : Tensor, shape (B, L, x, y, z)
        z_t at the t of the first pair: unit noise, or a latent noised to t.
    pairs : iterable of (t, t_next)
    schedule : Schedule
    generator : torch.Generator or None
        Of the CPU, for the noise of the steps; None takes the global one.

    Returns
    -------
    Tensor
        Latent at the last t_next.
    """
    for t, t_next in pairs:
        now, after = schedule.at(t), schedule.at(t_next)
        alpha = now / after
        clean = denoise(noisy, t).clean
        noisy = (
            math.sqrt(after) * (1 - alpha) / (1 - now) * clean
            + math.sqrt(alpha) * (1 - after) / (1 - now) * noisy
        )
        if after < 1:
            variance = (1 - alpha) * (1 - after) / (1 - now)
            noisy = noisy + math.sqrt(variance) * noise_like(noisy, generator)
    return noisy


def ddim(
    denoise: Denoise,
    noisy: Tensor,
    pairs: Pairs,
    schedule: Schedule,
    generator: torch.Generator | None,
    eta: float = 0.0,
) -> Tensor:
    """Denoising diffusion implicit models: equations 12 and 16 of Song et al., ICLR 2021.

    Parameters
    ----------
    denoise, noisy, pairs, schedule, generator
        As for `ddpm`; the generator is not used at η = 0.
    eta : float
        η, the share of fresh noise: 0 is deterministic, 1 is `ddpm`.

    Returns
    -------
    Tensor
        Latent at the last t_next.
    """
    for t, t_next in pairs:
        now, after = schedule.at(t), schedule.at(t_next)
        variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        parts = denoise(noisy, t)
        noisy = math.sqrt(after) * parts.clean + math.sqrt(1 - after - variance) * parts.noise
        if variance > 0:
            noisy = noisy + math.sqrt(variance) * noise_like(noisy, generator)
    return noisy


def dpmpp_2m(
    denoise: Denoise,
    noisy: Tensor,
    pairs: Pairs,
    schedule: Schedule,
    generator: torch.Generator | None,  # noqa: ARG001 - deterministic
) -> Tensor:
    """DPM-Solver++(2M): Algorithm 2 of Lu et al., arXiv 2211.01095.

    The first step has no history and a step to t_next = -1 has no finite λ: both are of first
    order, which is `ddim`.

    Parameters
    ----------
    denoise, noisy, pairs, schedule, generator
        As for `ddpm`; the generator is not used.

    Returns
    -------
    Tensor
        Latent at the last t_next.
    """
    previous: tuple[Tensor, float] | None = None
    for t, t_next in pairs:
        now, after = schedule.at(t), schedule.at(t_next)
        clean = denoise(noisy, t).clean
        if after == 1:
            return clean
        h = _half_log_snr(after) - _half_log_snr(now)
        estimate = clean
        if previous is not None:
            earlier, h_earlier = previous
            estimate = clean + h / (2 * h_earlier) * (clean - earlier)
        noisy = (
            math.sqrt((1 - after) / (1 - now)) * noisy
            - math.sqrt(after) * math.expm1(-h) * estimate
        )
        previous = clean, h
    return noisy


SAMPLERS: dict[str, Sampler] = {'ddpm': ddpm, 'ddim': ddim, 'dpmpp_2m': dpmpp_2m, BRIDGE: ddim}
"""By the name a preset gives."""


def _half_log_snr(alpha_bar: float) -> float:
    """Return λ = log(√ᾱ / √(1 - ᾱ)) of Lu et al."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))
