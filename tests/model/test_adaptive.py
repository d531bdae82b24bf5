import pytest
import torch
from monai.networks.blocks import SABlock

from demist_app.model.adaptive import LowRank


@pytest.fixture(params=[False, True], ids=['no W_O', 'W_O'])
def attention(request):
    torch.manual_seed(0)
    return SABlock(
        16,
        num_heads=2,
        qkv_bias=True,
        include_fc=request.param,
        use_combined_linear=False,
        use_flash_attention=True,
    )


def test_update_starts_at_zero_to_the_bit(attention):
    tokens = torch.randn(2, 7, 16)
    assert torch.equal(LowRank(16, 2, 2)(tokens, attention), attention(tokens))


def test_weights_are_those_of_the_formula(attention, fill):
    """W + (α/r)·B·A, of rank r."""
    update = fill(LowRank(16, rank=3, alpha=6)).double()
    attention.double()
    own = [layer.weight for layer in (attention.to_q, attention.to_k, attention.to_v)]
    own.append(attention.out_proj.weight if attention.include_fc else torch.eye(16).double())
    for index, (new, old) in enumerate(zip(update.weights(attention), own, strict=True)):
        torch.testing.assert_close(new, old + 2 * update.b[index] @ update.a[index])
        assert torch.linalg.matrix_rank(new - old) == 3


@torch.no_grad()
def test_merge_is_equal_to_the_bit(attention, fill):
    attention.double()
    update = fill(LowRank(16, 2, 4)).double()
    tokens = torch.randn(2, 7, 16).double()
    before = attention(tokens)
    expected = update(tokens, attention)
    update.merge(attention)
    assert not torch.allclose(before, expected)
    assert torch.equal(attention(tokens), expected)
