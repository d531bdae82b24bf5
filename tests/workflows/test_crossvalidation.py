from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demist_app.model.bundle import load_bundle
from demist_app.model.presets import load_preset
from demist_app.settings import Execution, Inputs, Processing, Settings
from demist_app.training.examples import write_example
from demist_app.training.fit import Machine
from demist_app.training.folds import FoldError, assign
from demist_app.workflows import crossvalidation
from demist_app.workflows.crossvalidation import (
    check_unseen,
    final_task,
    finished_model,
    fold_task,
    forget,
    train_model,
)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        inputs=Inputs(tmp_path / 'bids', tmp_path / 'out', 'group'),
        processing=Processing(),
        execution=Execution(tmp_path / 'work', nprocs=1, omp_nthreads=1, memory_gb=4.0),
        run_uuid='x',
    )


@pytest.fixture
def examples(tmp_path):
    """Five participants, the first with two sessions; noise on 16 x 16 x 16 voxels."""
    rng = np.random.default_rng(0)
    names = ['sub-0_ses-A', 'sub-0_ses-B', 'sub-1', 'sub-2', 'sub-3', 'sub-4']
    return [
        write_example(
            tmp_path / 'store',
            name,
            rng.random((1, 2, 16, 16, 16)),
            rng.random((16, 16, 16)) * 20,
            np.ones((16, 16, 16)),
            participant=name.split('_')[0],
            group='patient',
        )
        for name in names
    ]


@pytest.fixture
def fake(monkeypatch):
    """A training that remembers what it was asked."""
    import fake_training

    calls = []

    def train(preset, training, validation, work, **rest):
        calls.append((work.name, [example.name for example in training]))
        return fake_training.train(preset, training, validation, work, **rest)

    monkeypatch.setattr(crossvalidation, 'train', train)
    monkeypatch.setattr(crossvalidation, 'export', fake_training.export)
    return calls


@pytest.fixture
def preset():
    return load_preset('tiny')


def participants(examples):
    return {example.participant for example in examples}


@pytest.mark.parametrize('seed', range(5))
def test_nobody_is_on_two_sides(examples, seed):
    splits = assign(examples, 2, seed)
    for fold in (1, 2):
        task = fold_task(splits, examples, fold, seed)
        sides = [participants(side) for side in (task.training, task.validation, task.test)]
        assert all(sides)
        assert sum(len(side) for side in sides) == len(set.union(*sides)) == 5
    task = final_task(examples, seed)
    assert participants(task.training) | participants(task.validation) == participants(examples)
    assert task.test == ()


def test_a_model_is_made_once_and_made_anew_for_another_question(examples, settings, preset, fake):
    task = fold_task(assign(examples, 2), examples, 1, 0)
    assert finished_model(task, preset, settings) is None
    bundle = train_model(task, preset, settings, Machine(), {})
    assert bundle.path == settings.inputs.out_dir / 'models' / 'fold-1'
    assert finished_model(task, preset, settings) == bundle
    other_seed = replace(settings, processing=Processing(random_seed=1))
    other_streams = replace(preset, streams=replace(preset.streams, active=('spatial',)))
    assert finished_model(task, preset, other_seed) is None
    assert finished_model(task, other_streams, settings) is None
    assert finished_model(replace(task, training=task.training[1:]), preset, settings) is None
    assert fake == [('fold-1', [example.name for example in task.training])]


def test_a_damaged_bundle_is_made_again(examples, settings, preset, fake):
    task = final_task(examples, 0)
    bundle = train_model(task, preset, settings, Machine(), {'PSNR': (20.0, 1.0)})
    assert load_bundle(bundle.path).metadata['metrics']['PSNR'] == [20.0, 1.0]
    with (bundle.path / 'docs' / 'README.md').open('a') as card:
        card.write('edited')
    assert finished_model(task, preset, settings) is None


def test_to_forget_removes_the_model_and_its_checkpoints_alone(examples, settings, preset, fake):
    splits = assign(examples, 2)
    tasks = [fold_task(splits, examples, fold, 0) for fold in (1, 2)]
    for task in tasks:
        train_model(task, preset, settings, Machine(), {})
    forget(tasks[0], settings)
    assert not tasks[0].work(settings).exists()
    assert finished_model(tasks[0], preset, settings) is None
    assert finished_model(tasks[1], preset, settings)


def test_a_model_never_meets_who_it_was_trained_on(examples, settings, preset, fake):
    task = fold_task(assign(examples, 2), examples, 1, 0)
    bundle = train_model(task, preset, settings, Machine(), {})
    check_unseen(bundle, task.test)
    for seen in (*task.training, *task.validation):
        with pytest.raises(FoldError, match=f'was trained on {seen.name}'):
            check_unseen(bundle, [*task.test, seen])
        # the same image under another name, and another scan of the same person
        for guise in ({'participant': 'sub-9'}, {'digest': 'other', 'path': Path()}):
            with pytest.raises(FoldError, match='cannot be scored on it'):
                check_unseen(bundle, [replace(seen, name='sub-9', **guise)])
