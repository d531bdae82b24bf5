import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from demist_app.model.semantic import CrossAttention, Semantic, positional_code


def build(pool=4, channels=24):
    torch.manual_seed(0)
    return Semantic([16], 8, channels, pool, heads=2, spacing_mm=4.0)


def test_code_by_hand():
    """Two wavelengths, 32 and 512 mm, sine then cosine, axis after axis."""
    x, y, z = torch.tensor([[8.0]]), torch.tensor([[16.0, 128.0]]), torch.tensor([[-8.0]])
    code = positional_code([x, y, z], 12)
    assert code.shape == (1, 12, 1, 2, 1)
    quarter = math.sin(2 * math.pi * 8 / 512), math.cos(2 * math.pi * 8 / 512)
    expected = [1, quarter[0], 0, quarter[1], 0, 1, 1, 0, -1, -quarter[0], 0, quarter[1]]
    torch.testing.assert_close(code[0, :, 0, 1, 0], torch.tensor(expected), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(*[st.integers(0, 2)] * 3),
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.integers(-6, 2)] * 3),
)
def test_a_patch_has_the_tokens_of_its_volume(first, size, corner):
    semantic = build()
    volume = torch.randn(1, 8, 16, 16, 16)
    origin = 16.0 * torch.tensor([corner])
    whole = semantic.tokens(volume, origin).transpose(1, 2).unflatten(2, (4, 4, 4))
    x, y, z = (slice(a, a + n) for a, n in zip(first, size, strict=True))
    voxels = tuple(slice(4 * part.start, 4 * part.stop) for part in (x, y, z))
    patch = semantic.tokens(volume[(..., *voxels)], origin + 16.0 * torch.tensor([first]))
    expected = whole[..., x, y, z].flatten(2).transpose(1, 2)
    torch.testing.assert_close(patch, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('pool', [2, 4])
def test_tokens_are_the_pooled_projection_plus_the_code(pool):
    semantic = build(pool)
    z_c = torch.randn(2, 8, 8, 8, 4)
    origins = torch.tensor([[0.0, 0.0, 0.0], [-40.0, 12.0, 8.0]])
    tokens = semantic.tokens(z_c, origins)
    zero = semantic.tokens(torch.zeros_like(z_c), origins)
    weight = semantic.project.weight
    pooled = functional.avg_pool3d(functional.conv3d(z_c, weight), pool)
    torch.testing.assert_close(tokens - zero, pooled.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)
    assert not torch.allclose(zero[0], zero[1], atol=0.1)


def test_attention_starts_as_identity_and_follows_the_formula(fill):
    torch.manual_seed(0)
    layer = CrossAttention(16, 24, heads=2).double()
    hidden = torch.randn(2, 16, 2, 3, 4).double()
    tokens = torch.randn(2, 5, 24).double()
    assert torch.equal(layer(hidden, layer.context(tokens)), hidden)

    fill(layer)
    flat = hidden.flatten(2).transpose(1, 2)
    query = layer.to_query(layer.norm(flat))
    key, value = layer.to_key(tokens), layer.to_value(tokens)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(8)
        heads.append(scores.softmax(-1) @ value[..., part])
    expected = flat + layer.to_out(torch.cat(heads, dim=-1))
    got = layer(hidden, layer.context(tokens)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, expected)


def test_one_context_serves_many_draws(fill):
    layer = fill(CrossAttention(16, 24, heads=2))
    hidden, tokens = torch.randn(3, 16, 2, 2, 2), torch.randn(1, 5, 24)
    many = layer(hidden, layer.context(tokens.expand(3, -1, -1)))
    torch.testing.assert_close(layer(hidden, layer.context(tokens)), many)
