"""Samplers against Gaussian data, for which denoiser and outcome are known in closed form."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from demist_app.model.diffusion import (
    PREDICTIONS,
    Denoised,
    convert,
    noise_like,
    scaled_linear,
    target,
    time_pairs,
)
from demist_app.model.presets import BRIDGE
from demist_app.model.samplers import SAMPLERS, ddim, ddpm, dpmpp_2m

SCHEDULE = scaled_linear()
MEAN, SD = 1.5, 0.6
STEPS = (1, 2, 4, 8, 50)
BETAS = {'schedule': 'scaled_linear_beta', 'beta_start': 0.0015, 'beta_end': 0.0195}
EVERY = SAMPLERS | {'ddim_half': partial(ddim, eta=0.5), 'ddim_one': partial(ddim, eta=1.0)}
ETA = {'ddpm': 1.0, 'ddim': 0.0, 'ddim_half': 0.5, 'ddim_one': 1.0}


def gain(alpha_bar):
    """Regression coefficient of x_0 on x_t for x_0 ~ N(MEAN, SD²)."""
    return math.sqrt(alpha_bar) * SD**2 / (alpha_bar * SD**2 + 1 - alpha_bar)


def expectation(noisy, t):
    """E[x_0 | x_t] and the noise it leaves."""
    alpha_bar = SCHEDULE.at(t)
    clean = MEAN + gain(alpha_bar) * (noisy - math.sqrt(alpha_bar) * MEAN)
    noise = (noisy - math.sqrt(alpha_bar) * clean) / math.sqrt(1 - alpha_bar)
    return Denoised(noise=noise, clean=clean)


def moments(name, pairs):
    """Mean and variance of the outcome from unit noise, by recursion.

    The state is written as offset + slope · x_T + independent noise of some variance; so is the
    clean latent that DPM-Solver++ remembers.
    """
    offset, slope, variance = 0.0, 1.0, 0.0
    memory = None
    for t, t_next in pairs:
        a, b = SCHEDULE.at(t), SCHEDULE.at(t_next)
        k = gain(a)
        c = MEAN * (1 - k * math.sqrt(a))  # E[x_0 | x_t] = c + k x_t
        clean = c + k * offset, k * slope
        if name == 'dpmpp_2m' and t_next >= 0:
            h = 0.5 * (math.log(b / (1 - b)) - math.log(a / (1 - a)))
            used = clean
            if memory is not None:
                ratio = memory[1] / h
                w = 1 / (2 * ratio)
                used = tuple((1 + w) * x - w * y for x, y in zip(clean, memory[0], strict=True))
            memory = clean, h
            stay, move = math.sqrt((1 - b) / (1 - a)), -math.sqrt(b) * math.expm1(-h)
            offset, slope = stay * offset + move * used[0], stay * slope + move * used[1]
        else:
            fresh = ETA.get(name, 0.0) ** 2 * (1 - b) / (1 - a) * (1 - a / b)
            direction = math.sqrt((1 - b - fresh) / (1 - a))
            stay = direction + (math.sqrt(b) - direction * math.sqrt(a)) * k
            move = (math.sqrt(b) - direction * math.sqrt(a)) * c
            offset, slope = stay * offset + move, stay * slope
            variance = stay**2 * variance + fresh
    return offset, slope**2 + variance


@pytest.mark.parametrize('n', STEPS)
@pytest.mark.parametrize('name', EVERY)
def test_moments_of_gaussian_data(name, n):
    pairs = time_pairs(1000, n)
    generator = torch.Generator().manual_seed(n)
    start = noise_like(torch.empty(20_000, dtype=torch.float64), generator)
    outcome = EVERY[name](expectation, start, pairs, SCHEDULE, generator)
    mean, variance = moments(name, pairs)
    assert outcome.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / 20_000))
    assert outcome.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / 20_000))


@pytest.mark.parametrize('n', STEPS)
@pytest.mark.parametrize('name', ['ddim', 'dpmpp_2m'])
def test_deterministic_samplers_are_affine_in_the_start(name, n):
    """Two starts give offset and slope without sampling error."""
    pairs = time_pairs(1000, n)
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    outcome = SAMPLERS[name](expectation, start, pairs, SCHEDULE, None)
    mean, variance = moments(name, pairs)
    assert outcome[0].item() == pytest.approx(mean, rel=1e-9)
    assert (outcome[1] - outcome[0]).item() ** 2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize('name', EVERY)
def test_more_steps_come_closer_to_the_data(name):
    outcomes = [moments(name, time_pairs(1000, n)) for n in (8, 50, 1000)]
    too_narrow = [SD - math.sqrt(variance) for _, variance in outcomes]
    assert too_narrow[0] > 2 * too_narrow[1] > 4 * too_narrow[2] > 0
    assert too_narrow[2] < 0.01
    # unit noise lacks the √ᾱ_T MEAN of the data noised to T, of which ODE solvers keep SD times
    for mean, _ in outcomes:
        assert abs(mean - MEAN) <= 1.01 * SD * math.sqrt(SCHEDULE.at(999)) * MEAN


def test_one_step_gives_the_mean_of_the_data():
    """E[x_0 | x_T] hardly depends on x_T, so one evaluation is a regression."""
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)
    for sampler in EVERY.values():
        outcome = sampler(expectation, start, time_pairs(1000, 1), SCHEDULE, None)
        torch.testing.assert_close(outcome, torch.full_like(outcome, MEAN), rtol=0, atol=0.05)


def reference(name, denoise, noisy, pairs, noises):
    """Textbook form in numpy: stepwise products of α, λ differences, explicit first orders."""
    alpha = 1 - np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    remembered = None
    for t, s in pairs:
        abar_t = np.prod(alpha[: t + 1])
        abar_s = np.prod(alpha[: s + 1])
        x0 = denoise(noisy, t)
        eps = (noisy - np.sqrt(abar_t) * x0) / np.sqrt(1 - abar_t)
        if name == 'ddpm':
            # product of the Gaussians q(x_t | x_s) and q(x_s | x_0)
            jump = np.prod(alpha[s + 1 : t + 1])
            if s == -1:
                noisy = x0
                continue
            precision = jump / (1 - jump) + 1 / (1 - abar_s)
            centre = np.sqrt(jump) * noisy / (1 - jump) + np.sqrt(abar_s) * x0 / (1 - abar_s)
            noisy = centre / precision + next(noises) / np.sqrt(precision)
        elif name in ('ddim', BRIDGE) or remembered is None or s == -1:
            remembered = x0, t
            noisy = np.sqrt(abar_s) * x0 + np.sqrt(1 - abar_s) * eps
        else:
            lam_r, lam_t, lam_s = (
                np.log(np.sqrt(a) / np.sqrt(1 - a))
                for a in (np.prod(alpha[: remembered[1] + 1]), abar_t, abar_s)
            )
            # x0 linear in λ through the last two evaluations, taken at the middle of the step
            middle = x0 + (x0 - remembered[0]) / (lam_t - lam_r) * (lam_s - lam_t) / 2
            sigma = np.sqrt(1 - abar_s)
            noisy = sigma / np.sqrt(1 - abar_t) * noisy + sigma * middle * (
                np.exp(lam_s) - np.exp(lam_t)
            )
            remembered = x0, t
    return noisy


@pytest.mark.parametrize('n', STEPS)
@pytest.mark.parametrize('name', SAMPLERS)
def test_equal_to_a_float64_reference(name, n):
    """With a denoiser that is neither linear nor exact."""
    pairs = time_pairs(1000, n)
    start = noise_like(torch.empty(64, dtype=torch.float64), torch.Generator().manual_seed(0))

    def crooked(x, t):
        clean = torch.tanh(1.3 * x + 0.001 * t)
        return convert(clean, x, SCHEDULE.at(t), 'x0')

    generator = torch.Generator().manual_seed(1)
    same = torch.Generator().manual_seed(1)
    noises = (noise_like(start, same).numpy() for _ in pairs)
    expected = reference(
        name, lambda x, t: np.tanh(1.3 * x + 0.001 * t), start.numpy(), pairs, noises
    )
    outcome = SAMPLERS[name](crooked, start, pairs, SCHEDULE, generator)
    np.testing.assert_allclose(outcome.numpy(), expected, rtol=1e-8, atol=1e-10)


def through(kind):
    """The exact denoiser, as a network that predicts `kind` would express it."""

    def denoise(noisy, t):
        exact = expectation(noisy, t)
        alpha_bar = SCHEDULE.at(t)
        return convert(target(exact.clean, exact.noise, alpha_bar, kind), noisy, alpha_bar, kind)

    return denoise


@pytest.mark.parametrize('kind', PREDICTIONS)
@pytest.mark.parametrize('name', SAMPLERS)
def test_parametrisation_does_not_matter(name, kind):
    start = torch.linspace(-3, 3, 7, dtype=torch.float64)
    direct, converted = (
        SAMPLERS[name](
            denoise, start, time_pairs(1000, 8), SCHEDULE, torch.Generator().manual_seed(0)
        )
        for denoise in (expectation, through(kind))
    )
    torch.testing.assert_close(converted, direct)


@pytest.mark.parametrize('n', STEPS)
def test_ddim_at_eta_1_is_ddpm(n):
    start = torch.linspace(-3, 3, 7, dtype=torch.float64)
    outcomes = [
        sampler(expectation, start, time_pairs(1000, n), SCHEDULE, torch.Generator().manual_seed(0))
        for sampler in (ddpm, partial(ddim, eta=1.0))
    ]
    torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize('eta', [0.0, 0.5])
@pytest.mark.parametrize('n', STEPS)
def test_steps_of_monai_ddim_on_our_pairs(n, eta):
    """MONAI 1.6 jumps by 1000 // n, which is right from our t, though not from its own."""
    theirs = DDIMScheduler(1000, clip_sample=False, **BETAS)
    theirs.set_timesteps(n)
    start = torch.linspace(-3, 3, 7)
    noisy, generator = start, torch.Generator().manual_seed(0)
    for t, _ in time_pairs(1000, n):
        noisy, _ = theirs.step(expectation(noisy, t).noise, t, noisy, eta=eta, generator=generator)
    ours = ddim(
        expectation,
        start,
        time_pairs(1000, n),
        SCHEDULE,
        torch.Generator().manual_seed(0),
        eta=eta,
    )
    torch.testing.assert_close(ours, noisy, rtol=1e-3, atol=1e-3)


