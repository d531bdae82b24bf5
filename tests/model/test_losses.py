import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from demist_app.model.diffusion import PREDICTIONS, Schedule, add_noise, scaled_linear, target
from demist_app.model.losses import (
    Crop,
    alignment_loss,
    autoencoder_loss,
    build_discriminator,
    diffusion_loss,
    discriminator_loss,
    edge_loss,
    gradient,
    kl,
)
from demist_app.model.presets import LossPreset

WEIGHTS = LossPreset(
    kl=0.5,
    edge=3.0,
    adversarial=7.0,
    align=2.0,
    align_reconstruction=5.0,
    diffusion_edge=11.0,
    edge_max_step=2,
    edge_crop=2,
    edge_margin=0,
)


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ramp(slopes, shape=(5, 6, 7)):
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing='ij')
    return sum(s * axis for s, axis in zip(slopes, axes, strict=True))[None, None]


@settings(deadline=None)
@given(st.tuples(*[st.integers(-9, 9)] * 3))
def test_gradient_of_a_ramp_is_its_slope(slopes):
    found = gradient(ramp(slopes))
    assert found.shape == (1, 1, 3, 3, 4, 5)
    expected = torch.tensor(slopes, dtype=torch.float64).view(1, 1, 3, 1, 1, 1)
    torch.testing.assert_close(found, expected.expand_as(found))


def test_gradient_is_the_textbook_sobel_of_every_channel():
    volume = normal(0, 2, 2, 6, 5, 7)
    smooth, difference = torch.tensor([1, 2, 1.0]) / 4, torch.tensor([-1, 0, 1.0]) / 2
    for axis in range(3):
        factors = [difference if i == axis else smooth for i in range(3)]
        kernel = torch.einsum('x,y,z->xyz', *factors).double().expand(2, 1, 3, 3, 3)
        expected = functional.conv3d(volume, kernel, groups=2)
        torch.testing.assert_close(gradient(volume)[:, :, axis], expected)


def test_edges_by_hand():
    zero = torch.zeros(1, 1, 5, 5, 5, dtype=torch.float64)
    steep = torch.cat([zero, ramp((3, 0, 4), (5, 5, 5))])
    flat = torch.zeros_like(steep)
    # components 3, 0, 4; length 5
    assert edge_loss(steep, flat).tolist() == pytest.approx([0, 7 / 3])
    assert edge_loss(steep, flat, 'magnitude').tolist() == pytest.approx([0, 5], abs=1e-5)
    # a mirrored edge has the same length, but is another edge
    assert edge_loss(steep, -steep)[1] == pytest.approx(14 / 3)
    assert edge_loss(steep, -steep, 'magnitude')[1] == 0


def test_edges_of_a_flat_background_have_a_finite_derivative():
    flat = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    edge_loss(flat, torch.rand(1, 1, 4, 4, 4), 'magnitude').sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_kl_by_hand_and_by_torch():
    ones = torch.ones(2, 1, 1, 1, 1, dtype=torch.float64)
    assert kl(0 * ones, ones) == 0
    assert kl(3 * ones, ones) == pytest.approx(4.5)
    assert kl(0 * ones, math.e * ones) == pytest.approx(0.5 * (math.e**2 - 3))
    mu, sigma = normal(1, 2, 3, 4, 4, 4), normal(2, 2, 3, 4, 4, 4).abs() + 0.1
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, sigma), torch.distributions.Normal(0.0, 1.0)
    )
    assert kl(mu, sigma) == pytest.approx(theirs.sum() / 2)


def test_autoencoder_terms_by_hand():
    image = ramp((0, 1, 0), (4, 4, 4))
    reconstruction = ramp((0, 2, 0), (4, 4, 4))
    mu, sigma = torch.full((1, 2, 1, 1, 1), 2.0), torch.ones(1, 2, 1, 1, 1)
    terms = autoencoder_loss(image, reconstruction, mu, sigma, WEIGHTS)
    assert terms.keys() == {'reconstruction', 'kl', 'edge', 'loss'}
    assert terms['reconstruction'] == 1.5  # mean of 0, 1, 2, 3
    assert terms['kl'] == 4  # two latents, 2² / 2 each
    assert terms['edge'] == pytest.approx(1 / 3)
    assert terms['loss'] == pytest.approx(1.5 + 0.5 * 4 + 3.0 / 3)

    judgement = [torch.full((1, 4), 99.0), torch.tensor([0.0, 3.0])]
    judged = autoencoder_loss(image, reconstruction, mu, sigma, WEIGHTS, judgement)
    assert judged['adversarial'] == 2.5  # ((0 - 1)² + (3 - 1)²) / 2, features do not count
    assert judged['loss'] == pytest.approx(terms['loss'] + 7 * 2.5)


