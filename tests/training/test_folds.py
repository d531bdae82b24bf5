from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demist_app.training.examples import Example
from demist_app.training.folds import (
    FoldError,
    Splits,
    assign,
    check,
    hold_out,
    read,
    settle,
    write,
)


def cohort(*sizes, group='patient', first=0):
    """One participant for each number of sessions."""
    return [
        Example(
            name=f'sub-{first + i:02}_ses-{j}',
            participant=f'sub-{first + i:02}',
            group=group,
            path=Path('nowhere'),
            digest=f'{first + i}/{j}',
        )
        for i, n in enumerate(sizes)
        for j in range(n)
    ]


@st.composite
def cohorts(draw):
    groups = draw(st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=3))
    examples = []
    for i, sizes in enumerate(groups):
        first = len({example.participant for example in examples})
        examples += cohort(*sizes, group=f'group {i}', first=first)
    return examples


def participants(examples):
    return {example.participant for example in examples}


@settings(deadline=None)
@given(cohorts(), st.integers(2, 6), st.integers(0, 99))
def test_every_fold_tests_somebody_and_nobody_twice(examples, n_splits, seed):
    if n_splits > len(participants(examples)):
        with pytest.raises(FoldError, match=f'--n-splits {n_splits} is more than the'):
            assign(examples, n_splits, seed)
        return
    splits = assign(examples, n_splits, seed)
    assert splits.n_splits == n_splits
    tested = []
    for fold in range(1, n_splits + 1):
        training, test = splits.select(examples, fold)
        assert test
        assert not participants(training) & participants(test)
        assert sorted(e.name for e in training + test) == sorted(e.name for e in examples)
        tested += test
    assert sorted(e.name for e in tested) == sorted(e.name for e in examples)


def test_groups_are_as_frequent_in_every_fold_as_in_the_cohort():
    examples = cohort(*[1] * 20) + cohort(*[1] * 10, group='control', first=20)
    splits = assign(examples, 5)
    counts = Counter((a.fold, a.group) for a in splits.assignments)
    assert counts == {
        (fold, group): n for fold in range(1, 6) for group, n in (('patient', 4), ('control', 2))
    }


def test_folds_depend_on_the_seed_but_not_on_the_order():
    examples = cohort(1, 2, 3, 1, 2, 3, 1, 2)
    assert assign(examples, 3, seed=1) == assign(examples[::-1], 3, seed=1)
    assert len({assign(examples, 3, seed=seed) for seed in range(5)}) > 1


def test_one_fold_is_no_cross_validation():
    with pytest.raises(FoldError, match='--n-splits 1 leaves nothing to train on'):
        assign(cohort(1, 1), 1)


def test_a_fold_that_does_not_exist():
    examples = cohort(1, 1, 1)
    with pytest.raises(FoldError, match='--fold 4 does not exist: choose 1 to 3'):
        assign(examples, 3).select(examples, 4)


def test_splits_survive_the_file(tmp_path):
    path = tmp_path / 'models' / 'splits.tsv'
    splits = assign(cohort(1, 2, 3, group='multiple sclerosis'), 3)
    write(splits, path)
    assert read(path) == splits
    lines = path.read_text().splitlines()
    assert lines[0] == 'unit\tparticipant\tgroup\tfold'
    assert lines[1].startswith('sub-00_ses-0\tsub-00\tmultiple sclerosis\t')
    assert [file.name for file in path.parent.iterdir()] == ['splits.tsv']


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('', 'must have lines below the columns unit, participant, group, fold'),
        ('unit\tfold\nsub-01\t1\n', 'must have lines below the columns'),
        ('unit\tparticipant\tgroup\tfold\n1\t1\tp\t1\n2\t2\tp\t3\n', 'number its folds'),
        ('unit\tparticipant\tgroup\tfold\n1\t1\tp\tone\n', 'number its folds 1, 2, …, not one'),
        ('unit\tparticipant\tgroup\tfold\n1\t1\tp\t1\n1\t1\tp\t2\n', 'lists 1 more than once'),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, complaint):
    path = tmp_path / 'splits.tsv'
    path.write_text(text)
    with pytest.raises(FoldError, match=complaint):
        read(path)


def moved(splits, unit, fold):
    return Splits(tuple(replace(a, fold=fold) if a.unit == unit else a for a in splits.assignments))


def test_a_participant_in_two_folds_is_a_leak():
    examples = cohort(2, 1, 1, 1)
    splits = assign(examples, 2)
    check(splits, examples)
    fold = next(a.fold for a in splits.assignments if a.unit == 'sub-00_ses-0')
    with pytest.raises(FoldError, match='has participant sub-00 in folds 1, 2'):
        check(moved(splits, 'sub-00_ses-0', 3 - fold), examples)


def test_the_same_image_in_two_folds_is_a_leak():
    examples = cohort(1, 1, 1, 1)
    splits = assign(examples, 2)
    first = examples[0]
    of = {a.unit: a.fold for a in splits.assignments}
    other = next(e for e in examples if of[e.name] != of[first.name])
    mate = next(e for e in examples[1:] if of[e.name] == of[first.name])

    def with_digest_of_first(example):
        return [replace(e, digest=first.digest) if e is example else e for e in examples]

    check(splits, with_digest_of_first(mate))
    with pytest.raises(FoldError, match=f'{first.name}, {other.name} are the same image'):
        check(splits, with_digest_of_first(other))


def test_units_that_came_or_went_are_named():
    examples = cohort(1, 1, 1, 1, 1, 1, 1, 1)
    splits = assign(examples[:3], 3)
    with pytest.raises(
        FoldError, match='no fold to sub-03_ses-0, sub-04_ses-0, sub-05_ses-0 and 2 more: delete'
    ):
        check(splits, examples)
    with pytest.raises(FoldError, match='lists sub-02_ses-0, of which there are no usable scans'):
        check(splits, examples[:2])


def test_a_fold_needs_two_participants_to_train_on():
    examples = cohort(1, 1)
    with pytest.raises(FoldError, match='fold 1 leaves 1 participant to train on'):
        check(assign(examples, 2), examples)


def test_folds_are_drawn_once(tmp_path):
    path, examples = tmp_path / 'splits.tsv', cohort(1, 2, 1, 2, 1, 2)
    drawn = settle(path, examples, 3, seed=1)
    assert drawn == assign(examples, 3, seed=1)
    assert settle(path, examples, 3, seed=2) == drawn
    with pytest.raises(FoldError, match='has 3 folds, not the 2 of --n-splits'):
        settle(path, examples, 2)
    with pytest.raises(FoldError, match='no usable scans'):
        settle(path, examples[1:], 3)


def test_folds_with_a_leak_are_not_written(tmp_path):
    path, examples = tmp_path / 'splits.tsv', cohort(1, 1, 1)
    with pytest.raises(FoldError, match='are the same image'):
        settle(path, [replace(example, digest='same') for example in examples], 3)
    assert not path.exists()


@settings(deadline=None)
@given(cohorts(), st.integers(0, 99))
def test_early_stopping_sees_other_participants_than_training(examples, seed):
    if len(participants(examples)) < 2:
        with pytest.raises(FoldError, match='not two participants to train on'):
            hold_out(examples, seed)
        return
    training, validation = hold_out(examples, seed)
    assert training
    assert validation
    assert not participants(training) & participants(validation)
    assert sorted(e.name for e in training + validation) == sorted(e.name for e in examples)
    assert (training, validation) == hold_out(examples[::-1], seed)


def test_a_tenth_is_held_out():
    training, validation = hold_out(cohort(*[1] * 20))
    assert (len(training), len(validation)) == (18, 2)
