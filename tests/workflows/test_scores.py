import json
import math
from dataclasses import replace

import pandas as pd
import pytest

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


@pytest.fixture
def out(tmp_path):
    """Three sidecars: PSNR 20, 22 and 25 dB."""
    for unit, fold, psnr in zip(UNITS, (1, 1, 2), (20, 22, 25), strict=True):
        folder = tmp_path / unit.replace('_', '/') / 'anat'
        folder.mkdir(parents=True)
        sidecar = {
            'Fold': fold,
            'Model': {'SHA256': MODELS[fold]},
            'Draws': 8,
            'Scores': {'PSNR': psnr, 'SSIM': 0.8, 'MSE': 10 ** (-psnr / 10), 'MAE': 1.0},
        }
        name = f'{unit}_space-T1w_desc-outoffold_PSRmap.json'
        (folder / name).write_text(json.dumps(sidecar))
    return tmp_path


def test_one_row_per_unit(out):
    scores, missing = out_of_fold_scores(out, SPLITS, MODELS)
    assert missing == {}
    rows = pd.read_csv(write_scores(out, scores), sep='\t', keep_default_na=False)
    assert rows['participant_id'].tolist() == ['sub-01', 'sub-01', 'sub-02']
    assert rows['session_id'].tolist() == ['ses-A', 'ses-B', 'n/a']
    assert rows['psnr'].tolist() == [20, 22, 25]
    assert rows['model_sha256'].tolist() == ['aaa', 'aaa', 'bbb']


def test_what_is_missing_has_a_reason(out):
    (out / 'sub-01/ses-A/anat/sub-01_ses-A_space-T1w_desc-outoffold_PSRmap.json').unlink()
    scores, missing = out_of_fold_scores(out, SPLITS, {1: 'another'})
    assert scores.empty
    assert 'does not exist' in missing['sub-01_ses-A']
    assert 'of another model' in missing['sub-01_ses-B']
    assert missing['sub-02'] == 'fold 2 is not trained yet'


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
    text = write_summary(out, SPLITS, scores, ['fold-1'], 'Each is a test.').read_text()
    assert '3 units of 2 participants in 2 folds' in text
    assert '| 1 | 2 | PSNR 21 dB' in text
    assert '| 2 | 1 | not there yet |' in text
    assert 'not measured' in text
    assert in_words(summarise(scores)) in text
