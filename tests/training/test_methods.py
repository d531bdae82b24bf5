"""Every method trains on a few scans, writes a bundle, and its bundle gives a map."""

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from demist_app.model.baselines import load_baselines
from demist_app.model.bundle import CARD, BundleError, load_bundle, write_bundle
from demist_app.model.predictor import load_predictor, sampling, wants_gpu
from demist_app.model.presets import PresetError
from demist_app.training.boosting import as_arrays
from demist_app.training.course import Course
from demist_app.training.examples import facts
from demist_app.training.fit import Machine, TrainingError
from demist_app.training.methods import METHODS

REGRESSIONS = ('mean', 'linear', 'boosting', 'unet', 'klgan', 'vqvae')
NETWORKS = ('unet', 'klgan', 'vqvae', 'cwdm')


@pytest.fixture(scope='session')
def quick(micro, tmp_path_factory):
    """The micro preset with as few updates for the methods that are compared with."""
    file = resources.files('demist_app') / 'data' / 'baselines' / 'tiny.json'
    content = json.loads(file.read_text('utf-8'))
    for name in NETWORKS:
        content[name]['stage']['updates'] = 4
    content['klgan']['adversarial_start'] = 2
    path = tmp_path_factory.mktemp('baselines') / 'quick.json'
    path.write_text(json.dumps(content))
    return replace(micro, baselines=str(path))


@pytest.fixture(scope='session')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('work')


@pytest.fixture(scope='session')
def course(quick, examples, work):
    """Make the course of a method; latent methods share a folder, as the group level does it."""

    def made(name, folder=work):
        own = folder if METHODS[name].shares_stages else folder / name
        machine = Machine(accelerator='cpu')
        return Course(quick, examples[:4], examples[4:], own, 0, None, machine)

    return made


@pytest.fixture(scope='session')
def bundle_of(course, examples, tmp_path_factory):
    """Train a method once."""
    folder = tmp_path_factory.mktemp('models')
    told = {
        'seed': 0,
        'training_units': [facts(e) for e in examples[:4]],
        'validation_units': [facts(e) for e in examples[4:]],
        'intensity_reference': {'subjects': 4},
        'metrics': {},
    }

    def trained(name):
        if not (folder / name).exists():
            METHODS[name].fit(course(name), folder / name, told)
        return load_bundle(folder / name)

    return trained


def scan(example):
    return np.clip(example.images[0].astype(np.float32), 0, 1), example.mask > 0


def predict(bundle, example, **options):
    images, mask = scan(example)
    return load_predictor(bundle).predict(
        images, mask, **({'n_samples': 2, 'seed': 3, 'device': 'cpu'} | options)
    )


@pytest.mark.parametrize('name', METHODS)
def test_a_method_fits_and_predicts(name, bundle_of, examples):
    bundle = bundle_of(name)
    assert bundle.metadata['method'] == name
    for stage in bundle.metadata['stages'].values():
        assert stage['updates'] > 0
        assert stage['seconds'] >= 0
        assert 0 < stage['trainable_parameters'] <= stage['parameters']
        assert stage['device'].startswith('CPU')
    assert bundle.name in (bundle.path / CARD).read_text('utf-8')
    before = torch.get_num_threads()
    prediction = predict(bundle, examples[5], threads=before + 1)
    assert torch.get_num_threads() == before
    mask = examples[5].mask > 0
    for volume in (prediction.mean, prediction.sd):
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
        assert not volume[~mask].any()
    assert 0 <= prediction.mean.min() <= prediction.mean.max() <= 25
    assert prediction.facts['Draws'] == (1 if name in REGRESSIONS else 2)
    assert (sampling(bundle.metadata) is None) == (name in REGRESSIONS)
    assert ('uncertainty' in bundle.metadata) == (name not in REGRESSIONS)
    assert wants_gpu(bundle) == (name not in ('mean', 'linear', 'boosting'))


def test_the_mean_is_that_of_the_brains(bundle_of, examples):
    expected = np.mean([e.psr[e.mask > 0].astype(float).mean() for e in examples[:4]])
    mean = predict(bundle_of('mean'), examples[5]).mean[examples[5].mask > 0]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_regressions_beat_the_mean(bundle_of, examples):
    def error(name):
        mask = examples[5].mask > 0
        return np.abs(predict(bundle_of(name), examples[5]).mean - examples[5].psr)[mask].mean()

    assert error('linear') < 0.5 * error('mean')
    assert error('boosting') < 0.5 * error('mean')


def test_trees_as_arrays_predict_what_scikit_learn_does():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 12, (3000, 5)).astype(np.float32) / 7  # ties with the thresholds
    target = rows[:, 0] * rows[:, 1] - np.abs(rows[:, 2] - 1) + 0.1 * rng.standard_normal(3000)
    model = HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=9).fit(rows, target)
    fresh = np.concatenate([rows[:500], rng.uniform(-1, 3, (9000, 5)).astype(np.float32)])
    np.testing.assert_allclose(as_arrays(model).predict(fresh), model.predict(fresh), rtol=1e-12)


def test_only_fine_tuning_moves_the_backbone(bundle_of):
    frozen, tuned = (bundle_of(name).tensors() for name in ('demist-tokens', 'ftldm'))
    backbone = [key for key in frozen if key.startswith('denoiser.backbone.')]
    assert frozen.keys() == tuned.keys()
    moved = [not np.array_equal(frozen[key], tuned[key]) for key in backbone]
    assert sum(moved) > 0.9 * len(moved)
    unmoved = bundle_of('demist').tensors()
    assert all(np.array_equal(frozen[key], unmoved[key]) for key in backbone)
    assert bundle_of('ftldm').metadata['trainable_share'] == 1
    assert 'fine-tuned denoiser' in bundle_of('ftldm').metadata['description']


