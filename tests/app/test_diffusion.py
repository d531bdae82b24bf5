"""A participant-level run with a diffusion model."""

import json

import nibabel as nb
import numpy as np
from running import demist


def test_a_diffusion_model_runs_from_scans_to_report(phantom, untrained, tmp_path):
    options = ('--participant-label', '03', '--n-samples', '2', '--resource-monitor')
    run = demist(phantom, tmp_path, '--model', str(untrained.path), *options)
    assert run.code == 0, run.text
    folder = run.out / 'sub-03/ses-01/anat'
    mask = np.asarray(nb.load(folder / 'sub-03_ses-01_desc-brain_mask.nii.gz').dataobj) > 0
    for desc in ('synth', 'synthsd'):
        stem = f'sub-03_ses-01_space-T1w_desc-{desc}_PSRmap'
        values = nb.load(folder / f'{stem}.nii.gz').get_fdata()
        assert not values[~mask].any()
        assert (values[mask] > 0).mean() > 0.9
        sidecar = json.loads((folder / f'{stem}.json').read_text())
        assert sidecar['Model']['SHA256'] == untrained.sha256
        assert {'Draws': 2, 'SamplingSteps': 4, 'Window': 'whole brain'}.items() <= sidecar.items()
        assert sidecar['Device'] == 'cpu' or sidecar['Device'].startswith('cuda')
    assert 'mean of 2 draws, sampled by dpmpp_2m' in (run.out / 'logs/CITATION.md').read_text()
    report = (run.out / 'sub-03_ses-01.html').read_text()
    assert 'dpmpp_2m, 4 steps from 100% noise, whole brain' in report
    assert 'Standard deviation over 2 draws' in report

    # a single draw has no standard deviation: that of the run before must not stand beside it
    mean = folder / 'sub-03_ses-01_space-T1w_desc-synth_PSRmap.nii.gz'
    first = nb.load(mean).get_fdata()
    again = demist(
        phantom, tmp_path, '--model', str(untrained.path), *options[:2], '--n-samples', '1'
    )
    assert again.code == 0, again.text
    assert not np.array_equal(nb.load(mean).get_fdata(), first)
    assert not list(folder.glob('*synthsd*'))
    assert (folder / 'sub-03_ses-01_desc-preproc_T1w.nii.gz').exists()
