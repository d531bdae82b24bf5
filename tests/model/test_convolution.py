"""Convolutions that go to the fast way give what PyTorch's own give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from demist_app.model.convolution import Conv3d, quick

SIDE = st.integers(2, 7)


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
