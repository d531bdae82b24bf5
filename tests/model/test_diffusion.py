import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.schedulers import DDPMScheduler

from demist_app.model.diffusion import (
    PREDICTIONS,
    add_noise,
    convert,
    noise_like,
    scaled_linear,
    target,
    time_pairs,
)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_schedule_is_that_of_monai():
    theirs = DDPMScheduler(1000, 'scaled_linear_beta', beta_start=0.0015, beta_end=0.0195)
    torch.testing.assert_close(
        scaled_linear().alpha_bar.float(), theirs.alphas_cumprod, rtol=2e-4, atol=0
    )


def test_schedule_by_hand():
    schedule = scaled_linear(3, 0.01, 0.09)  # √β = 0.1, 0.2, 0.3
    assert schedule.steps == 3
    expected = [0.99, 0.99 * 0.96, 0.99 * 0.96 * 0.91]
    assert [schedule.at(t) for t in (0, 1, 2)] == pytest.approx(expected)
    assert schedule.at(-1) == 1


def test_noise_at_the_last_step_is_almost_all_there_is():
    """With the printed α_t instead of ᾱ_t its SD would be 0.14."""
    clean = torch.full((1, 8, 16, 16, 16), 5.0)
    noisy = add_noise(scaled_linear(), clean, normal(0, *clean.shape), torch.tensor([999]))
    assert noisy.std().item() == pytest.approx(1, abs=0.02)


def test_every_sample_of_a_batch_has_its_own_step():
    schedule = scaled_linear()
    clean, noise = normal(0, 2, 8, 4, 4, 4), normal(1, 2, 8, 4, 4, 4)
    noisy = add_noise(schedule, clean, noise, torch.tensor([10, 700]))
    for sample, t in enumerate((10, 700)):
        alpha_bar = schedule.at(t)
        expected = math.sqrt(alpha_bar) * clean[sample] + math.sqrt(1 - alpha_bar) * noise[sample]
        torch.testing.assert_close(noisy[sample], expected)


@pytest.mark.parametrize('kind', PREDICTIONS)
@settings(deadline=None)
@given(t=st.lists(st.integers(0, 999), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_convert_inverts_target(kind, t, seed):
    schedule = scaled_linear()
    clean, noise = normal(seed, len(t), 2, 3, 3, 3), normal(seed + 100, len(t), 2, 3, 3, 3)
    alpha_bar = schedule.per_sample(torch.tensor(t), clean)
    noisy = add_noise(schedule, clean, noise, torch.tensor(t))
    parts = convert(target(clean, noise, alpha_bar, kind), noisy, alpha_bar, kind)
    torch.testing.assert_close(parts.clean, clean)
    torch.testing.assert_close(parts.noise, noise)


@pytest.mark.parametrize('kind', PREDICTIONS)
def test_parts_make_up_the_noisy_latent_whatever_was_predicted(kind):
    noisy, prediction = normal(0, 1, 2, 4, 4, 4), normal(1, 1, 2, 4, 4, 4)
    parts = convert(prediction, noisy, 0.3, kind)
    torch.testing.assert_close(math.sqrt(0.3) * parts.clean + math.sqrt(0.7) * parts.noise, noisy)


@pytest.mark.parametrize('kind', PREDICTIONS)
def test_half_precision_of_the_network_does_not_spread(kind):
    noisy = normal(0, 1, 2, 4, 4, 4, dtype=torch.float32)
    parts = convert(noisy.bfloat16(), noisy, torch.tensor([0.5], dtype=torch.float64), kind)
    assert parts.clean.dtype == parts.noise.dtype == torch.float32


def test_unknown_prediction_is_refused():
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match='choose from epsilon, x0, v'):
        convert(zero, zero, 0.5, 'eps')
    with pytest.raises(ValueError, match='choose from epsilon, x0, v'):
        target(zero, zero, 0.5, 'eps')


@settings(deadline=None)
@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(n, 1000), st.just(n))))
def test_pairs_lead_from_noise_to_data_in_equal_jumps(sizes):
    steps, n = sizes
    pairs = time_pairs(steps, n)
    assert len(pairs) == n
    assert pairs[0][0] == steps - 1
    assert pairs[-1][1] == -1
    assert all(first[1] == second[0] for first, second in pairwise(pairs))
    assert all(abs(t - t_next - steps / n) < 1 for t, t_next in pairs)
    assert all(t > t_next for t, t_next in pairs)


@pytest.mark.parametrize('n', [0, 11])
def test_impossible_number_of_steps_is_refused(n):
    with pytest.raises(ValueError, match='choose 1 to 10'):
        time_pairs(10, n)


def test_noise_follows_the_seed_and_the_type():
    latent = torch.empty(1, 8, 4, 4, 4)
    first, second = (noise_like(latent, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert noise_like(latent.double(), None).dtype == torch.float64
