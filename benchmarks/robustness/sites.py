"""A site held out entirely: methods trained on one scanner and tested on the other.

The other side of the comparison are the same people in folds that hold both scanners, so that every
method learns from as many people in either.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from launch import demist
from robustness.phantoms import SESSION, write

from demist_app.phantom.cohort import Cohort
from demist_app.training.folds import Assignment, Splits
from demist_app.training.folds import write as write_splits

SEED = 13  # neither that of the held-out phantoms nor that of any training
WITHIN, ACROSS = 'both sites', 'the other site'
FOLDERS = {WITHIN: 'within', ACROSS: 'across'}
"""Who a model is trained on, and its name on disk."""


def fold_of(cohort: Cohort, number: int, split: str) -> int:
    """Return the fold, 1 or 2, in which a participant is tested."""
    site, pair = (number - 1) % 2, (number - 1) // 2
    assert cohort.describe(number).site == 'AB'[site], 'sites alternate'
    return 1 + (site if split == ACROSS else pair % 2)


def splits(cohort: Cohort, split: str) -> Splits:
    """Return the folds of a cohort with one scan of each participant."""
    rows = []
    for number in range(1, cohort.participants + 1):
        who = cohort.describe(number)
        label = f'sub-{who.label}'
        fold = fold_of(cohort, number, split)
        rows.append(Assignment(f'{label}_ses-{SESSION}', label, who.group, fold))
    return Splits(tuple(rows))


def train(
    folder: Path,
    cohort: Cohort,
    methods: Sequence[str],
    preset: Path,
    extra: Sequence[str],
) -> None:
    """Train and score what is not there yet."""
    for split, name in FOLDERS.items():
        out, work = folder / name, folder / f'work-{name}'
        if set(methods) <= set(scores(folder, split).get('method', ())):
            continue
        write(folder / 'bids', cohort, range(1, cohort.participants + 1))
        write_splits(splits(cohort, split), out / 'models' / 'splits.tsv')
        code = demist(
            *(folder / 'bids', out, 'group', '--method', *methods, '--no-final'),
            *('--preset', preset, '--n-splits', '2', '-w', work, *extra),
        )
        if code:
            sys.exit(code)  # without one of its scans a comparison of sites is none
        shutil.rmtree(work)


def scores(folder: Path, split: str) -> pd.DataFrame:
    """Return the scores out of fold, with the site each was tested on; empty before."""
    path = folder / FOLDERS[split] / 'group_scores.tsv'
    if not path.exists():
        return pd.DataFrame()
    found = pd.read_csv(path, sep='\t')
    people = pd.read_csv(folder / 'bids' / 'participants.tsv', sep='\t', index_col=0)
    return found.assign(site=found['participant_id'].map(people['site']))
