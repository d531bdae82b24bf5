import pytest
import torch
from torch import nn

from demist_app.model.denoiser import embed_time, encode, plain, sites
from demist_app.model.spatial import Spatial


@pytest.fixture
def spatial(backbone):
    return Spatial(backbone, 8)


def test_residuals_are_zero_at_start(spatial, noisy, t):
    hint = spatial.hint(torch.randn(2, 8, 8, 8, 8))
    assert not hint.any()
    assert not any(residual.any() for residual in spatial(noisy, t, hint))


def test_gates_are_pointwise(spatial):
    """1×1×1, as in section 2.2, not the 3×3×3 of MONAI's ControlNet."""
    gates = [spatial.gate_in, *spatial.gates_out]
    assert all(gate.kernel_size == (1, 1, 1) for gate in gates)
    assert [gate.out_channels for gate in gates[1:]] == [16, 16, 16, 32, 32, 32, 32]


@torch.no_grad()
def test_open_gates_show_the_features_of_the_backbone(backbone, spatial, noisy, t):
    for gate in spatial.gates_out:
        nn.init.dirac_(gate.weight)
    got = spatial(noisy, t, spatial.hint(noisy))
    hidden = backbone.conv_in(noisy)
    visits = iter([plain(site) for site in sites(backbone)])
    middle, skips = encode(backbone, hidden, embed_time(backbone, t, hidden), visits)
    for residual, feature in zip(got, [*skips, middle], strict=True):
        torch.testing.assert_close(residual, feature)


def test_copy_is_trainable_and_shares_nothing(backbone):
    backbone.requires_grad_(False)
    spatial = Spatial(backbone, 8)
    assert all(parameter.requires_grad for parameter in spatial.parameters())
    shared = {parameter.data_ptr() for parameter in backbone.parameters()}
    assert not shared & {parameter.data_ptr() for parameter in spatial.parameters()}
