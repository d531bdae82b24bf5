"""Presets are read strictly: a typing error must not become a default."""

import json
from pathlib import Path

import pytest

from demist_app.model.baselines import load_baselines
from demist_app.model.presets import Preset, PresetError, load_preset


@pytest.mark.parametrize('name', ['paper', 'small', 'tiny'])
def test_presets_survive_json(name):
    preset = load_preset(name)
    assert preset.name == name
    assert Preset.from_dict(json.loads(json.dumps(preset.as_dict()))) == preset


TABLE1 = Path(__file__).parents[2] / 'benchmarks' / 'table1' / 'table1.json'


@pytest.mark.parametrize('name', ['paper', 'small', str(TABLE1)])
def test_no_method_has_a_coarser_bottleneck_than_another(name):
    """Codes of 8 mm beside latents of 4 made a VQ-VAE hardly better than the mean."""
    preset = load_preset(name)
    baselines = load_baselines(preset.baselines)
    assert baselines.klgan.autoencoder.factor == preset.autoencoder.factor
    assert baselines.vqvae.factor == preset.autoencoder.factor


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'losses': {'edges': 1.0}}, 'preset.losses has unknown fields: edges'),
        ({'psr_scale': 'twenty'}, "preset.psr_scale must be of type float, not 'twenty'"),
        ({'autoencoder': {'channels': [8]}}, 'preset.autoencoder lacks norm_groups, res_blocks'),
        ({'streams': {'active': ['spatial', 'magic']}}, 'unknown stream magic: choose from'),
        ({'streams': {'token_channels': 256}}, 'must be a multiple of 6'),
        ({'autoencoder': 3}, 'preset.autoencoder must be a JSON object, not 3'),
        ({'streams': {'active': 'spatial'}}, "preset.streams.active must be a list, not 'spatial'"),
        ({'diffusion': {'prediction': 'eps'}}, "unknown prediction 'eps': choose from epsilon"),
        ({'diffusion': {'strength': 1.5}}, 'strength must be at most 1'),
        ({'diffusion': {'strength': 0.01}}, 'leave room for 50 sampling steps, not 0.01'),
        ({'diffusion': {'sampler': 'euler'}}, "unknown sampler 'euler': choose from ddpm"),
    ],
)
def test_mistakes_are_named(tmp_path, change, words):
    content = load_preset('tiny').as_dict() | change
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(content))
    with pytest.raises(PresetError, match=words):
        load_preset(str(path))


def test_patches_of_many_sizes_do_not_fit_into_a_batch(tmp_path):
    content = load_preset('tiny').as_dict()
    content['training']['alignment'] |= {'patch_min': 32, 'batch': 2}
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(content))
    with pytest.raises(PresetError, match='alignment has patches of many sizes'):
        load_preset(str(path))


def test_what_is_neither_a_name_nor_a_file_is_refused(tmp_path):
    with pytest.raises(PresetError, match='neither one of paper, small, tiny nor a JSON file'):
        load_preset('huge')
    path = tmp_path / 'broken.json'
    path.write_text('{')
    with pytest.raises(PresetError, match='is not valid JSON'):
        load_preset(str(path))
