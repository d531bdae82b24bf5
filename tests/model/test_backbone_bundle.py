from dataclasses import replace

import numpy as np
import pytest
import torch

from demist_app.model.autoencoder import build_autoencoder
from demist_app.model.backbone_bundle import read_backbone, write_backbone
from demist_app.model.bundle import WEIGHTS, BundleError, write_bundle


@pytest.fixture
def autoencoder(tiny):
    torch.manual_seed(1)
    return build_autoencoder(tiny.autoencoder, 1)


def test_weights_survive_to_the_bit(tmp_path, tiny, backbone, autoencoder):
    bundle = write_backbone(
        tmp_path / 'brats', backbone.state_dict(), autoencoder.state_dict(), tiny
    )
    assert bundle.metadata['parameters'] == {
        'denoiser': sum(p.numel() for p in backbone.parameters()),
        'autoencoder': sum(p.numel() for p in autoencoder.parameters()),
    }
    states = read_backbone(bundle.path, tiny)
    for network, state in zip((backbone, autoencoder), states, strict=True):
        own = network.state_dict()
        assert own.keys() == state.keys()
        assert all(torch.equal(own[name], state[name]) for name in own)


def test_another_preset_is_refused(tmp_path, tiny, backbone, autoencoder):
    bundle = write_backbone(
        tmp_path / 'brats', backbone.state_dict(), autoencoder.state_dict(), tiny
    )
    wider = replace(tiny, name='wide', denoiser=replace(tiny.denoiser, channels=(32, 32, 32)))
    with pytest.raises(BundleError, match='other sizes than the preset wide: use --preset paper'):
        read_backbone(bundle.path, wider)


def test_another_network_is_refused(tmp_path, tiny):
    metadata = {'name': 'x', 'network': 'linear', 'version': '1'}
    bundle = write_bundle(tmp_path / 'x', metadata, {'a': np.ones(2)}, '')
    with pytest.raises(BundleError, match="type 'linear', not a backbone"):
        read_backbone(bundle.path, tiny)


def test_truncated_weights_are_refused(tmp_path, tiny, backbone, autoencoder):
    path = tmp_path / 'brats'
    write_backbone(path, backbone.state_dict(), autoencoder.state_dict(), tiny)
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(BundleError, match='changed or cut short'):
        read_backbone(path, tiny)