def test_latent_methods_share_their_stages(bundle_of, work):
    for name in ('ftldm', 'ftldm+lora', 'demist'):
        bundle_of(name)
    folders = {path.name for path in work.iterdir()}
    assert {'1a-psr', '2-semantic-finetuned', '2-semantic-adaptive', '2-conditional'} <= folders
    stages = [bundle_of(name).metadata['stages']['1b-align'] for name in ('ftldm', 'demist')]
    assert stages[0] == stages[1]


def test_the_codebook_of_the_vqvae_is_learnt(bundle_of, quick):
    import torch

    from demist_app.model.translation import VQTranslator

    torch.manual_seed(0)
    key = 'network.quantizer.quantizer.embedding.weight'
    start = VQTranslator(load_baselines(quick.baselines).vqvae).state_dict()[key]
    assert not np.allclose(bundle_of('vqvae').tensors()[key], start)


def test_codes_that_are_not_in_use_are_put_to_use(quick):
    import torch

    from demist_app.model.translation import VQTranslator

    torch.manual_seed(0)
    network = VQTranslator(load_baselines(quick.baselines).vqvae)
    quantizer = network.network.quantizer.quantizer
    images = torch.rand(1, 2, 16, 16, 16)
    used = []
    for training in (False, True):  # untrained, all voxels share a few codes
        network.train(training)
        network.quantised(images, torch.Generator().manual_seed(0))
        latent = network.network.encode(images)
        used.append(len(quantizer.quantize(latent)[2].unique()))
    assert used[1] > 2 * used[0]
    assert quantizer.embedding.weight.abs().max() < 2 * latent.abs().max()


def test_draws_of_a_diffusion_differ_and_can_be_repeated(bundle_of, examples):
    first, again = (predict(bundle_of('cwdm'), examples[5], n_samples=1) for _ in range(2))
    other = predict(bundle_of('cwdm'), examples[5], n_samples=1, seed=4)
    assert np.array_equal(first.mean, again.mean)
    assert first.sd is None
    assert not np.array_equal(first.mean, other.mean)


def test_stopped_and_resumed_ends_in_the_same_bits(tmp_path, course, bundle_of, monkeypatch):
    from demist_app.training.translation import TranslationStage

    whole = TranslationStage.terms

    def stopping(self, batch, generator):
        if self.current_epoch == 1 and self.training:
            raise RuntimeError('stopped')
        return whole(self, batch, generator)

    again = course('unet', tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(TranslationStage, 'terms', stopping)
        with pytest.raises(RuntimeError, match='stopped'):
            METHODS['unet'].train(again)
    assert (again.work / 'unet' / 'last.ckpt').exists()
    METHODS['unet'].train(again)
    from safetensors.numpy import load_file

    resumed = load_file(again.work / 'unet' / 'weights.safetensors')
    undisturbed = bundle_of('unet').tensors()
    assert resumed.keys() == undisturbed.keys()
    assert all(np.array_equal(resumed[key], undisturbed[key]) for key in resumed)


def test_the_same_call_again_trains_nothing(course, bundle_of):
    stages = bundle_of('unet').metadata['stages']
    again = METHODS['unet'].train(course('unet'))
    assert again['unet']['seconds'] == stages['unet']['seconds']


def test_another_recipe_in_the_same_folder_is_refused(course, bundle_of):
    bundle_of('linear')
    other = course('linear')
    with pytest.raises(TrainingError, match='another preset, other scans or another seed'):
        METHODS['linear'].train(replace(other, seed=1))


def test_a_participant_on_both_sides_is_refused(course, examples):
    with pytest.raises(TrainingError, match='sub-0 would be both'):
        METHODS['mean'].train(replace(course('mean'), validation=examples[:1]))


def test_recipes_tell_methods_apart_and_are_json(quick):
    recipes = [json.dumps(method.recipe(quick), sort_keys=True) for method in METHODS.values()]
    assert len(set(recipes)) == len(METHODS)


def test_a_recipe_depends_on_its_own_settings_alone(quick):
    unet, demist = METHODS['unet'], METHODS['demist']
    changed = replace(quick, losses=replace(quick.losses, align=2.0))
    assert unet.recipe(changed) == unet.recipe(quick)
    assert demist.recipe(changed) != demist.recipe(quick)
    bigger = replace(quick, baselines='small')
    assert unet.recipe(bigger) != unet.recipe(quick)
    assert demist.recipe(bigger) == demist.recipe(quick)


@pytest.mark.parametrize('name', ['paper', 'small', 'tiny'])
def test_the_packages_settings_build(name):
    assert load_baselines(name).cwdm.diffusion.prediction == 'x0'


def test_unknown_settings_are_named(quick):
    with pytest.raises(PresetError, match='baselines nothing of the preset is neither one of'):
        METHODS['unet'].recipe(replace(quick, baselines='nothing'))


@pytest.mark.parametrize('name', ['boosting', 'unet', 'cwdm'])
def test_weights_of_another_network_are_refused(tmp_path, bundle_of, name):
    bundle = bundle_of(name)
    tensors = dict(list(bundle.tensors().items())[1:])
    broken = write_bundle(tmp_path / 'broken', bundle.metadata, tensors, '# card')
    with pytest.raises(BundleError, match=r'cannot run it|holds no boosting model'):
        load_predictor(broken)
