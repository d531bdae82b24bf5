"""Cross-validation folds: whole participants, balanced groups, written down and used again."""

import csv
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from sklearn.model_selection import StratifiedGroupKFold

from demist_app.training.examples import Example

VALIDATION_PARTS = 10
"""One part in so many of the training participants is kept for early stopping."""


class FoldError(ValueError):
    """The cohort cannot be split as asked, or a split would let training data into a test."""


@dataclass(frozen=True)
class Assignment:
    """One line of ``splits.tsv``: the fold in which a unit is tested, counted from 1."""

    unit: str
    participant: str
    group: str
    fold: int


@dataclass(frozen=True)
class Splits:
    """All folds, ordered by unit."""

    assignments: tuple[Assignment, ...]

    @property
    def n_splits(self) -> int:
        """Number of folds."""
        return max(assignment.fold for assignment in self.assignments)

    def select(self, examples: Iterable[Example], fold: int) -> tuple[list[Example], list[Example]]:
        """Part the examples into those a fold trains on and those it is tested on.

        Parameters
        ----------
        examples : iterable of Example
            As checked by `check`.
        fold : int
            1 to `n_splits`.

        Returns
        -------
        training, test : list of Example

        Raises
        ------
        FoldError
            If there is no such fold.
        """
        if not 1 <= fold <= self.n_splits:
            raise FoldError(f'--fold {fold} does not exist: choose 1 to {self.n_splits}')
        tested = {a.unit for a in self.assignments if a.fold == fold}
        examples = list(examples)
        return (
            [example for example in examples if example.name not in tested],
            [example for example in examples if example.name in tested],
        )


def assign(examples: Sequence[Example], n_splits: int, seed: int = 0) -> Splits:
    """Draw folds of whole participants, in which the groups are as frequent as in the cohort.

    Parameters
    ----------
    examples : sequence of Example
        In any order.
    n_splits : int
    seed : int

    Raises
    ------
    FoldError
        If there are fewer participants than folds, or fewer than two folds.
    """
    participants = {example.participant for example in examples}
    if n_splits < 2:
        raise FoldError(f'--n-splits {n_splits} leaves nothing to train on: choose 2 or more')
    if n_splits > len(participants):
        raise FoldError(
            f'--n-splits {n_splits} is more than the {len(participants)} participants with a '
            'measured PSR map: choose fewer folds'
        )
    fold_of = _draw(examples, n_splits, seed)
    return Splits(
        tuple(
            Assignment(e.name, e.participant, e.group, fold_of[e.participant])
            for e in sorted(examples, key=lambda example: example.name)
        )
    )


def check(splits: Splits, examples: Sequence[Example]) -> None:
    """Make sure that the folds are those of this cohort and that nothing is in two of them.

    Raises
    ------
    FoldError
        If a unit has no fold or no scans, if a participant or the same image (by its digest) is
        in two folds, or if a fold leaves fewer than two participants to train on.
    """
    fold_of = {a.unit: a.fold for a in splits.assignments}
    if missing := sorted({example.name for example in examples} - set(fold_of)):
        raise FoldError(
            f'splits.tsv gives no fold to {_some(missing)}: delete it to draw new folds, '
            'and train all of them again'
        )
    if gone := sorted(set(fold_of) - {example.name for example in examples}):
        raise FoldError(
            f'splits.tsv lists {_some(gone)}, of which there are no usable scans: mend them, '
            'or delete splits.tsv to draw new folds'
        )
    owners, images = defaultdict(set), defaultdict(list)
    for example in examples:
        owners[example.participant].add(fold_of[example.name])
        images[example.digest].append(example)
    for participant, folds in sorted(owners.items()):
        if len(folds) > 1:
            raise FoldError(
                f'splits.tsv has participant {participant} in folds {_listed(folds)}: '
                'all units of a participant belong in one'
            )
    for same in images.values():
        if len(folds := {fold_of[example.name] for example in same}) > 1:
            raise FoldError(
                f'{_some([example.name for example in same])} are the same image but in folds '
                f'{_listed(folds)}: take one of them out of the data set '
                'and draw new folds (delete splits.tsv)'
            )
    for fold in range(1, splits.n_splits + 1):
        left = {example.participant for example in examples if fold_of[example.name] != fold}
        if len(left) < 2:
            raise FoldError(
                f'fold {fold} leaves {len(left)} participant to train on, but one is needed for '
                'training and one for early stopping: add participants'
            )