def test_monai_ddpm_over_every_step():
    theirs = DDPMScheduler(1000, clip_sample=False, **BETAS)
    start = torch.linspace(-3, 3, 7)[:, None]
    noisy, generator = start, torch.Generator().manual_seed(0)
    for t in range(999, -1, -1):
        noisy, _ = theirs.step(expectation(noisy, t).noise, t, noisy, generator)
    ours = ddpm(
        expectation, start, time_pairs(1000, 1000), SCHEDULE, torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(ours, noisy, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', EVERY)
def test_warm_start_from_little_noise(name):
    """Data noised to t = 99 are brought back to the distribution of the data."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.empty(20_000, dtype=torch.float64)
    alpha_bar = SCHEDULE.at(99)
    data = MEAN + SD * noise_like(shape, generator)
    noisy = math.sqrt(alpha_bar) * data + math.sqrt(1 - alpha_bar) * noise_like(shape, generator)
    outcome = EVERY[name](expectation, noisy, time_pairs(100, 20), SCHEDULE, generator)
    assert outcome.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert outcome.std().item() == pytest.approx(SD, abs=0.02)


@pytest.mark.parametrize('sampler', [ddpm, partial(ddim, eta=0.5)])
def test_noise_follows_the_generator(sampler):
    start = torch.zeros(50)
    first, same, other = (
        sampler(
            expectation, start, time_pairs(1000, 4), SCHEDULE, torch.Generator().manual_seed(seed)
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_deterministic_samplers_leave_the_generator_alone():
    for sampler in (ddim, dpmpp_2m):
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        sampler(expectation, torch.zeros(5), time_pairs(1000, 4), SCHEDULE, generator)
        assert torch.equal(generator.get_state(), before)
