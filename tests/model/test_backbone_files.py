import hashlib
import pickle
import re
from pathlib import Path

import pytest
import torch

from demist_app.model.autoencoder import build_autoencoder
from demist_app.model.backbone_files import (
    AUTOENCODER,
    DENOISER,
    MD5,
    BackboneError,
    load_backbone,
)
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import load_preset


def old_style(state):
    """Name weights as the `generative` package did, with its output projections."""
    old = {}
    for key, tensor in state.items():
        if '.attn.to_q.weight' in key:
            for part, shape in (('weight', tensor.shape), ('bias', tensor.shape[:1])):
                unused = key.replace('.attn.to_q.weight', f'.proj_attn.{part}')
                old[unused] = torch.randn(shape)
        old[key.replace('.attn.to_', '.to_').replace('postconv', 'conv')] = tensor
    return old


def digests(folder):
    return {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest()
        for name in (DENOISER, AUTOENCODER)
    }


@pytest.fixture
def networks(tiny, backbone, fill):
    return {DENOISER: backbone, AUTOENCODER: fill(build_autoencoder(tiny.autoencoder, 1))}


@pytest.fixture(params=['old', 'new'])
def style(request):
    return old_style if request.param == 'old' else dict


@pytest.fixture
def folder(tmp_path, networks):
    """Write the files of a bundle, new style."""
    models = tmp_path / 'bundle' / 'models'
    models.mkdir(parents=True)
    for name, network in networks.items():
        torch.save(network.state_dict(), models / name)
    return models


@torch.no_grad()
def test_both_styles_give_the_same_network_to_the_bit(
    tiny, networks, folder, style, noisy, t, fill
):
    for name, network in networks.items():
        torch.save(style(network.state_dict()), folder / name)
    loaded = load_backbone(folder.parent, tiny, digests(folder))
    denoiser = fill(build_backbone(tiny.denoiser), seed=5)
    denoiser.load_state_dict(loaded.denoiser)
    assert torch.equal(denoiser(noisy, t), networks[DENOISER](noisy, t))
    autoencoder = fill(build_autoencoder(tiny.autoencoder, 1), seed=5)
    autoencoder.load_state_dict(loaded.autoencoder)
    own, image = networks[AUTOENCODER], torch.randn(1, 1, 16, 16, 16)
    latent = own.encode(image)[0]
    assert torch.equal(autoencoder.encode(image)[0], latent)
    assert torch.equal(autoencoder.decode(latent), own.decode(latent))


def test_old_style_is_read_as_monai_reads_it(tiny, networks, folder):
    for name, network in networks.items():
        torch.save(old_style(network.state_dict()), folder / name)
    loaded = load_backbone(folder, tiny, digests(folder))
    for build, state, name in (
        (lambda: build_backbone(tiny.denoiser), loaded.denoiser, DENOISER),
        (lambda: build_autoencoder(tiny.autoencoder, 1), loaded.autoencoder, AUTOENCODER),
    ):
        reference = build()
        reference.load_old_state_dict(torch.load(folder / name, weights_only=True))
        expected = reference.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)


@pytest.mark.parametrize('path', ['bundle', 'bundle/models', f'bundle/models/{AUTOENCODER}'])
def test_bundle_folder_or_files(tiny, folder, tmp_path, path):
    loaded = load_backbone(tmp_path / path, tiny, digests(folder))
    assert loaded.denoiser['conv_in.conv.weight'].shape == (16, 8, 3, 3, 3)


@pytest.mark.parametrize('name', [DENOISER, AUTOENCODER])
def test_another_file_is_refused(tiny, folder, name):
    with pytest.raises(BackboneError, match=f'another file.*{MD5[DENOISER]}'):
        load_backbone(folder, tiny)
    expected = digests(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BackboneError, match=re.escape(str(folder / name))):
        load_backbone(folder, tiny, expected)


def test_missing_file_is_named(tiny, folder):
    (folder / AUTOENCODER).unlink()
    md5 = MD5 | {DENOISER: hashlib.md5((folder / DENOISER).read_bytes()).hexdigest()}
    with pytest.raises(BackboneError, match=f'{AUTOENCODER} cannot be read'):
        load_backbone(folder, tiny, md5)


@pytest.mark.parametrize('part', [0, 0.5, 0.99])
def test_truncated_file_is_refused(tiny, folder, part):
    content = (folder / DENOISER).read_bytes()
    (folder / DENOISER).write_bytes(content[: int(part * len(content))])
    with pytest.raises(BackboneError, match='damaged'):
        load_backbone(folder, tiny, digests(folder))


class Intruder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize('save', [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, 2))])
def test_pickled_code_is_refused_and_not_run(tiny, folder, tmp_path, save):
    touched = tmp_path / 'touched'
    save({'conv_in.conv.weight': Intruder(touched)}, folder / DENOISER)
    with pytest.raises(BackboneError, match='other than tensors'):
        load_backbone(folder, tiny, digests(folder))
    assert not touched.exists()


def test_other_sizes_are_refused(folder):
    with pytest.raises(BackboneError, match='--preset paper'):
        load_backbone(folder, load_preset('small'), digests(folder))


def test_an_output_projection_in_use_is_refused(tiny, networks, folder):
    """A network of MONAI itself applies W_O: without it, it would be another network."""
    state = networks[DENOISER].state_dict()
    state['middle_block.attention.attn.out_proj.weight'] = torch.eye(32)
    torch.save(state, folder / DENOISER)
    with pytest.raises(BackboneError, match='out_proj'):
        load_backbone(folder, tiny, digests(folder))