def settle(path: Path, examples: Sequence[Example], n_splits: int, seed: int = 0) -> Splits:
    """Return the folds written in `path`, drawing and writing them if there are none yet.

    Jobs that start at once draw the same folds, so it does not matter which of them writes last.

    Parameters
    ----------
    path : Path
        ``splits.tsv``.
    examples : sequence of Example
    n_splits, seed : int

    Raises
    ------
    FoldError
        As for `assign`, `read` and `check`, and if the file has another number of folds.
    """
    if path.exists():
        splits = read(path)
        if splits.n_splits != n_splits:
            raise FoldError(
                f'{path} has {splits.n_splits} folds, not the {n_splits} of --n-splits: '
                'give the same number, or delete the file and train all folds again'
            )
        check(splits, examples)
        return splits
    splits = assign(examples, n_splits, seed)
    check(splits, examples)
    write(splits, path)
    return splits


def hold_out(training: Sequence[Example], seed: int = 0) -> tuple[list[Example], list[Example]]:
    """Keep a tenth of the participants, one at least, for early stopping.

    Parameters
    ----------
    training : sequence of Example
        What a model may see; its order does not matter.
    seed : int

    Returns
    -------
    training, validation : list of Example
        No participant in both.

    Raises
    ------
    FoldError
        If there is only one participant.
    """
    participants = {example.participant for example in training}
    if len(participants) < 2:
        raise FoldError(
            'there are not two participants to train on, one for training and one for early '
            'stopping: add participants'
        )
    fold_of = _draw(training, min(VALIDATION_PARTS, len(participants)), seed)
    ordered = sorted(training, key=lambda example: example.name)
    return (
        [example for example in ordered if fold_of[example.participant] > 1],
        [example for example in ordered if fold_of[example.participant] == 1],
    )


def write(splits: Splits, path: Path) -> None:
    """Write ``splits.tsv``, whole or not at all."""
    text = io.StringIO()
    lines = csv.writer(text, delimiter='\t', lineterminator='\n')
    lines.writerow(field.name for field in fields(Assignment))
    lines.writerows(astuple(assignment) for assignment in splits.assignments)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}-{os.getpid()}')
    aside.write_text(text.getvalue(), encoding='utf-8')
    aside.replace(path)


def read(path: Path) -> Splits:
    """Read ``splits.tsv``.

    Raises
    ------
    FoldError
        If a column is missing, a fold is not a number from 1 without gaps, or a unit is listed
        twice.
    """
    columns = [field.name for field in fields(Assignment)]
    with path.open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    if not rows or not set(columns) <= set(rows[0]):
        raise FoldError(f'{path} must have lines below the columns {", ".join(columns)}')
    folds = {row['fold'] for row in rows}
    if folds != {str(1 + i) for i in range(len(folds))}:
        raise FoldError(f'{path} must number its folds 1, 2, …, not {_listed(folds)}')
    if twice := [unit for unit, n in Counter(row['unit'] for row in rows).items() if n > 1]:
        raise FoldError(f'{path} lists {_some(twice)} more than once')
    return Splits(
        tuple(
            Assignment(row['unit'], row['participant'], row['group'], int(row['fold']))
            for row in sorted(rows, key=lambda row: row['unit'])
        )
    )


def _draw(examples: Sequence[Example], n_splits: int, seed: int) -> dict[str, int]:
    """Return the fold, from 1, of every participant."""
    ordered = sorted(examples, key=lambda example: example.name)
    participants = [example.participant for example in ordered]
    sizes = Counter({e.participant: e.group for e in ordered}.values())
    groups = [example.group if sizes[example.group] >= n_splits else '' for example in ordered]
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a group too small for every fold is spread as far as it goes
        warnings.filterwarnings('ignore', message='The least populated class')
        tests = [test for _, test in splitter.split(participants, groups, participants)]
    return {participants[i]: fold for fold, test in enumerate(tests, start=1) for i in test}


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _listed(folds: Iterable[object]) -> str:
    return ', '.join(sorted(str(fold) for fold in folds))
