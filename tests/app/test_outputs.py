"""What a finished run leaves behind."""

import csv
import hashlib
import json
import subprocess
import sysconfig
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from running import demist

from demist_app.model.bundle import find_bundle, load_bundle
from demist_app.settings import Settings

UNITS = ('sub-01_ses-01', 'sub-02_ses-01')
PER_UNIT = (
    'desc-preproc_T1w.nii.gz',
    'desc-preproc_T1w.json',
    'space-T1w_desc-preproc_FLAIR.nii.gz',
    'space-T1w_desc-preproc_FLAIR.json',
    'desc-brain_mask.nii.gz',
    'desc-brain_mask.json',
    'from-FLAIR_to-T1w_mode-image_xfm.txt',
    'from-FLAIR_to-T1w_mode-image_xfm.x5',
    'space-T1w_desc-synth_PSRmap.nii.gz',
    'space-T1w_desc-synth_PSRmap.json',
    'space-T1w_desc-synthsd_PSRmap.nii.gz',
    'space-T1w_desc-synthsd_PSRmap.json',
    'desc-synth_psr.tsv',
    'desc-synth_psr.json',
)


def anat(run, unit) -> Path:
    return run.out / unit.replace('_', '/') / 'anat'


def validate(folder: Path) -> None:
    validator = Path(sysconfig.get_path('scripts')) / 'bids-validator-deno'
    done = subprocess.run([validator, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_names_are_those_of_the_design(finished):
    for unit in UNITS:
        names = {path.name for path in anat(finished, unit).iterdir()}
        assert names == {f'{unit}_{rest}' for rest in PER_UNIT}
        assert (finished.out / f'{unit}.html').exists()
    top = {path.name for path in finished.out.iterdir()}
    assert top == {
        'dataset_description.json', '.bidsignore', 'README.md', 'logs', 'sub-01', 'sub-02',
        *(f'{unit}.html' for unit in UNITS),
    }  # fmt: skip
    assert {path.name for path in finished.log_dir.iterdir()} == {
        'settings.json', 'demist.log', 'status.tsv', 'resources.tsv',
    }  # fmt: skip
    assert {path.name for path in finished.log_dir.parent.glob('CITATION*')} == {
        'CITATION.md', 'CITATION.bib', 'CITATION.html',
    }  # fmt: skip


def test_output_and_phantom_are_valid_bids(finished, phantom):
    validate(finished.out)
    validate(phantom)


def test_maps_are_percent_on_the_grid_of_the_t1w(finished, phantom):
    for unit in UNITS:
        folder = anat(finished, unit)
        mean, sd = (
            nb.load(folder / f'{unit}_space-T1w_desc-{desc}_PSRmap.nii.gz')
            for desc in ('synth', 'synthsd')
        )
        mask = np.asarray(nb.load(folder / f'{unit}_desc-brain_mask.nii.gz').dataobj) > 0
        t1w = nb.load(folder / f'{unit}_desc-preproc_T1w.nii.gz')
        for image in (mean, sd):
            assert image.shape == t1w.shape
            np.testing.assert_allclose(image.affine, t1w.affine, atol=1e-4)
            assert image.get_data_dtype() == np.float32
            assert not image.get_fdata()[~mask].any()
        assert 3 < mean.get_fdata()[mask].mean() < 12
        assert mean.get_fdata().min() >= 0
        assert mean.get_fdata().max() <= 25
        assert (sd.get_fdata()[mask] > 0).all()


def test_sidecars_say_what_the_map_is(finished):
    bundle = load_bundle(find_bundle('linear'))
    for desc in ('synth', 'synthsd'):
        name = f'{UNITS[0]}_space-T1w_desc-{desc}_PSRmap.json'
        sidecar = json.loads((anat(finished, UNITS[0]) / name).read_text())
        assert 'synthetic, not measured' in sidecar['Description']
        assert sidecar['Units'] == 'percent'
        assert sidecar['Model']['SHA256'] == bundle.sha256
        assert sidecar['Sources'] == [
            'bids:raw:sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz',
            'bids:raw:sub-01/ses-01/anat/sub-01_ses-01_FLAIR.nii.gz',
        ]
        assert {'Draws', 'Sampler', 'RandomSeed', 'SkullStripped'} <= set(sidecar)


def test_lesions_are_compared_with_white_matter_and_with_the_scans(finished):
    for unit in UNITS:
        name = f'{unit}_space-T1w_desc-synth_PSRmap.json'
        pairs = json.loads((anat(finished, unit) / name).read_text())['LesionPairs']
        of_sd = (anat(finished, unit) / name.replace('-synth_', '-synthsd_')).read_text()
        assert 'LesionPairs' not in json.loads(of_sd)
        assert len(pairs['Volume']) > 3
        assert min(pairs['Volume']) >= 0.027
        dark, bright = (np.array(pairs[image], float) for image in ('Synthetic', 'FLAIR'))
        assert np.nanmean(dark[:, 0] - dark[:, 1]) < 0 < np.nanmean(bright[:, 0] - bright[:, 1])
        assert pairs['VoxelAUC']['FLAIR']['combined'] > 0.7


def test_table_agrees_with_the_map(finished):
    table = anat(finished, UNITS[0]) / f'{UNITS[0]}_desc-synth_psr.tsv'
    with table.open() as file:
        rows = {row['region']: row for row in csv.DictReader(file, delimiter='\t')}
    assert list(rows) == ['CSF', 'cortical GM', 'deep GM', 'WM', 'lesions', 'NAWM']
    white, grey = (float(rows[region]['psr_mean']) for region in ('WM', 'cortical GM'))
    assert white > grey > float(rows['CSF']['psr_mean'])
    mean = nb.load(anat(finished, UNITS[0]) / f'{UNITS[0]}_space-T1w_desc-synth_PSRmap.nii.gz')
    values = mean.get_fdata()[mean.get_fdata() > 0]
    volumes = [float(rows[r]['volume_ml']) for r in ('CSF', 'cortical GM', 'deep GM', 'WM')]
    means = [float(rows[r]['psr_mean']) for r in ('CSF', 'cortical GM', 'deep GM', 'WM')]
    assert np.average(means, weights=volumes) == pytest.approx(values.mean(), rel=0.02)


def test_transform_resamples_the_flair_as_demist_did(finished, phantom):
    """A user with SimpleITK alone gets the FLAIR on the T1w."""
    unit = UNITS[0]
    folder = anat(finished, unit)
    reference = sitk.ReadImage(str(folder / f'{unit}_desc-preproc_T1w.nii.gz'))
    flair = sitk.ReadImage(
        str(phantom / 'sub-01/ses-01/anat' / f'{unit}_FLAIR.nii.gz'), sitk.sitkFloat32
    )
    transform = sitk.ReadTransform(str(folder / f'{unit}_from-FLAIR_to-T1w_mode-image_xfm.txt'))
    theirs = sitk.GetArrayFromImage(sitk.Resample(flair, reference, transform))
    ours = sitk.GetArrayFromImage(
        sitk.ReadImage(str(folder / f'{unit}_space-T1w_desc-preproc_FLAIR.nii.gz'))
    )
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f'{unit}_desc-brain_mask.nii.gz')))
    # apart from the bias field, a slow factor near one
    assert np.corrcoef(theirs[mask > 0], ours[mask > 0])[0, 1] > 0.9


