from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from demist_app.model.bundle import CARD, load_bundle
from demist_app.model.demist import Demist
from demist_app.model.presets import Preset, load_preset
from demist_app.training.export import export
from demist_app.training.run import STAGES, WEIGHTS


def facts(**more):
    return {
        'stages': {
            name: {
                'updates': 1234,
                'validation_loss': 0.5 + number,
                'seconds': 5400.0,
                'peak_memory_gb': 2.5,
                'device': 'an abacus',
                'history': [{'updates': 1.0, 'val/loss': 0.5, 'train/loss': 0.6}],
            }
            for number, name in enumerate(STAGES)
        },
        'seed': 17,
        'training_units': [
            {'name': f'sub-{i}', 'participant': f'sub-{i // 2}', 'group': 'p', 'digest': str(i)}
            for i in range(6)
        ],
        'validation_units': [{'name': 's', 'participant': 'sub-9', 'group': 'p', 'digest': '9'}],
        'intensity_reference': {'subjects': 6},
        'metrics': {},
    } | more


@pytest.fixture(scope='module')
def preset():
    return load_preset('tiny')


@pytest.fixture(scope='module')
def model(preset):
    torch.manual_seed(0)
    model = Demist(preset).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for part in ('psr', 'cond'):
            getattr(model, f'{part}_shift').normal_()
            getattr(model, f'{part}_scale').uniform_(0.5, 2)
    return model


@pytest.fixture(scope='module')
def work(model, tmp_path_factory):
    """Leave what a finished training leaves."""
    folder = tmp_path_factory.mktemp('work')
    states = {
        '1a-psr': model.psr.state_dict() | {'shift': model.psr_shift, 'scale': model.psr_scale},
        '1a-cond': model.cond.state_dict() | {'shift': model.cond_shift, 'scale': model.cond_scale},
        '1c-backbone': model.denoiser.backbone.state_dict(),
        '2-conditional': model.denoiser.state_dict(),
    }
    for name, state in states.items():
        (folder / name).mkdir()
        save_file({k: v.contiguous() for k, v in state.items()}, folder / name / WEIGHTS)
    return folder


@pytest.fixture(scope='module')
def bundle(work, preset, tmp_path_factory):
    return export(work, preset, tmp_path_factory.mktemp('models') / 'fold-2', facts=facts(fold=2))


@torch.no_grad()
def test_the_bundle_holds_the_model(bundle, model):
    found = load_bundle(bundle.path)
    again = Demist.from_tensors(Preset.from_dict(found.metadata['preset']), found.tensors())
    assert again.preset == model.preset
    images, psr = torch.rand(1, 2, 32, 32, 32), torch.rand(1, 1, 32, 32, 32)
    for ours, theirs in (
        (again.encode_cond(images), model.encode_cond(images)),
        (again.encode_psr(psr), model.encode_psr(psr)),
    ):
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)  # float16 weights
    latent, t, origin = torch.randn(1, 8, 8, 8, 8), torch.tensor([500]), torch.zeros(1, 3)
    torch.testing.assert_close(
        again.denoiser(latent, t, again.denoiser.condition(latent, origin)),
        model.denoiser(latent, t, model.denoiser.condition(latent, origin)),
        atol=0.05,
        rtol=0.05,
    )
    kinds = {name: tensor.dtype for name, tensor in found.tensors().items()}
    exact = {'psr_shift', 'psr_scale', 'cond_shift', 'cond_scale'}
    assert {name for name, kind in kinds.items() if kind == np.float32} == exact
    assert all(kind == np.float16 for name, kind in kinds.items() if name not in exact)


def test_metadata_say_what_the_app_needs(bundle, model, preset):
    metadata = bundle.metadata
    assert bundle.name == 'fold-2'
    assert metadata['network'] == 'demist'
    assert metadata['fold'] == 2
    assert metadata['seed'] == 17
    assert metadata['psr_unit'] == 'percent'
    assert metadata['training_data'] == '7 scans of 4 participants with measured PSR maps'
    assert metadata['backbone'].startswith('pretrained without conditions on the PSR maps')
    assert metadata['stages']['1a-psr']['history'] == [[1.0, 0.5]]
    counts = metadata['parameters']
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    streams = counts['semantic stream'] + counts['spatial stream'] + counts['adaptive stream']
    assert metadata['trainable_share'] == streams / (streams + counts['backbone'])
    np.testing.assert_allclose(metadata['latent_statistics']['psr_shift'], model.psr_shift)


def test_the_card_tells_the_run(bundle):
    card = (bundle.path / CARD).read_text()
    assert card.startswith('# Model card: fold-2\n')
    for text in (
        'synthetic, not measured',
        '20 % is the largest value',
        '**Trained on**: 7 scans of 4 participants with measured PSR maps; of these, 1 units',
        '| 1b-align: alignment of their latents | 1,234 | 2.5 | 1.50 | 2.5 | an abacus |',
        f'| backbone | {bundle.metadata["parameters"]["backbone"]:,} |',
        'this model was not scored',
        'Preset `tiny`, seed 17, ',
    ):
        assert text in card


def test_scores_are_told_as_out_of_fold(work, preset, tmp_path):
    scores = {'PSNR': (24.6712, 0.678), 'SSIM': (0.85523, 0.0123)}
    made = export(work, preset, tmp_path / 'final', facts=facts(metrics=scores))
    card = (made.path / CARD).read_text()
    assert 'not scored' not in card
    assert 'on participants they were not trained on' in card
    assert '| PSNR (dB) | 24.67 ± 0.68 |\n| SSIM | 0.8552 ± 0.012 |\n' in card


def test_words_of_the_caller_win(work, preset, tmp_path):
    said = facts(training_data='12 phantoms', scored_on='on 6 others', metrics={'MAE': (1, 0.5)})
    made = export(work, preset, tmp_path / 'mine', facts=said)
    assert made.metadata['training_data'] == '12 phantoms'
    card = (made.path / CARD).read_text()
    assert '**Trained on**: 12 phantoms; ' in card
    assert 'On 6 others; mean ± SD' in card


def test_a_given_backbone_is_named(work, preset, tmp_path):
    given = facts()
    del given['stages']['1c-backbone']
    made = export(work, preset, tmp_path / 'mine', facts=given)
    assert made.metadata['backbone'].startswith('brats_mri_generative_diffusion 1.1.2')


@pytest.mark.parametrize(
    ('active', 'ending'),
    [
        ((), 'whose frozen denoiser has no condition.'),
        (('adaptive',), 'on both images by low-rank adaptation of its attention [@lora].'),
        (('semantic', 'spatial'), 'cross-attention [@ldm] and a ControlNet branch [@controlnet].'),
    ],
)
def test_an_ablation_is_described_as_one(work, preset, tmp_path, active, ending, monkeypatch):
    ablated = replace(preset, streams=replace(preset.streams, active=active))
    monkeypatch.setattr('demist_app.training.export.assemble', lambda p, _: Demist(p))
    made = export(work, ablated, tmp_path / 'mine', facts=facts())
    assert made.metadata['description'].endswith(ending)
    named = {key for key in made.metadata['parameters'] if key.endswith('stream')}
    assert named == {f'{stream} stream' for stream in active}
