import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from demist_app.cli.model import main
from demist_app.model import backbone_files
from demist_app.model.autoencoder import build_autoencoder
from demist_app.model.backbone_bundle import read_backbone
from demist_app.model.bundle import METADATA, WEIGHTS, shipped, write_bundle
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import load_preset


def fields(text):
    """Read what `info` prints."""
    return dict(line.split('  ', 1) for line in text.splitlines() if '  ' in line)


def test_info_of_a_shipped_model(capsys):
    assert main(['info', 'linear']) == 0
    found = {name: value.strip() for name, value in fields(capsys.readouterr().out).items()}
    metadata = json.loads((shipped()['linear'] / METADATA).read_text())
    digest = hashlib.sha256((shipped()['linear'] / METADATA).read_bytes()).hexdigest()
    assert found['name'] == f'linear {metadata["version"]}'
    assert found['trained on'] == metadata['training_data']
    assert found['units'] == '10'
    assert found['sha256'] == digest
    assert 'preset' not in found  # it has none


@pytest.fixture
def info_of_trained(tmp_path, capsys):
    """What `info` says of a model that was trained with the preset ``tiny``."""

    def info(**facts):
        metadata = {
            'name': 'mine',
            'version': '1',
            'preset': load_preset('tiny').as_dict(),
            'training_data': 'nine phantoms',
        }
        write_bundle(tmp_path / 'mine', metadata | facts, {'a': np.ones(2)}, '')
        assert main(['info', str(tmp_path / 'mine')]) == 0
        return capsys.readouterr().out

    return info


def test_info_of_a_trained_model(info_of_trained):
    out = info_of_trained(
        network='demist',
        parameters={'backbone': 1234567, 'spatial stream': 89},
        validation_units=['sub-1'],
        metrics={'PSNR': (24.6712, 0.678)},
        scored_on='out of fold',
    )
    for line in (
        'streams         semantic, spatial, adaptive',
        'parameters      backbone 1,234,567, spatial stream 89',
        'early stopping  1',
        'scores          PSNR 24.67 ± 0.68',
        'scored          out of fold',
    ):
        assert line in out


def test_info_names_no_streams_of_a_method_without(info_of_trained):
    assert 'streams' not in fields(info_of_trained(network='boosting'))


def test_info_as_json(capsys):
    assert main(['info', '--json', 'linear']) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == json.loads((shipped()['linear'] / METADATA).read_text())


def test_verify(capsys):
    assert main(['verify', 'linear']) == 0
    assert 'is intact' in capsys.readouterr().out


def test_verify_refuses_an_edited_bundle(tmp_path, capsys):
    shutil.copytree(shipped()['linear'], tmp_path / 'edited')
    with (tmp_path / 'edited' / WEIGHTS).open('ab') as file:
        file.write(b'!')
    assert main(['verify', str(tmp_path / 'edited')]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('demist-model: ')
    assert 'was changed or cut short' in captured.err
    assert not captured.out


def test_verify_refuses_a_network_it_cannot_run(tmp_path, capsys):
    metadata = {'name': 'x', 'version': '1', 'network': 'quantum'}
    write_bundle(tmp_path / 'x', metadata, {'a': np.ones(2)}, '')
    assert main(['verify', str(tmp_path / 'x')]) == 1
    assert "type 'quantum'" in capsys.readouterr().err


def test_a_model_that_does_not_exist(capsys):
    assert main(['info', 'absent']) == 1
    assert 'model absent is neither a shipped model (' in capsys.readouterr().err


@pytest.fixture
def brats(tmp_path, monkeypatch):
    """Stand in for the pretrained backbone, at the sizes of another preset."""
    tiny = load_preset('tiny')
    monkeypatch.setattr('demist_app.model.presets.load_preset', lambda name: tiny)
    folder = tmp_path / 'brats_mri_generative_diffusion' / 'models'
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    for name, network in (
        (backbone_files.DENOISER, build_backbone(tiny.denoiser)),
        (backbone_files.AUTOENCODER, build_autoencoder(tiny.autoencoder, 1)),
    ):
        torch.save(network.state_dict(), folder / name)
        md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(backbone_files.MD5, name, md5)
    return folder.parent


def test_convert(brats, tmp_path, capsys):
    out = tmp_path / 'brats'
    assert main(['convert', str(brats), str(out)]) == 0
    assert f'Wrote {out}: autoencoder ' in capsys.readouterr().out
    denoiser, _ = read_backbone(out, load_preset('tiny'))
    original = torch.load(brats / 'models' / backbone_files.DENOISER, weights_only=True)
    assert all(torch.equal(denoiser[name], original[name]) for name in original)
    assert main(['verify', str(out)]) == 0
    assert main(['info', str(out)]) == 0
    assert 'FLAIR images of BraTS' in capsys.readouterr().out


def test_convert_refuses_another_file(brats, tmp_path, capsys):
    (brats / 'models' / backbone_files.DENOISER).write_bytes(b'something else')
    assert main(['convert', str(brats), str(tmp_path / 'out')]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f'demist-model: {brats}')
    assert 'is another file than the one expected' in message
    assert not (tmp_path / 'out').exists()


def test_convert_overwrites_nothing_but_a_bundle(brats, tmp_path, capsys):
    (tmp_path / 'precious').mkdir()
    assert main(['convert', str(brats), str(tmp_path / 'precious')]) == 1
    assert 'exists and is no bundle' in capsys.readouterr().err


def test_bad_usage():
    with pytest.raises(SystemExit) as error:
        main(['explode'])
    assert error.value.code == 2
