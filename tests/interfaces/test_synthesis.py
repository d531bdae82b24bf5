"""The model as a step: what it takes from its inputs, what it hands to the sidecars."""

from dataclasses import replace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
import torch
from nipype.interfaces.base import isdefined
from scipy.ndimage import gaussian_filter

from demist_app.interfaces.metadata import PSRMetadata
from demist_app.interfaces.synthesis import RegionalTable, Synthesise
from demist_app.model.bundle import BundleError, write_bundle
from demist_app.model.demist import Demist
from demist_app.model.predictor import load_predictor
from demist_app.model.presets import load_preset
from demist_app.model.signature import signature
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.training.outliers import learn_outliers

SHAPE = (32, 32, 32)


@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scans')
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:-4, 4:-4, 4:-4] = 1
    volumes = {name: mask * rng.random(SHAPE, np.float32) for name in ('t1w', 'flair')}
    paths = {}
    for name, volume in (volumes | {'mask': mask}).items():
        paths[name] = str(folder / f'{name}.nii')
        nb.Nifti1Image(volume, np.eye(4)).to_filename(paths[name])
    return paths


@pytest.fixture
def synthesise(untrained, scans, tmp_path):
    def synthesise(**inputs):
        settings = {'bundle': str(untrained.path), 'bundle_sha256': untrained.sha256} | inputs
        return Synthesise(**scans, **settings).run(cwd=str(tmp_path)).outputs

    return synthesise


def test_a_diffusion_model_gives_maps_and_the_facts_of_the_sidecar(synthesise, scans):
    outputs = synthesise(n_samples=2, seed=7)
    mask = np.asarray(nb.load(scans['mask']).dataobj) > 0
    for path in (outputs.mean, outputs.sd):
        volume = nb.load(path)
        np.testing.assert_array_equal(volume.affine, np.eye(4))
        assert (volume.get_fdata()[mask] > 0).mean() > 0.5
        assert not volume.get_fdata()[~mask].any()
    assert outputs.facts['Draws'] == 2
    assert outputs.facts['Window'] == 'whole brain'
    sidecars = PSRMetadata(
        t1w_source='a', flair_source='b', spatial_reference='c', model={'Name': 'untrained'},
        seed=7, device='cuda', facts=outputs.facts, distance=outputs.distance,
        warnings=outputs.warnings,
    ).run().outputs  # fmt: skip
    for sidecar in (sidecars.mean, sidecars.sd):
        assert sidecar.items() >= outputs.facts.items()
        assert sidecar['Device'] == 'cpu'  # where it ran, not where it was meant to


def test_one_draw_gives_no_sd(synthesise):
    outputs = synthesise(n_samples=1)
    assert not isdefined(outputs.sd)
    assert nb.load(outputs.mean).shape == SHAPE


def test_what_the_model_is_told_and_what_it_warns_of(synthesise, monkeypatch):
    found = {}
    predict = DiffusionPredictor.predict

    def spy(self, images, mask, **options):
        found.update(options)
        prediction = predict(self, images, mask, **options)
        prediction.warnings.append('It went on without the GPU')
        return prediction

    monkeypatch.setattr(DiffusionPredictor, 'predict', spy)
    outputs = synthesise(n_samples=1, seed=5, num_threads=1, memory_gb=0.1)
    assert found == {
        'n_samples': 1, 'seed': 5, 'device': 'cpu', 'threads': 1, 'memory_gb': 0.1
    }  # fmt: skip
    assert outputs.warnings[0] == 'It went on without the GPU'
    assert len(outputs.warnings) == 3  # noise is unlike a scan in both channels
    synthesise(n_samples=1)
    assert found['memory_gb'] is None


def test_a_bundle_exchanged_during_the_run_is_refused(synthesise):
    with pytest.raises(BundleError, match='was replaced while demist was running'):
        synthesise(bundle_sha256='0' * 64)


def test_a_table_without_a_map_of_the_sd(tmp_path):
    tissue, mean = np.ones((4, 4, 4), np.uint8), np.full((4, 4, 4), 7, np.float32)
    for name, data in (('tissue', tissue), ('mean', mean)):
        nb.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / f'{name}.nii')
    outputs = RegionalTable(
        mean=str(tmp_path / 'mean.nii'), tissue=str(tmp_path / 'tissue.nii')
    ).run(cwd=str(tmp_path)).outputs  # fmt: skip
    row = pd.read_csv(outputs.table, sep='\t').set_index('region').loc['CSF']
    assert row['psr_mean'] == 7
    assert np.isnan(row['synthsd_mean'])


@pytest.fixture
def watchful(untrained, tmp_path):
    """A model that was trained on scans like a pair of blobs, one bright and one dark."""
    rng = np.random.default_rng(1)
    mask = np.ones(SHAPE, bool)

    def pair():
        shape = gaussian_filter(rng.standard_normal(SHAPE), 4)
        shape = (shape - shape.min()) / np.ptp(shape)
        level = rng.uniform(0.3, 0.5)
        return np.stack([level + 0.4 * shape, 0.9 - 0.3 * shape]).astype(np.float32)

    tiny = load_preset('tiny')
    preset = replace(tiny, autoencoder=replace(tiny.autoencoder, norm_groups=0))
    torch.manual_seed(0)
    tensors = Demist(preset).tensors()
    metadata = {k: v for k, v in untrained.metadata.items() if k not in ('format', 'sha256')}
    metadata |= {'preset': preset.as_dict()}
    encoder = load_predictor(write_bundle(tmp_path / 'encoder', metadata, tensors, '# card'))

    def seen(images):
        return signature(images, mask) | {'latent': encoder.describe(images, mask)}

    known = learn_outliers([seen(pair()) for _ in range(20)], [str(i) for i in range(20)])
    bundle = write_bundle(tmp_path / 'watchful', metadata | {'outliers': known}, tensors, '# card')
    usual, files = pair(), {}
    for name, volume in (('t1w', usual[0]), ('flair', usual[1]), ('mask', mask.astype(np.uint8))):
        files[name] = str(tmp_path / f'{name}.nii')
        nb.Nifti1Image(volume, np.eye(4)).to_filename(files[name])

    def run(**more):
        model = {'bundle': str(bundle.path), 'bundle_sha256': bundle.sha256}
        return Synthesise(**model, **(files | more), n_samples=1).run(cwd=str(tmp_path)).outputs

    return run, files


def test_scans_unlike_those_of_the_training_raise_an_alarm_that_says_why(watchful):
    run, files = watchful
    usual = run()
    assert usual.facts['OutlierAlarm'] is False
    assert usual.facts['OutlierScores']['latent'] < usual.facts['OutlierThreshold']
    assert usual.warnings == []
    exchanged = run(t1w=files['flair'], flair=files['t1w'])
    assert exchanged.facts['OutlierAlarm'] is True
    assert exchanged.facts['OutlierScore'] > exchanged.facts['OutlierThreshold']
    assert exchanged.facts['OutlierScores']['latent'] > usual.facts['OutlierScores']['latent'] + 1
    (warning,) = exchanged.warnings
    assert 'as if they were exchanged' in warning


def test_a_model_without_record_of_its_training_judges_intensities_alone(synthesise):
    outputs = synthesise(n_samples=1)
    assert all('SD from those of the training scans' in words for words in outputs.warnings)
    assert not {name for name in outputs.facts if name.startswith('Outlier')}
