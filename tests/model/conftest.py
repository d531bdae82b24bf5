"""Networks small enough to run in milliseconds."""

import pytest
import torch
from torch import nn

from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import load_preset


@pytest.fixture
def tiny():
    return load_preset('tiny')


@pytest.fixture
def fill():
    """Return a function that replaces weights that start at zero.

    With them every output is zero, and any two networks agree.
    """

    def fill(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1, generator=generator)
        return module

    return fill


@pytest.fixture
def backbone(tiny, fill):
    torch.manual_seed(0)
    return fill(build_backbone(tiny.denoiser))


@pytest.fixture
def noisy():
    return torch.randn(2, 8, 8, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def t():
    return torch.tensor([3, 700])
