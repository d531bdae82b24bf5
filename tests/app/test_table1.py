"""The tables and figures of ``benchmarks/table1``, from made-up maps of phantoms."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from demist_app.evaluation.metrics import score
from demist_app.imaging.conform import Grid, resample
from demist_app.imaging.transforms import read_itk
from demist_app.model.bundle import METADATA
from demist_app.workflows.crossvalidation import model_name
from demist_app.workflows.examples import out_of_fold

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
BLUR = {'mean': None, 'unet': 2.0, 'cwdm': 1.4, 'demist': 0.7}
"""Method to the SD (voxels) by which its maps are noise-free PSR blurred; None: 7 % everywhere."""


def made_up(fit, mask, sigma):
    psr = np.full_like(fit, 7.0) if sigma is None else ndimage.gaussian_filter(fit, sigma)
    return psr * mask


def test_folds_are_trained_side_by_side_and_share_the_processors(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    main = importlib.import_module('table1.__main__')
    asked, together = [], threading.Barrier(2, timeout=60)

    def demist(*arguments, log=None):
        words = [str(word) for word in arguments]
        asked.append(words)
        if '--fold' in words:
            together.wait()
        return int('--fold' in words and words[words.index('--fold') + 1] == '2')

    monkeypatch.setattr(main, 'demist', demist)
    monkeypatch.setattr(main.cohort, 'write', lambda *_: [])
    monkeypatch.setattr(main.cohort, 'write_lesions', lambda bids: bids / 'masks')
    monkeypatch.setattr(main.os, 'cpu_count', lambda: 6)
    options = argparse.Namespace(participants=4, resolution=2.0, preset='tiny', jobs=2, folds=2,
                                 methods=['mean', 'demist'], n_samples=2)  # fmt: skip
    assert main.train(tmp_path, options, ['--random-seed', '3']) == 1
    kinds = [words[2] for words in asked]
    assert kinds == ['participant', 'group', 'group', 'group', 'group']
    prepare, *folds, join = asked[1:]
    assert '--prepare' in prepare
    assert all(f'lesions={tmp_path}/bids/masks' in words for words in asked)
    assert {words[words.index('--fold') + 1] for words in folds} == {'1', '2'}
    assert all(words[words.index('--nprocs') + 1] == '3' for words in folds)
    assert not {'--prepare', '--fold', '--nprocs'} & set(join)


@pytest.fixture(scope='module')
def done(phantom, tmp_path_factory):
    """Lay out what demist would have made of a cohort, and write the tables."""
    folder = tmp_path_factory.mktemp('table1')
    (folder / 'bids').symlink_to(phantom)
    groups = pd.read_csv(phantom / 'participants.tsv', sep='\t', index_col=0)['group']
    rows = []
    for path in sorted(phantom.glob('sub-*/ses-*/anat/*_T1w.nii.gz')):
        below, name = path.parent.relative_to(phantom), path.name.removesuffix('_T1w.nii.gz')
        known = phantom / 'derivatives' / 'phantom' / below / name
        measured = phantom / 'derivatives' / 'qmt' / below / f'{name}_space-T1w_desc-qmt_PSRmap'
        t1w = nb.load(path)
        mask, fit, measured = (
            nb.load(f'{start}.nii.gz').get_fdata(dtype=np.float32)
            for start in (f'{known}_space-T1w_desc-brain_mask',
                          f'{known}_space-T1w_desc-fit_PSRmap', measured)
        )  # fmt: skip
        mask = mask > 0
        matrix = read_itk(Path(f'{known}_from-FLAIR_to-T1w_mode-image_desc-truth_xfm.txt'))
        flair = resample(nb.load(str(path).replace('T1w', 'FLAIR')), Grid.of(t1w), matrix)
        images = {
            '_desc-brain_mask': mask,
            '_desc-preproc_T1w': t1w.get_fdata() * mask,
            '_space-T1w_desc-preproc_FLAIR': flair.get_fdata() * mask,
        }
        participant, session = name.split('_')
        for method, sigma in BLUR.items():
            psr = made_up(fit, mask, sigma)
            images[f'_space-T1w_desc-{out_of_fold(method)["desc"]}_PSRmap'] = psr
            facts = {'participant_id': participant, 'session_id': session, 'method': method,
                     'group': groups[participant], 'fold': 1, 'draws': 4}  # fmt: skip
            rows.append(facts | score(psr, measured, mask).columns())
        home = folder / 'demist' / below
        home.mkdir(parents=True)
        for ending, values in images.items():
            image = nb.Nifti1Image(values.astype(np.float32), t1w.affine)
            nb.save(image, home / f'{name}{ending}.nii.gz')
    scores = pd.DataFrame(rows)
    scores.to_csv(folder / 'demist' / 'group_scores.tsv', sep='\t', index=False, na_rep='n/a')
    for method in BLUR:
        path = folder / 'demist' / 'models' / model_name('fold-1', method) / METADATA
        path.parent.mkdir(parents=True)
        stage = {'updates': 40, 'seconds': 90, 'trainable_parameters': 7, 'device': 'a device'}
        stages = {'1a': stage, '2': stage} if method == 'demist' else {method: stage}
        path.write_text(json.dumps({'stages': stages, 'parameters': {'all': 9}}))
    run = subprocess.run(
        [sys.executable, '-m', 'table1', folder, '--tables'],
        env=os.environ | {'PYTHONPATH': str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return folder, scores


def cells(page, section, first):
    """Return a row of a table of the page."""
    text = page.split(f'## {section}\n')[1].split('\n## ')[0]
    (line,) = [line for line in text.splitlines() if line.startswith(f'| {first} |')]
    return line.strip('| ').split(' | ')


@pytest.mark.slow
def test_ours_and_the_papers_numbers_stand_apart(done):
    folder, scores = done
    page = (folder / 'table1.md').read_text('utf-8')
    demist = cells(page, 'Table 1', 'DEMIST')
    ours = scores[scores['method'] == 'demist'].groupby('participant_id')['psnr'].mean()
    assert demist[1].strip('*\\') == f'{ours.mean():.2f} ± {ours.std():.2f}'
    assert demist[1].startswith('**')  # the best, as it was made to be
    assert demist[-3:] == ['25.73 ± 3.56', '0.8867 ± 0.0626', '1.752 ± 3.878']
    assert cells(page, 'Table 1', 'cWDM')[-3] == '24.49 ± 2.87'
    assert cells(page, 'Table 1', 'Regression UNet')[-3:] == ['–'] * 3
    assert 'cWDM is the best baseline here' in page
    assert cells(page, 'What each took', 'DEMIST')[4:6] == ['40 / 80', '1.5 / 3.0']


@pytest.mark.slow
def test_lesions_and_the_distance_to_the_truth(done):
    page = (done[0] / 'table1.md').read_text('utf-8')
    assert cells(page, 'Lesions', 'Mean')[1].startswith('0.500')
    agreement = [float(cells(page, 'Lesions', m)[12]) for m in ('Regression UNet', 'DEMIST')]
    assert agreement[0] < agreement[1] < 1
    noise_free = [
        float(cells(page, 'Noise ceiling', f'brain | {m}')[4])
        for m in ('Mean', 'Regression UNet', 'cWDM', 'DEMIST')
    ]
    assert noise_free == sorted(noise_free, reverse=True)


@pytest.mark.slow
def test_figures_and_all_comparisons(done):
    folder, _ = done
    for name in ('roc', 'examples'):
        text = (folder / f'{name}.svg').read_text('utf-8')
        assert '>DEMIST' in text
        assert '>cWDM' in text
    table = pd.read_csv(folder / 'comparison.tsv', sep='\t')
    assert set(table['reference']) == {'cwdm', 'demist'}
    assert set(table.loc[table['metric'] == 'ncc', 'method']) == {'unet', 'cwdm', 'demist'}