def test_discriminator_wants_one_for_images_and_zero_for_reconstructions():
    features = torch.full((1, 4), 99.0)
    of_image, of_reconstruction = torch.tensor([0.0, 3.0]), torch.tensor([-2.0, 0.0])
    loss = discriminator_loss([features, of_image], [features, of_reconstruction])
    assert loss == 0.5 * (2.5 + 2)
    assert discriminator_loss([torch.ones(2)], [torch.zeros(2)]) == 0


def test_discriminator_learns_to_tell_two_images_apart():
    torch.manual_seed(0)
    network = build_discriminator(1, 4)
    real, fake = torch.rand(1, 1, 24, 24, 24), torch.zeros(1, 1, 24, 24, 24)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(20):
        loss = discriminator_loss(network(real), network(fake))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05  # not knowing costs 0.25


def test_alignment_terms_by_hand():
    ones = torch.ones(1, 2, 2, 2, 2)
    terms = alignment_loss(3 * ones, ones, ones, 0.5 * ones, WEIGHTS)
    assert terms.keys() == {'align', 'reconstruction', 'loss'}
    assert terms['align'] == 4
    assert terms['reconstruction'] == 0.5
    assert terms['loss'] == 2 * 4 + 5 * 0.5


def upsample(latent):
    """Decode to twice the resolution."""
    return latent[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)


def diffusion(prediction, clean, noise, t, kind, weights=WEIGHTS, **kwargs):
    schedule = scaled_linear()
    given = {
        'noisy': add_noise(schedule, clean, noise, t),
        'psr': upsample(clean),
        'decode': upsample,
        'generator': torch.Generator().manual_seed(0),
    }
    return diffusion_loss(
        prediction,
        clean=clean,
        noise=noise,
        t=t,
        schedule=schedule,
        kind=kind,
        weights=weights,
        **given | kwargs,
    )


@pytest.mark.parametrize('kind', PREDICTIONS)
def test_the_right_prediction_costs_nothing(kind):
    clean, noise, t = normal(1, 3, 2, 4, 4, 4), normal(2, 3, 2, 4, 4, 4), torch.tensor([0, 1, 900])
    prediction = target(clean, noise, scaled_linear().per_sample(t, clean), kind)
    terms = diffusion(prediction, clean, noise, t, kind)
    assert terms.keys() == {'noise', 'edge', 'loss'}
    assert terms['loss'] == pytest.approx(0, abs=1e-12)
    off = diffusion(prediction + 2, clean, noise, t, kind)
    assert off['noise'] == pytest.approx(4)


def test_edge_term_by_hand():
    # two steps, ᾱ = 0.81 and 0.25; only the first is below edge_max_step
    schedule = Schedule(torch.tensor([0.81, 0.25], dtype=torch.float64))
    weights = LossPreset(diffusion_edge=11.0, edge_max_step=1, edge_crop=3, edge_margin=0)
    clean, t = torch.zeros(2, 1, 5, 5, 5, dtype=torch.float64), torch.tensor([1, 0])
    prediction = ramp((0, 0, 6), (5, 5, 5)).expand(2, 1, 5, 5, 5)
    terms = diffusion_loss(
        prediction,
        noisy=torch.zeros_like(clean),
        clean=clean,
        noise=torch.zeros_like(clean),
        t=t,
        schedule=schedule,
        kind='x0',
        weights=weights,
        psr=clean,
        decode=lambda latent: latent,
        generator=torch.Generator().manual_seed(0),
    )
    # a slope of 6 along one of three axes, times ᾱ, in one of two samples
    assert terms['edge'] == pytest.approx(0.81 * 2 / 2)
    assert terms['loss'] == pytest.approx(terms['noise'] + 11 * 0.81)


