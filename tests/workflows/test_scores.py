import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from demist_app.model.bundle import Bundle
from demist_app.training.folds import Assignment, Splits
from demist_app.workflows.scores import (
    in_words,
    out_of_fold_scores,
    summarise,
    write_scores,
    write_summary,
)

UNITS = ('sub-01_ses-A', 'sub-01_ses-B', 'sub-02')
SPLITS = Splits(
    (
        Assignment(UNITS[0], 'sub-01', 'patient', 1),
        Assignment(UNITS[1], 'sub-01', 'patient', 1),
        Assignment(UNITS[2], 'sub-02', 'control', 2),
    )
)
MODELS = {1: 'aaa', 2: 'bbb'}


def write_sidecars(out, desc, draws, psnrs):
    for unit, fold, psnr in zip(UNITS, (1, 1, 2), psnrs, strict=True):
        folder = out / unit.replace('_', '/') / 'anat'
        folder.mkdir(parents=True, exist_ok=True)
        main = {'PSNR': psnr, 'SSIM': 0.8, 'MSE': 10 ** (-psnr / 10), 'MAE': 1.0}
        sidecar = {
            'Fold': fold,
            'Model': {'SHA256': MODELS[fold]},
            'Draws': draws,
            'Scores': {'NCC': None, 'SSIM_ERODED': 0.7} | main,
        }
        name = f'{unit}_space-T1w_desc-{desc}_PSRmap.json'
        (folder / name).write_text(json.dumps(sidecar))


@pytest.fixture
def out(tmp_path):
    """Three sidecars: PSNR 20, 22 and 25 dB."""
    write_sidecars(tmp_path, 'outoffold', 8, (20, 22, 25))
    return tmp_path


def test_one_row_per_unit(out):
    scores, missing = out_of_fold_scores(out, SPLITS, MODELS)
    assert missing == {}
    rows = pd.read_csv(write_scores(out, scores), sep='\t', keep_default_na=False)
    assert rows['participant_id'].tolist() == ['sub-01', 'sub-01', 'sub-02']
    assert rows['session_id'].tolist() == ['ses-A', 'ses-B', 'n/a']
    assert rows['psnr'].tolist() == [20, 22, 25]
    assert rows['model_sha256'].tolist() == ['aaa', 'aaa', 'bbb']
    assert rows['method'].tolist() == ['demist'] * 3
    assert rows.columns[5:10].tolist() == ['psnr', 'ssim', 'mse', 'mae', 'ncc']
    assert rows['ncc'].tolist() == ['n/a'] * 3  # as a constant map has it


def test_every_method_has_maps_of_its_own(out):
    write_sidecars(out, 'outoffoldFtldmLora', 1, (10, 11, 12))
    scores, missing = out_of_fold_scores(out, SPLITS, MODELS, 'ftldm+lora')
    assert missing == {}
    assert scores['method'].tolist() == ['ftldm+lora'] * 3
    assert scores['psnr'].tolist() == [10, 11, 12]
    assert out_of_fold_scores(out, SPLITS, MODELS)[0]['psnr'].tolist() == [20, 22, 25]


def test_what_is_missing_has_a_reason(out):
    (out / 'sub-01/ses-A/anat/sub-01_ses-A_space-T1w_desc-outoffold_PSRmap.json').unlink()
    scores, missing = out_of_fold_scores(out, SPLITS, {1: 'another'})
    assert scores.empty
    assert 'does not exist' in missing['sub-01_ses-A']
    assert 'of another model' in missing['sub-01_ses-B']
    assert missing['sub-02'] == 'fold 2 is not trained yet'


def test_maps_of_an_older_version_are_missing(out):
    path = out / 'sub-02/anat/sub-02_space-T1w_desc-outoffold_PSRmap.json'
    sidecar = json.loads(path.read_text())
    del sidecar['Scores']['NCC']
    path.write_text(json.dumps(sidecar))
    scores, missing = out_of_fold_scores(out, SPLITS, MODELS)
    assert scores['psnr'].tolist() == [20, 22]
    assert 'older version of demist' in missing['sub-02']


def test_a_map_of_another_fold_is_not_counted(out):
    swapped = Splits(tuple(replace(a, fold=1) for a in SPLITS.assignments))
    scores, missing = out_of_fold_scores(out, swapped, {1: 'bbb'})
    assert scores.empty  # sub-02 was made by this model, but as its fold 2
    assert set(missing) == set(UNITS)


def test_sessions_of_one_participant_count_once(out):
    mean, sd = summarise(out_of_fold_scores(out, SPLITS, MODELS)[0])['PSNR']
    assert mean == (21 + 25) / 2
    assert sd == pytest.approx(math.sqrt(8))


def test_summary_names_folds_and_definitions(out):
    scores, _ = out_of_fold_scores(out, SPLITS, {1: 'aaa'})
    (out / 'models').mkdir()
    metadata = {
        'description': 'a test [@demist; @ldm].',
        'parameters': {'backbone': 1_000_000, 'streams': 500},
        'stages': {
            '1a': {'updates': 1000, 'seconds': 60.0, 'device': 'CPU, 1 x 2 thread(s)'},
            '2': {'updates': 500, 'seconds': 30.0, 'device': 'CPU, 1 x 2 thread(s)'},
        },
    }
    bundle = Bundle(out / 'models' / 'fold-1', metadata, 'aaa')
    text = write_summary(out, SPLITS, scores, ['fold-1'], {'demist': [bundle]}).read_text()
    assert '- `demist`: a test.\n' in text
    assert '| demist | 1,000,500 | 1,500 | 1.5 | CPU, 1 x 2 thread(s) |' in text
    assert '3 units of 2 participants in 2 folds' in text
    assert '| demist | 1 | 2 | PSNR 21 dB' in text
    assert '| demist | 2 | 1 | not there yet |' in text
    assert 'not measured' in text
    assert in_words(summarise(scores)) in text
