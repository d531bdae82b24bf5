"""Noise schedule, parametrisation and time grid of the diffusion (paper section 2.1, stage 2)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

PREDICTIONS = ('epsilon', 'x0', 'v')
"""What a denoiser may be trained to predict."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the clean latent is left at every step.

    Attributes
    ----------
    alpha_bar : Tensor of float64, shape (T,)
        ᾱ_t of the paper, the variance of z_t that stems from the clean latent; decreasing.
    """

    alpha_bar: Tensor

    @property
    def steps(self) -> int:
        """T of the paper."""
        return len(self.alpha_bar)

    def at(self, t: int) -> float:
        """Return ᾱ_t; 1 at t = -1, where no noise is left."""
        return 1.0 if t == -1 else float(self.alpha_bar[t])

    def per_sample(self, t: Tensor, like: Tensor) -> Tensor:
        """Return ᾱ for a batch whose samples are at different steps.

        Parameters
        ----------
        t : Tensor of int64, shape (B,)
            0 to T - 1.
        like : Tensor, shape (B, ...)
            What ᾱ shall broadcast with.

        Returns
        -------
        Tensor of float64, shape (B, 1, ...)
            On the device of `like`.
        """
        return self.alpha_bar[t.cpu()].to(like.device).view(-1, *[1] * (like.ndim - 1))


def scaled_linear(
    steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195
) -> Schedule:
    """Return the schedule whose √β is linear in t (Rombach et al., CVPR 2022).

    The defaults are those of the MONAI bundle ``brats_mri_generative_diffusion``.

    Parameters
    ----------
    steps : int
        T.
    beta_start, beta_end : float
        β_0 and β_{T-1}.
    """
    root = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    return Schedule(torch.cumprod(1 - root**2, dim=0))


@dataclass(frozen=True, eq=False)
class Denoised:
    """The two parts a noisy latent is thought to consist of, each of the latent's shape.

    Attributes
    ----------
    noise : Tensor
        ε̂, unit variance.
    clean : Tensor
        ẑ_y.
    """

    noise: Tensor
    clean: Tensor


def add_noise(schedule: Schedule, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return z_t = √ᾱ_t z_y + √(1 - ᾱ_t) ε.

    The paper's formula in section 2.1 prints α_t; its text defines the process with ᾱ_t.

    Parameters
    ----------
    schedule : Schedule
    clean, noise : Tensor, shape (B, L, x, y, z)
    t : Tensor of int64, shape (B,)
        0 to T - 1.
    """
    signal, sigma = _amplitudes(schedule.per_sample(t, clean), clean)
    return signal * clean + sigma * noise


def bridge_noise(schedule: Schedule, clean: Tensor, estimate: Tensor, start: int) -> Tensor:
    """Return the noise by which a diffusion of the clean latent ends at an estimate of it.

    ε' = (ẑ - z_y) √ᾱ_s / √(1 - ᾱ_s): with it `add_noise` gives, at the step s, √ᾱ_s ẑ and no noise,
    and on the way there what lies between both (inversion by direct iteration: Delbracio and
    Milanfar, TMLR 2023). Samplers that start from √ᾱ_s ẑ so find the states that the network was
    trained on.

    Parameters
    ----------
    schedule : Schedule
    clean, estimate : Tensor, shape (B, L, x, y, z)
        z_y and ẑ.
    start : int
        s.
    """
    signal, sigma = _amplitudes(schedule.at(start), clean)
    return (estimate - clean) * signal / sigma


def target(clean: Tensor, noise: Tensor, alpha_bar: Tensor | float, kind: str) -> Tensor:
    """Return what the network has to predict from √ᾱ clean + √(1 - ᾱ) noise.

    Parameters
    ----------
    clean, noise : Tensor
    alpha_bar : Tensor or float
        Broadcast against `clean`; see `Schedule.per_sample`.
    kind : str
        One of `PREDICTIONS`; ``v`` = √ᾱ noise - √(1 - ᾱ) clean (Salimans and Ho, ICLR 2022).

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    signal, sigma = _amplitudes(alpha_bar, clean)
    if kind == 'epsilon':
        return noise
    if kind == 'x0':
        return clean
    if kind == 'v':
        return signal * noise - sigma * clean
    raise _unknown(kind)


def convert(prediction: Tensor, noisy: Tensor, alpha_bar: Tensor | float, kind: str) -> Denoised:
    """Turn the network's output into noise and clean latent: the inverse of `target`.

    Parameters
    ----------
    prediction : Tensor
        Output of the network; brought to the type of `noisy`, which mixed precision keeps finer.
    noisy : Tensor
        What the network was given.
    alpha_bar : Tensor or float
        Below 1, broadcast against `noisy`; see `Schedule.per_sample`.
    kind : str
        One of `PREDICTIONS`.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    signal, sigma = _amplitudes(alpha_bar, noisy)
    prediction = prediction.to(noisy.dtype)
    if kind == 'epsilon':
        return Denoised(noise=prediction, clean=(noisy - sigma * prediction) / signal)
    if kind == 'x0':
        return Denoised(noise=(noisy - signal * prediction) / sigma, clean=prediction)
    if kind == 'v':
        return Denoised(
            noise=signal * prediction + sigma * noisy, clean=signal * noisy - sigma * prediction
        )
    raise _unknown(kind)


def time_pairs(steps: int, n: int) -> tuple[tuple[int, int], ...]:
    """Cut the way from pure noise to the clean latent into n evaluations of the denoiser.

    Every pair starts where the one before ended and all jumps are equal but for rounding. (Grids
    that end at t = 0, or that take t - T // n for the next step, leave noise behind or skip some
    when n is small.) ``time_pairs(t + 1, n)`` starts at a smaller t, from a latent noised to t.

    Parameters
    ----------
    steps : int
        T, one more than the first t.
    n : int
        1 to `steps`.

    Returns
    -------
    tuple of (t, t_next)
        Decreasing; the last t_next is -1, where ᾱ = 1.

    Raises
    ------
    ValueError
        If there cannot be n different steps.

    Examples
    --------
    >>> time_pairs(1000, 4)
    ((999, 749), (749, 499), (499, 249), (249, -1))
    """
    if not 1 <= n <= steps:
        raise ValueError(f'{n} sampling steps were asked for: choose 1 to {steps}')
    times = [steps - 1 - round(i * steps / n) for i in range(n + 1)]
    return tuple(pairwise(times))


def noise_like(latent: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw unit Gaussian noise of a latent's shape, type and device.

    Drawn on the CPU, so that a seed gives the same map on every device.

    Parameters
    ----------
    latent : Tensor
    generator : torch.Generator or None
        Of the CPU; None takes the global one.
    """
    return torch.randn(latent.shape, generator=generator, dtype=latent.dtype).to(latent.device)


def _amplitudes(alpha_bar: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return √ᾱ and √(1 - ᾱ), rounded to the type of `like` only after the subtraction."""
    exact = torch.as_tensor(alpha_bar, dtype=torch.float64)
    return exact.sqrt().to(like), (1 - exact).sqrt().to(like)


def _unknown(kind: str) -> ValueError:
    return ValueError(f'unknown prediction {kind!r}: choose from {", ".join(PREDICTIONS)}')