def test_the_crop_is_cut_from_the_same_place_of_latent_and_map():
    clean, t = normal(3, 4, 2, 6, 5, 4), torch.zeros(4, dtype=torch.int64)
    seen = []

    def decode(latent):
        seen.append(latent)
        return upsample(latent)

    terms = diffusion(clean, clean, normal(4, *clean.shape), t, 'x0', decode=decode)
    assert [crop.shape for crop in seen] == [(4, 2, 2, 2, 2)]
    assert terms['edge'] == 0
    elsewhere = diffusion(clean, clean, 0 * clean, t, 'x0', psr=upsample(clean.flip(2)))
    assert elsewhere['edge'] > 0.1


def test_noisy_samples_are_not_decoded_and_crops_do_not_depend_on_t():
    clean = normal(5, 2, 1, 8, 8, 8)

    def crops_at(*steps):
        generator, seen = torch.Generator().manual_seed(7), []
        diffusion(
            clean,
            clean,
            0 * clean,
            torch.tensor(steps),
            'x0',
            decode=lambda latent: seen.append(latent) or upsample(latent),
            generator=generator,
        )
        return seen, generator.get_state()

    (both,), state = crops_at(0, 1)
    (second,), state_of_one = crops_at(900, 1)
    none, state_of_none = crops_at(900, 2)
    assert not none
    torch.testing.assert_close(second, both[1:])
    assert torch.equal(state, state_of_one)
    assert torch.equal(state, state_of_none)


def test_a_patch_smaller_than_the_crop_is_decoded_whole():
    clean = normal(6, 1, 1, 4, 2, 4)
    weights = LossPreset(edge_crop=3, edge_margin=0)
    seen = []
    diffusion(
        clean,
        clean,
        0 * clean,
        torch.tensor([0]),
        'x0',
        weights,
        decode=lambda latent: seen.append(latent) or upsample(latent),
    )
    assert seen[0].shape == (1, 1, 3, 2, 3)


def test_gradient_flows_to_the_prediction_through_the_decoder():
    clean, noise, t = normal(7, 2, 1, 6, 6, 6), normal(8, 2, 1, 6, 6, 6), torch.tensor([0, 900])
    prediction = normal(9, *clean.shape).requires_grad_()
    diffusion(prediction, clean, noise, t, 'v')['edge'].backward()
    assert prediction.grad[0].abs().max() > 0
    assert prediction.grad[1].abs().max() == 0


def test_without_a_map_there_is_no_edge_term():
    clean, t = normal(10, 1, 1, 4, 4, 4), torch.tensor([0])
    terms = diffusion(clean + 3, clean, 0 * clean, t, 'x0', psr=None, decode=None)
    assert terms.keys() == {'noise', 'loss'}
    assert terms['loss'] == terms['noise'] == pytest.approx(9)


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.integers(1, 4),
    st.integers(0, 3),
)
@example((2, 2, 2), (0.0, 0.0, 1.0), 2, 0)
def test_a_crop_decodes_to_what_the_whole_does_at_its_place(shape, place, edge, margin):
    """The border of a crop is no border of the brain: nothing near it is compared."""
    crop = Crop.at(place, shape, LossPreset(edge_crop=edge, edge_margin=margin))
    latent = normal(11, 2, 1, *shape)

    def decode(z):  # sees `margin` latent voxels around its own, and zeros beyond the border
        padded = functional.pad(z + 5, (margin,) * 6)
        return upsample(functional.avg_pool3d(padded, 2 * margin + 1, stride=1))

    ours = crop.decoded(decode(crop.latent(latent)), 2)
    theirs = crop.image(decode(latent), 2)
    assert ours.shape == theirs.shape
    assert all(n >= 2 for n in ours.shape[2:])
    if all(n >= edge + 2 * margin for n in shape):
        torch.testing.assert_close(ours, theirs)
        assert ours.shape[2:] == (2 * edge,) * 3


def test_the_edge_term_ignores_what_a_decoder_does_at_the_border_of_a_crop():
    clean, t = normal(12, 2, 1, 9, 9, 9), torch.zeros(2, dtype=torch.int64)

    def decode(latent):
        spoilt = torch.full_like(latent, 1e3)
        spoilt[..., 1:-1, 1:-1, 1:-1] = latent[..., 1:-1, 1:-1, 1:-1]
        return upsample(spoilt)

    weights = LossPreset(edge_crop=3, edge_margin=1)
    assert diffusion(clean, clean, 0 * clean, t, 'x0', weights, decode=decode)['edge'] == 0