def test_report_is_one_file_that_says_synthetic(finished):
    text = (finished.out / f'{UNITS[0]}.html').read_text()
    assert 'ynthetic, not measured' in text
    assert 'http-equiv="Content-Security-Policy"' in text
    assert text.count('<svg') >= 5
    bundle = load_bundle(find_bundle('linear'))
    assert bundle.sha256 in text


def test_status_names_every_unit(finished):
    assert {unit: row['status'] for unit, row in finished.status.items()} == dict.fromkeys(
        UNITS, 'done'
    )
    assert '2 units: 2 done' in finished.text
    assert Settings.from_json((finished.log_dir / 'settings.json').read_text())


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob('sub-*/**/anat/*'))
        if path.suffix != '.x5'  # HDF5 stores the time of writing
    }


def test_alone_or_in_company_again_or_anew_the_bits_are_the_same(finished, phantom, tmp_path):
    """One unit alone, in an empty work folder, with other limits."""
    alone = demist(
        phantom, tmp_path, '--participant-label', '02', '--nprocs', '1',
        '-d', f'qmt={phantom / "derivatives/qmt"}', f'phantom={phantom / "derivatives/phantom"}',
    )  # fmt: skip
    assert alone.code == 0, alone.text
    expected = {k: v for k, v in checksums(finished.out).items() if k.startswith('sub-02')}
    assert checksums(alone.out) == expected


def test_a_rerun_computes_nothing_again(finished, phantom):
    before = checksums(finished.out)
    run = demist(
        phantom, finished.out.parent, '--participant-label', '01', '02', '--resource-monitor',
        '-d', f'qmt={phantom / "derivatives/qmt"}', f'phantom={phantom / "derivatives/phantom"}',
    )  # fmt: skip
    assert run.code == 0, run.text
    assert checksums(run.out) == before
    log = (run.log_dir / 'demist.log').read_text()
    for step in ('brain_mask', 'register_flair', 'bias_t1w', 'conform', 'synthesise'):
        assert f'Executing "{step}"' not in log
