"""Bad input ends one unit with one sentence; the others finish."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from running import demist


def add_unit(bids: Path, label: str) -> dict[str, Path]:
    """Copy participant 01 under another label and return its scans."""
    source = bids / 'sub-01'
    for path in sorted(source.rglob('*')):
        target = bids / str(path.relative_to(bids)).replace('sub-01', f'sub-{label}')
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    folder = bids / f'sub-{label}' / 'ses-01' / 'anat'
    return {s: folder / f'sub-{label}_ses-01_{s}.nii.gz' for s in ('T1w', 'FLAIR')}


def replace(path: Path, data=None, affine=None) -> None:
    image = nb.load(path)
    data = image.get_fdata(dtype=np.float32) if data is None else data
    nb.Nifti1Image(data, image.affine if affine is None else affine).to_filename(path)


def corrupt(scans):
    scans['T1w'].write_bytes(b'this is not an image' * 100)


def truncated(scans):
    content = scans['FLAIR'].read_bytes()
    scans['FLAIR'].write_bytes(content[: len(content) // 2])


def four_dimensional(scans):
    data = nb.load(scans['FLAIR']).get_fdata(dtype=np.float32)
    replace(scans['FLAIR'], np.stack([data, data], -1))


def not_a_number(scans):
    data = nb.load(scans['T1w']).get_fdata(dtype=np.float32)
    data[10:20] = np.nan
    replace(scans['T1w'], data)


def all_zero(scans):
    replace(scans['FLAIR'], np.zeros(nb.load(scans['FLAIR']).shape, np.float32))


def absurd_affine(scans):
    replace(scans['T1w'], affine=np.diag([400.0, 400.0, 400.0, 1.0]))


def empty_file(scans):
    scans['T1w'].write_bytes(b'')


def text_in_gzip(scans):
    scans['T1w'].write_bytes(gzip.compress(b'hello'))


def tiny(scans):
    data = nb.load(scans['T1w']).get_fdata(dtype=np.float32)
    replace(scans['T1w'], data[:20, :20, :20])


def noise_only(scans):
    shape = nb.load(scans['T1w']).shape
    replace(scans['T1w'], np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32))


BROKEN = {
    'corrupt': (corrupt, 'T1w'),
    'truncated': (truncated, 'FLAIR'),
    'four': (four_dimensional, 'FLAIR'),
    'nan': (not_a_number, 'T1w'),
    'zero': (all_zero, 'FLAIR'),
    'affine': (absurd_affine, 'T1w'),
    'empty': (empty_file, 'T1w'),
    'text': (text_in_gzip, 'T1w'),
    'tiny': (tiny, 'T1w'),
}


def test_broken_scans_are_named_and_the_others_finish(cohort, tmp_path):
    for label, (breaks, _) in BROKEN.items():
        breaks(add_unit(cohort, label))
    add_unit(cohort, 'noflair')['FLAIR'].unlink()
    noise_only(add_unit(cohort, 'noise'))
    other = add_unit(cohort, 'swapped')  # FLAIR of somebody else, on another grid
    shutil.copy(cohort / 'sub-02/ses-01/anat/sub-02_ses-01_FLAIR.nii.gz', other['FLAIR'])
    sidecar = cohort / 'sub-swapped/ses-01/anat/sub-swapped_ses-01_T1w.json'
    sidecar.write_text('{"MagneticFieldStrength": "three", ')

    run = demist(cohort, tmp_path)

    assert run.code == 1, run.text
    status = run.status
    for label in ('01', '02', 'swapped'):
        assert status[f'sub-{label}_ses-01']['status'] == 'done', run.text
        assert list(run.out.glob(f'sub-{label}/ses-01/anat/*desc-synth_PSRmap.nii.gz'))
    for label, (_, suffix) in BROKEN.items():
        row = status[f'sub-{label}_ses-01']
        assert row['status'] == 'failed'
        assert row['step'] == 'anat_preproc_wf.check_inputs'
        # one sentence, no class name, and it names the file
        assert row['reason'].startswith(str(cohort)), row['reason']
        assert f'sub-{label}_ses-01_{suffix}.nii.gz' in row['reason']
        assert not list(run.out.glob(f'sub-{label}/**/*PSRmap*'))
        report = (run.out / f'sub-{label}_ses-01.html').read_text()
        assert f'sub-{label}_ses-01_{suffix}.nii.gz' in report
    assert status['sub-noflair_ses-01']['status'] == 'skipped'
    assert 'no FLAIR' in status['sub-noflair_ses-01']['reason']
    assert status['sub-noise_ses-01']['status'] in ('failed', 'done')
    last = run.text.strip().splitlines()[-1]
    assert last.startswith('demist ended: 14 units')
    assert f'{len(BROKEN) + (status["sub-noise_ses-01"]["status"] == "failed")} failed' in last
    assert not list(run.out.rglob('*.part'))
    assert not list(run.log_dir.glob('staging'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--participant-label', '01', '77'], 'no participant 77'),
        (['--session-label', '09'], 'no session 09'),
        (['--model', 'absent'], 'neither a shipped model'),
        (['--output-spaces', 'MNI152NLin2009cAsym'], 'demist downloads nothing'),
    ],
)
def test_bad_selections_end_in_one_sentence(cohort, tmp_path, options, message):
    run = demist(cohort, tmp_path, *options, env={'TEMPLATEFLOW_HOME': str(tmp_path / 'none')})
    assert run.code == 2
    assert message in run.text
    assert len(run.text.strip().splitlines()) == 1
    assert not run.out.exists()


def test_folders_that_are_no_data_set(tmp_path):
    (tmp_path / 'bids' / 'photos').mkdir(parents=True)
    run = demist(tmp_path / 'bids', tmp_path)
    assert run.code == 2
    assert 'has no dataset_description.json' in run.text
    assert len(run.text.strip().splitlines()) == 1


def test_a_cohort_without_flair_has_nothing_to_process(cohort, tmp_path):
    for path in cohort.rglob('*FLAIR*'):
        path.unlink()
    run = demist(cohort, tmp_path)
    assert run.code == 2
    assert 'nothing to process' in run.text


def test_output_folder_of_another_program_is_left_alone(cohort, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    description = {'Name': 'x', 'BIDSVersion': '1.10.0', 'GeneratedBy': [{'Name': 'fMRIPrep'}]}
    (out / 'dataset_description.json').write_text(json.dumps(description))
    run = demist(cohort, tmp_path)
    assert run.code == 2
    assert 'belongs to fMRIPrep' in run.text
    assert [path.name for path in out.iterdir()] == ['dataset_description.json']


def test_dry_run_writes_nothing(cohort, tmp_path):
    add_unit(cohort, 'noflair')['FLAIR'].unlink()
    before = sorted(tmp_path.rglob('*'))
    run = demist(cohort, tmp_path, '--dry-run')
    assert run.code == 0
    assert '2 units to process' in run.text
    assert 'sub-noflair_ses-01: no FLAIR image' in run.text
    assert 'sha256' in run.text
    assert sorted(tmp_path.rglob('*')) == before
