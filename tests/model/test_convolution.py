"""Convolutions that go to the fast way give what PyTorch's own give."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.blocks import Convolution, UpSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from demist_app.model.convolution import Conv3d, quick

SIDE = st.integers(2, 7)


def doubling(channels, factor=2, interpolation='nearest'):
    """Return what MONAI's decoders have."""
    return UpSample(
        3,
        channels,
        channels,
        factor,
        mode='nontrainable',
        interp_mode=interpolation,
        align_corners=None,
        pre_conv=None,
        post_conv=Convolution(3, channels, channels, conv_only=True),
    )


def both(channels, **options):
    torch.manual_seed(0)
    own = Conv3d(channels, channels, 3, **options)
    stock = nn.Conv3d(channels, channels, 3, **options)
    stock.load_state_dict(own.state_dict())
    return own, stock


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.just(4), SIDE, SIDE, SIDE),
    bias=st.booleans(),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last_3d]),
)
def test_values_and_gradients_are_those_of_pytorch(shape, bias, memory_format):
    own, stock = both(4, padding=1, bias=bias)
    images = torch.randn(shape).to(memory_format=memory_format)
    found = []
    for convolve in (own, stock):
        given_images = images.clone(memory_format=memory_format).requires_grad_()
        made = convolve(given_images)
        (made * torch.arange(made.numel()).reshape(made.shape) / made.numel()).sum().backward()
        found.append([made, given_images.grad, *(p.grad for p in convolve.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'options', [{}, {'padding': 1, 'stride': 2}, {'padding': 2, 'dilation': 2}, {'padding': 'same'}]
)
def test_others_are_left_to_pytorch(options):
    own, stock = both(4, **options)
    images = torch.randn(1, 4, 6, 7, 8)
    assert torch.equal(own(images), stock(images))


def test_a_small_sample_goes_to_the_fast_way():
    def way(convolve):
        with torch.profiler.profile() as seen:
            convolve(torch.randn(1, 32, 8, 8, 8))
        return {event.key for event in seen.key_averages()}

    own, stock = both(32, padding=1)
    assert 'aten::slow_conv3d' in way(stock), 'PyTorch no longer needs this module'
    assert 'aten::mkldnn_convolution' in way(own)


def test_weights_keep_their_names():
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.Conv3d(3, 2, 1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = quick(network).state_dict()
    assert [type(module) for module in network] == [Conv3d, nn.ReLU, Conv3d]
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.just(8), SIDE, SIDE, SIDE),
    bias=st.booleans(),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last_3d]),
)
def test_products_of_matrices_are_convolutions_of_one_voxel(shape, bias, memory_format):
    stock = nn.Conv3d(8, 5, 1, bias=bias)
    own = quick(nn.Sequential(deepcopy(stock)))
    images = torch.randn(shape).to(memory_format=memory_format)
    torch.testing.assert_close(own(images), stock(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize('shape', [(1, 24, 30, 32, 7), (2, 24, 3, 5, 4), (1, 24, 1, 2, 3)])
def test_doubling_and_convolving_at_once_is_one_after_the_other(shape, memory_format):
    stock = doubling(24)
    own = quick(deepcopy(stock))
    assert list(own.state_dict()) == list(stock.state_dict())
    images = torch.randn(shape).to(memory_format=memory_format)
    with torch.inference_mode():
        made, expected = own(images), stock(images)
        assert made.is_contiguous(memory_format=memory_format) or min(shape) == 1
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    own(images).sum().backward()
    stock(images).sum().backward()
    for ours, theirs in zip(own.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_doubling_at_once_takes_fewer_operations():
    def operations(network):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.randn(1, 64, 20, 20, 6))
        return counter.get_total_flops()

    stock = doubling(64)
    assert operations(quick(deepcopy(stock))) == pytest.approx(operations(stock) * 8 / 27)


@pytest.mark.parametrize('kind', ['trilinear', 'nearest'])
def test_other_doublings_are_left_to_monai(kind):
    network = doubling(4, 3 if kind == 'nearest' else 2, kind)
    before = [type(module) for module in network.modules()]
    after = [type(module) for module in quick(network).modules()]
    assert after == [Conv3d if found is nn.Conv3d else found for found in before]
