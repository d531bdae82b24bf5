"""Modes and options that change what a run does rather than what it computes."""

import gzip
import shutil
import subprocess

import nibabel as nb
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from running import COMMAND, demist


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run's output, free to be changed."""
    shutil.copytree(finished.out, tmp_path / 'out')
    return tmp_path


def test_reports_only_writes_reports_from_results_that_exist(copy, finished, phantom):
    report = copy / 'out' / 'sub-01_ses-01.html'
    report.unlink()
    run = demist(phantom, copy, '--reports-only', '--participant-label', '01', '03')
    assert run.code == 1
    assert report.read_text() == (finished.out / report.name).read_text()
    assert run.status['sub-01_ses-01']['status'] == 'done'
    assert 'run the participant level first' in run.status['sub-03_ses-01']['reason']


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        (['--boilerplate-only'], {'CITATION.md', 'CITATION.bib', 'CITATION.html'}),
        (['--boilerplate-only', '--md-only-boilerplate'], {'CITATION.md'}),
    ],
)
def test_boilerplate_only_computes_nothing(phantom, tmp_path, options, names):
    run = demist(phantom, tmp_path, *options)
    assert run.code == 0, run.text
    assert {path.name for path in run.out.glob('logs/CITATION*')} == names
    text = (run.out / 'logs/CITATION.md').read_text()
    assert 'synthetic, not measured' in text
    assert '@n4' in text
    assert not list(run.out.glob('sub-*'))


def test_group_joins_the_tables(copy, phantom):
    shutil.copytree(phantom, copy / 'bids', ignore=shutil.ignore_patterns('derivatives'))
    command = [
        *COMMAND, str(copy / 'bids'), str(copy / 'out'), 'group', '-w', str(copy / 'work')
    ]  # fmt: skip
    for options in (['--dry-run'], ['--dry-run', '--aggregate']):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert 'would join' in done.stdout
        assert not list((copy / 'out').glob('group*'))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (copy / 'out' / 'group_psr.tsv').read_text().splitlines()
    assert len(lines) == 1 + 2 * 6
    assert lines[1].startswith('sub-01\tses-01\tCSF\t')


def test_anat_only_graph_and_clean_workdir(phantom, tmp_path):
    options = ('--participant-label', '04', '--anat-only', '--write-graph', '--clean-workdir')
    (tmp_path / 'work').mkdir()
    precious = tmp_path / 'work' / 'thesis.docx'
    precious.write_text('not ours')
    leftover = tmp_path / 'work' / 'demist_wf' / 'sub_04_ses_01_wf' / 'leftover'
    leftover.mkdir(parents=True)
    others = tmp_path / 'work' / 'demist_wf' / 'sub_03_ses_01_wf'
    others.mkdir()
    run = demist(phantom, tmp_path, *options)
    assert run.code == 0, run.text
    assert precious.exists()
    assert not leftover.exists()
    assert others.exists()
    assert not list(run.out.rglob('*PSRmap*'))
    assert list(run.out.rglob('*_desc-preproc_T1w.nii.gz'))
    assert 'synthesise' not in (run.log_dir / 'graph.dot').read_text()
    assert 'brain_mask' in (run.log_dir / 'graph.dot').read_text()


def test_stop_on_first_crash_and_another_plugin(cohort, tmp_path):
    scan = cohort / 'sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz'
    scan.write_bytes(gzip.compress(b'broken'))
    plugin = tmp_path / 'plugin.yml'
    plugin.write_text('plugin: Linear\n')
    run = demist(cohort, tmp_path, '--use-plugin', str(plugin), '--stop-on-first-crash')
    assert run.code == 1
    assert run.status['sub-01_ses-01']['status'] == 'failed'
    assert scan.name in run.status['sub-01_ses-01']['reason']
    assert run.status['sub-02_ses-01']['status'] in ('failed', 'interrupted')


@pytest.mark.slow
def test_template_space(phantom, tmp_path):
    """A TemplateFlow archive that holds one template."""
    folder = tmp_path / 'templateflow' / 'tpl-Test'
    folder.mkdir(parents=True)
    for image, rest in ((load_mni152_template(2), 'T1w'), (load_mni152_brain_mask(2), 'mask')):
        stem = 'tpl-Test_res-01_T1w' if rest == 'T1w' else 'tpl-Test_res-01_desc-brain_mask'
        data = image.get_fdata(dtype=np.float32) * (1000 if rest == 'T1w' else 1)
        nb.Nifti1Image(data, image.affine).to_filename(folder / f'{stem}.nii.gz')
    (folder / 'template_description.json').write_text('{"res": {"01": {"zooms": [2, 2, 2]}}}')
    run = demist(
        phantom, tmp_path, '--participant-label', '02', '--output-spaces', 'Test:res-1',
        '-d', f'phantom={phantom / "derivatives/phantom"}',
        env={'TEMPLATEFLOW_HOME': str(folder.parent)},
    )  # fmt: skip
    assert run.code == 0, run.text
    anat = run.out / 'sub-02/ses-01/anat'
    mask = load_mni152_brain_mask(2).get_fdata() > 0
    psr = nb.load(anat / 'sub-02_ses-01_space-Test_res-1_desc-synth_PSRmap.nii.gz')
    assert psr.shape == mask.shape
    assert not psr.get_fdata()[~mask].any()
    assert np.mean(psr.get_fdata()[mask] > 1) > 0.9
    warp = nb.load(anat / 'sub-02_ses-01_from-T1w_to-Test_mode-image_xfm.nii.gz')
    assert warp.shape == (*mask.shape, 1, 3)
    assert warp.header.get_intent()[0] == 'vector'
    assert 'Standard space' in (run.out / 'sub-02_ses-01.html').read_text()
