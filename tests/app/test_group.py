"""The group level as a user runs it, with a training that takes no time."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import fake_training
import nibabel as nb
import numpy as np
import pytest
from running import COMMAND, Run

from demist_app.model.bundle import load_bundle, write_bundle

UNITS = [f'sub-0{n}_ses-01' for n in range(1, 5)]


FAKE = (sys.executable, fake_training.__file__)


def group(bids: Path, folder: Path, *options: str, env=None, program=FAKE) -> Run:
    command = [
        *program, str(bids), str(folder / 'out'), 'group',
        '-w', str(folder / 'work'), '--n-splits', '2', '--preset', 'tiny', '--sloppy',
        '--nprocs', '2', '--omp-nthreads', '1', *options,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | (env or {}),
        check=False,
    )
    return Run(folder / 'out', folder / 'work', done.returncode, done.stdout + done.stderr)


def out_of_fold(run: Run, unit: str) -> Path:
    folder = run.out / unit.replace('_', '/') / 'anat'
    return folder / f'{unit}_space-T1w_desc-outoffold_PSRmap.nii.gz'


def trained(run: Run) -> list[str]:
    return (run.work / 'demist_group' / fake_training.TRAINED).read_text().splitlines()


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter='\t'))


@pytest.fixture(scope='module')
def finished(phantom, tmp_path_factory) -> Run:
    """All folds and the final model."""
    run = group(phantom, tmp_path_factory.mktemp('group'), '--streams', 'adaptive,semantic')
    assert run.code == 0, run.text
    return run


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """What the finished run wrote, free to be changed; its steps are found finished."""
    for name in ('out', 'work'):
        shutil.copytree(getattr(finished, name), tmp_path / name, symlinks=True)
    return tmp_path


def test_every_model_is_trained_once_and_is_a_bundle(finished):
    assert [line.split()[0] for line in trained(finished)] == ['fold-1', 'fold-2', 'final']
    assert all(line.endswith('streams semantic adaptive') for line in trained(finished))
    for name in ('fold-1', 'fold-2', 'final'):
        assert load_bundle(finished.out / 'models' / name).name == name
    final = load_bundle(finished.out / 'models' / 'final').metadata
    assert set(final['metrics']) == {'PSNR', 'SSIM', 'MSE', 'MAE'}
    units = {u['name'] for u in (*final['training_units'], *final['validation_units'])}
    assert units == set(UNITS)


def test_no_map_is_made_by_a_model_that_knows_the_participant(finished):
    bundles = [load_bundle(finished.out / 'models' / f'fold-{k}') for k in (1, 2)]
    folds = {row['unit']: int(row['fold']) for row in table(finished.out / 'models/splits.tsv')}
    assert set(folds) == set(UNITS)
    for unit in UNITS:
        path = out_of_fold(finished, unit)
        sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        bundle = bundles[folds[unit] - 1]
        assert sidecar['Fold'] == folds[unit]
        assert sidecar['Model']['SHA256'] == bundle.sha256
        seen = [*bundle.metadata['training_units'], *bundle.metadata['validation_units']]
        assert len(seen) == 2
        assert unit not in {entry['name'] for entry in seen}
        assert 'synthetic, not measured' in sidecar['Description']
        assert sidecar['Units'] == 'percent'


def test_maps_are_percent_on_the_grid_of_the_t1w(finished, phantom):
    for unit in UNITS:
        psr = nb.load(out_of_fold(finished, unit))
        raw = nb.load(phantom / unit.replace('_', '/') / 'anat' / f'{unit}_T1w.nii.gz')
        assert psr.shape == raw.shape
        np.testing.assert_allclose(psr.affine, raw.affine, atol=1e-4)
        values = psr.get_fdata()[psr.get_fdata() > 0]
        assert 3 < values.mean() < 12


def test_scores_and_summary(finished):
    rows = table(finished.out / 'group_scores.tsv')
    assert [f'{row["participant_id"]}_{row["session_id"]}' for row in rows] == UNITS
    assert [row['group'] for row in rows] == ['patient', 'patient', 'control', 'patient']
    assert all(10 < float(row['psnr']) < 29 for row in rows)
    mean = np.mean([float(row['psnr']) for row in rows])
    assert f'PSNR {mean:.4g} ±' in (finished.out / 'models' / 'README.md').read_text()
    assert f'PSNR {mean:.4g} ±' in finished.text
    assert finished.text.rstrip().endswith('demist ended: 4 units: 4 done')


def test_regions_are_compared_and_the_page_shows_cases(finished):
    sidecars = sorted(finished.out.rglob('*_desc-outoffold_PSRmap.json'))
    assert len(sidecars) == 4
    for path in sidecars:
        told = json.loads(path.read_text())
        regions = told['Regions']
        assert set(told['Calibration']['Regions']) == {'brain', *regions}
        assert 'LesionPairs' not in told  # nobody gave a lesion mask
        assert regions['CSF']['Measured'] < regions['GM']['Measured'] < regions['WM']['Measured']
        assert 200 < regions['WM']['Volume'] < 900
        figure = path.name.replace('_space-T1w', '').replace('.json', '.svg')
        assert (path.parents[1] / 'figures' / figure).exists()
    rows = table(finished.out / 'group_agreement.tsv')
    assert [row['region'] for row in rows] == ['CSF', 'GM', 'WM']
    assert {row['n'] for row in rows} == {'4'}
    rows = table(finished.out / 'group_calibration.tsv')
    assert [row['region'] for row in rows] == ['brain', 'CSF', 'GM', 'WM']
    assert all(0 < float(row['coverage_50']) < float(row['coverage_95']) for row in rows)
    page = (finished.out / 'models' / 'evaluation.html').read_text('utf-8')
    assert 'Evaluation of 1 method in 4 participants' in page
    assert 'id="uncertainty"' in page
    assert 'id="lesions"' not in page
    assert page.count('class="dm-figure') == 3


def test_output_is_valid_bids(finished):
    validator = Path(sysconfig.get_path('scripts')) / 'bids-validator-deno'
    done = subprocess.run([validator, finished.out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_rerun_trains_nothing_and_aggregate_joins_what_is_there(copy, phantom):
    before = {path: path.read_bytes() for path in sorted((copy / 'out').rglob('*PSRmap.nii.gz'))}
    scores = (copy / 'out' / 'group_scores.tsv').read_text()
    before_models = [load_bundle(copy / 'out' / 'models' / f'fold-{k}') for k in (1, 2)]
    models = len(trained(Run(copy / 'out', copy / 'work', 0, '')))
    run = group(phantom, copy, '--streams', 'semantic,adaptive')
    assert run.code == 0, run.text
    assert len(trained(run)) == models
    assert {path: path.read_bytes() for path in before} == before

    (copy / 'out' / 'group_scores.tsv').unlink()
    run = group(phantom, copy, '--aggregate')
    assert run.code == 0, run.text
    assert (copy / 'out' / 'group_scores.tsv').read_text() == scores

    other = write_bundle(
        copy / 'out' / 'models' / 'fold-2',
        before_models[1].metadata | {'request': {'recipe': 'another'}},
        before_models[1].tensors(),
        '',
    )
    run = group(phantom, copy, '--aggregate')
    assert run.code == 2
    assert 'were trained with different presets' in run.text

    shutil.rmtree(other.path)
    run = group(phantom, copy, '--aggregate')
    assert run.code == 1
    assert 'fold 2 is not trained yet' in run.text
    assert {row['fold'] for row in table(copy / 'out' / 'group_scores.tsv')} == {'1'}


def test_other_methods_are_compared_on_the_same_folds(copy, phantom):
    models = copy / 'out' / 'models'
    before = trained(Run(copy / 'out', copy / 'work', 0, ''))
    of_demist = (copy / 'out' / 'group_scores.tsv').read_text()
    options = ['--streams', 'semantic,adaptive', '--method', 'unet', 'demist', 'ftldm+lora']
    run = group(phantom, copy, *options)
    assert run.code == 0, run.text
    new = trained(run)[len(before) :]
    assert [line.split()[0] for line in new] == [
        'unet/fold-1', 'ftldm+lora/fold-1', 'unet/fold-2', 'ftldm+lora/fold-2', 'unet/final',
    ]  # fmt: skip

    rows = table(run.out / 'group_scores.tsv')
    assert Counter(row['method'] for row in rows) == {'demist': 4, 'unet': 4, 'ftldm+lora': 4}
    assert [list(row.values()) for row in rows if row['method'] == 'demist'] == [
        line.split('\t') for line in of_demist.splitlines()[1:]
    ]
    folds = {(row['participant_id'], row['fold']) for row in rows}
    assert len(folds) == 4  # whatever the method
    for row in rows:
        of_fold = 'fold-{fold}' if row['method'] == 'demist' else '{method}/fold-{fold}'
        bundle = load_bundle(models / of_fold.format(**row))
        assert bundle.sha256 == row['model_sha256']
        unit = f'{row["participant_id"]}_{row["session_id"]}'
        seen = [*bundle.metadata['training_units'], *bundle.metadata['validation_units']]
        assert unit not in {entry['name'] for entry in seen}
    for desc, method in (('outoffoldUnet', 'unet'), ('outoffoldFtldmLora', 'ftldm+lora')):
        for unit in UNITS:
            folder = run.out / unit.replace('_', '/') / 'anat'
            sidecar = folder / f'{unit}_space-T1w_desc-{desc}_PSRmap.json'
            assert json.loads(sidecar.read_text())['Method'] == method
            assert sidecar.with_suffix('.nii.gz').exists()
    final = load_bundle(models / 'unet' / 'final').metadata['metrics']
    own = [float(row['psnr']) for row in rows if row['method'] == 'unet']
    assert final['PSNR'][0] == pytest.approx(np.mean(own))
    summary = (models / 'README.md').read_text()
    assert '| unet | 1 |' in summary
    assert '`ftldm+lora/fold-2`' in summary
    assert 'out of fold, unet, 4 unit(s): PSNR' in run.text
    validator = Path(sysconfig.get_path('scripts')) / 'bids-validator-deno'
    subprocess.run([validator, run.out], check=True, capture_output=True)

    run = group(phantom, copy, *options, '--no-resume', '--fold', '1')
    assert run.code == 0, run.text
    again = trained(run)[len(before) + len(new) :]
    assert [line.split()[0] for line in again] == ['unet/fold-1', 'fold-1', 'ftldm+lora/fold-1']
    stages = {path.name for path in (run.work / 'demist_group' / 'fold-1').iterdir()}
    assert stages == {'unet', 'stage-demist', 'stage-ftldm+lora'}


def test_one_fold_of_an_array_leaves_out_a_unit_that_cannot_be_read(copy, phantom):
    shutil.rmtree(copy / 'out')
    shutil.copytree(phantom, copy / 'bids')
    scan = copy / 'bids/sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz'
    scan.write_bytes(gzip.compress(b'broken'))
    run = group(copy / 'bids', copy, '--n-splits', '3', '--fold', '1')
    assert run.code == 1, run.text
    folds = {row['unit']: row['fold'] for row in table(run.out / 'models' / 'splits.tsv')}
    assert set(folds) == {*UNITS} - {'sub-02_ses-01'}
    assert scan.name in run.status['sub-02_ses-01']['reason']
    assert {unit for unit in UNITS if out_of_fold(run, unit).exists()} == {
        unit for unit, fold in folds.items() if fold == '1'
    }
    methods = {f'CITATION.{kind}' for kind in ('md', 'bib', 'html')}
    found = {path.name for path in (run.out / 'models').iterdir()}
    assert found == {'splits.tsv', 'fold-1'} | methods
    again = group(copy / 'bids', copy, '--n-splits', '3', '--fold', '1')
    assert (again.code, again.status['sub-02_ses-01']['status']) == (1, 'failed')
    assert len(trained(again)) == 4  # it, and the three of the run that was copied

    run = group(copy / 'bids', copy)  # too few are left
    assert run.code == 2
    assert 'has 3 folds, not the 2 of --n-splits' in run.text


def test_a_training_that_fails_is_named_and_the_other_fold_goes_on(copy, phantom):
    run = group(phantom, copy, env={'FAIL': 'fold-2'})  # all streams: other models
    assert run.code == 1
    folds = {row['unit']: row['fold'] for row in table(copy / 'out' / 'models' / 'splits.tsv')}
    for unit in UNITS:
        row = run.status[unit]
        assert row['status'] == ('failed' if folds[unit] == '2' else 'done')
        assert (row['step'] == 'training fold-2') == (folds[unit] == '2')
    assert 'fold-2 failed: the loss became infinite' in run.text
    names = [line.split()[0] for line in trained(run)]
    assert names == ['fold-1', 'fold-2', 'final', 'fold-1']  # no final model without its scores


def test_dry_run_says_what_would_be_trained(phantom, tmp_path):
    run = group(phantom, tmp_path, '--dry-run', '--no-final', program=COMMAND)
    assert run.code == 0, run.text
    assert '4 units with a measured PSR map' in run.text
    assert 'sub-03_ses-01_space-T1w_desc-qmt_PSRmap.nii.gz, group control, fold ' in run.text
    assert 'fold 2: 2 units to train on, 2 to test' in run.text
    assert 'stage 1c trains one' in run.text
    assert not run.out.exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--n-splits', '5'], 'more than the 4 participants'),
        (['--preset', 'huge'], 'neither one of paper, small, tiny nor a JSON file'),
        (['--streams', 'semantic,telepathic'], 'unknown stream telepathic'),
        (['--aggregate'], 'run the participant level first'),
        (['--method', 'linear', 'telepathy'], 'telepathy is none of mean, linear'),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(phantom, tmp_path, options, message):
    run = group(phantom, tmp_path, *options, program=COMMAND)
    assert run.code == 2
    assert message in run.text
    assert not run.out.exists()


def test_without_measured_maps_there_is_nothing_to_train(phantom, tmp_path):
    bids = tmp_path / 'bids'
    shutil.copytree(phantom, bids, ignore=shutil.ignore_patterns('derivatives'))
    run = group(bids, tmp_path, '--fold', '1', program=COMMAND)
    assert run.code == 2
    assert 'no measured PSR maps to train on' in run.text
    run = group(bids, tmp_path, program=COMMAND)
    assert run.code == 2
    assert 'run the participant level first' in run.text
