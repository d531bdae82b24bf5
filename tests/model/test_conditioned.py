import copy
import dataclasses
import itertools

import pytest
import torch

from demist_app.model.conditioned import Conditioned
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import STREAMS, load_preset

SUBSETS = [subset for n in range(len(STREAMS) + 1) for subset in itertools.combinations(STREAMS, n)]


@pytest.fixture
def build(tiny, backbone):
    def build(active=STREAMS):
        return Conditioned(backbone, dataclasses.replace(tiny.streams, active=active))

    return build


@pytest.fixture
def z_c():
    return torch.randn(2, 8, 8, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def origin():
    return torch.tensor([[-16.0, 0.0, 48.0], [0.0, -32.0, 8.0]])


@pytest.mark.parametrize('active', SUBSETS, ids='+'.join)
@torch.no_grad()
def test_streams_are_an_exact_identity_at_start(build, backbone, noisy, t, z_c, origin, active):
    network = build(active)
    expected = backbone(noisy, t)
    assert torch.equal(network(noisy, t, network.condition(z_c, origin)), expected)
    assert {stream for stream, _ in network.trainable()} == set(active)


@pytest.mark.parametrize('stream', STREAMS)
@torch.no_grad()
def test_each_stream_acts_and_the_backbone_stays(
    build, fill, backbone, noisy, t, z_c, origin, stream
):
    network = fill(build((stream,)))
    bare = backbone(noisy, t)
    assert not torch.allclose(network(noisy, t, network.condition(z_c, origin)), bare, atol=1e-3)
    assert torch.equal(network(noisy, t, None), bare)


@pytest.mark.parametrize('stream', ['semantic', 'spatial'])
@torch.no_grad()
def test_prediction_depends_on_the_condition(build, fill, noisy, t, z_c, origin, stream):
    network = fill(build((stream,)))
    one = network(noisy, t, network.condition(z_c, origin))
    other = network(noisy, t, network.condition(z_c + 1, origin))
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize('active', SUBSETS[1:], ids='+'.join)
def test_gradient_reaches_every_trainable_parameter_and_no_other(
    build, fill, noisy, t, z_c, origin, active
):
    network = fill(build(active))
    network(noisy, t, network.condition(z_c, origin)).square().mean().backward()
    trainable = {id(parameter) for _, parameter in network.trainable()}
    for name, parameter in network.named_parameters():
        if id(parameter) not in trainable:
            assert name.startswith('backbone.')
            assert parameter.grad is None
        elif name.endswith('.to_k.bias'):  # adds the same to all scores: softmax ignores it
            assert parameter.grad.abs().max() < 1e-6
        else:
            assert parameter.grad.any(), name


def test_training_can_leave_the_identity(build, noisy, t, z_c, origin):
    """At start the gradient reaches the zeroed layers, from where it opens the rest."""
    network = build()
    network(noisy, t, network.condition(z_c, origin)).square().mean().backward()
    assert all(site.to_out.weight.grad.any() for site in network.semantic.sites)
    assert all(gate.weight.grad.any() for gate in network.spatial.gates_out)
    assert all(site.b.grad.flatten(1).any(1).all() for site in network.adaptive.values())


@torch.no_grad()
def test_merge_is_equal_to_the_bit(build, fill, noisy, t, z_c, origin):
    network = fill(build()).double()
    conditioning = network.condition(z_c.double(), origin.double())
    expected = network(noisy.double(), t, conditioning)
    network.merge()
    assert torch.equal(network(noisy.double(), t, conditioning), expected)
    assert {stream for stream, _ in network.trainable()} == {'semantic', 'spatial'}
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


@torch.no_grad()
def test_one_conditioning_serves_many_draws(build, fill, z_c, origin):
    network = fill(build())
    noisy, t = torch.randn(3, 8, 8, 8, 8), torch.tensor([500])
    conditioning = network.condition(z_c[:1], origin[:1])
    together = network(noisy, t, conditioning)
    for draw, got in zip(noisy, together, strict=True):
        expected = network(draw[None], t, conditioning)[0]
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_bfloat16_autocast(build, fill, noisy, t, z_c, origin):
    network = build()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        conditioned = network(noisy, t, network.condition(z_c, origin))
        assert torch.equal(conditioned, network(noisy, t, None))
    fill(network)
    exact = network(noisy, t, network.condition(z_c, origin))
    outside = network.condition(z_c, origin)
    with torch.autocast('cpu', torch.bfloat16):
        prediction = network(noisy, t, network.condition(z_c, origin))
        torch.testing.assert_close(network(noisy, t, outside), prediction, atol=0.1, rtol=0.1)
    assert prediction.dtype == torch.bfloat16
    error = (prediction - exact).square().mean() / exact.square().mean()
    # no gradients here: torch's are random in bfloat16 where maps are this small, which is why
    # training keeps float32 there (`demist_app.training.fit`)
    assert error < 1e-3


@torch.no_grad()
def test_state_and_copies_carry_the_network(tiny, build, fill, noisy, t, z_c, origin):
    network = fill(build())
    expected = network(noisy, t, network.condition(z_c, origin))
    other = Conditioned(build_backbone(tiny.denoiser), tiny.streams)
    other.load_state_dict(network.state_dict())
    twin = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.zero_()
    for same in (other, twin):
        assert torch.equal(same(noisy, t, same.condition(z_c, origin)), expected)


def test_sizes_at_the_preset_of_the_paper():
    """LoRA of Q, K and V at rank 8 is 208,896 parameters; O is as much again as one of them."""
    preset = load_preset('paper')
    with torch.device('meta'):
        network = Conditioned(build_backbone(preset.denoiser), preset.streams)
    sizes = dict.fromkeys(STREAMS, 0)
    for stream, parameter in network.trainable():
        sizes[stream] += parameter.numel()
    assert sizes['adaptive'] == 208_896 // 3 * 4
    # query and output of the width, key and value of 192 channels, two biases' worth of norm
    widths = [256] * 7 + [512] * 6
    sites = sum(2 * w * w + 2 * 192 * w + 3 * w for w in widths)
    assert sizes['semantic'] == sites + 8 * 192 + 192
    encoder = sum(
        parameter.numel()
        for name, parameter in network.backbone.named_parameters()
        if name.split('.')[0] in ('conv_in', 'time_embed', 'down_blocks', 'middle_block')
    )
    gates = [(8, 256), *[(256, 256)] * 7, *[(512, 512)] * 3]
    assert sizes['spatial'] == encoder + sum(i * o + o for i, o in gates)
