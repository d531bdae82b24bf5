"""A participant-level run with a diffusion model."""

import json

import nibabel as nb
import numpy as np
import pytest
import torch
from running import demist

from demist_app.model.bundle import find_bundle, load_bundle, write_bundle
from demist_app.model.demist import Demist
from demist_app.model.presets import load_preset


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """An untrained model: its maps look like nothing, but they are made like any other."""
    torch.manual_seed(0)
    preset = load_preset('tiny')
    metadata = {
        'name': 'untrained',
        'network': 'demist',
        'version': '1',
        'description': 'a model that was never trained.',
        'training_data': 'nothing',
        'preset': preset.as_dict(),
        'intensity_reference': load_bundle(find_bundle('linear')).metadata['intensity_reference'],
    }
    folder = tmp_path_factory.mktemp('models') / 'untrained'
    return write_bundle(folder, metadata, Demist(preset).tensors(), '# card')


def test_a_diffusion_model_runs_from_scans_to_report(phantom, bundle, tmp_path):
    options = ('--participant-label', '03', '--n-samples', '2', '--resource-monitor')
    run = demist(phantom, tmp_path, '--model', str(bundle.path), *options)
    assert run.code == 0, run.text
    folder = run.out / 'sub-03/ses-01/anat'
    mask = np.asarray(nb.load(folder / 'sub-03_ses-01_desc-brain_mask.nii.gz').dataobj) > 0
    for desc in ('synth', 'synthsd'):
        stem = f'sub-03_ses-01_space-T1w_desc-{desc}_PSRmap'
        values = nb.load(folder / f'{stem}.nii.gz').get_fdata()
        assert not values[~mask].any()
        assert (values[mask] > 0).mean() > 0.9
        sidecar = json.loads((folder / f'{stem}.json').read_text())
        assert sidecar['Model']['SHA256'] == bundle.sha256
        assert {'Draws': 2, 'SamplingSteps': 4, 'Window': 'whole brain'}.items() <= sidecar.items()
        assert sidecar['Device'] == 'cpu' or sidecar['Device'].startswith('cuda')
    assert 'mean of 2 draws, sampled by dpmpp_2m' in (run.out / 'logs/CITATION.md').read_text()
    report = (run.out / 'sub-03_ses-01.html').read_text()
    assert 'dpmpp_2m, 4 steps, whole brain' in report
    assert 'Standard deviation over 2 draws' in report
