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
from demist_app.training.methods import METHODS
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
    """Methods that remember what they were asked."""
    import fake_training

    calls = []

    class Method(fake_training.FakeMethod):
        def train(self, course):
            calls.append((course.work.name, [example.name for example in course.training]))
            return super().train(course)

    for name, method in fake_training.METHODS_IN_TESTS.items():
        monkeypatch.setitem(METHODS, name, Method(name, method.shares_stages))
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


def test_all_methods_get_the_same_scans_and_have_models_of_their_own(
    examples, settings, preset, fake
):
    splits = assign(examples, 2)
    tasks = [fold_task(splits, examples, 1, 0, name) for name in ('demist', 'ftldm+lora', 'unet')]
    assert len({(task.training, task.validation, task.test) for task in tasks}) == 1
    bundles = [train_model(task, preset, settings, Machine(), {}) for task in tasks]
    models, work = settings.inputs.out_dir / 'models', settings.execution.work_dir / 'demist_group'
    assert [bundle.path.relative_to(models).as_posix() for bundle in bundles] == [
        'fold-1', 'ftldm+lora/fold-1', 'unet/fold-1',
    ]  # fmt: skip
    assert [task.work(settings).relative_to(work).as_posix() for task in tasks] == [
        'fold-1', 'fold-1', 'fold-1/unet',
    ]  # fmt: skip
    assert [task.job for task in tasks] == ['fold-1', 'fold-1', 'fold-1/unet']
    assert [finished_model(task, preset, settings) for task in tasks] == bundles
    assert final_task(examples, 0, 'unet').bundle(settings) == models / 'unet' / 'final'


def test_a_model_is_made_anew_where_the_recipe_of_its_method_changes(
    examples, settings, preset, fake, monkeypatch
):
    tasks = [fold_task(assign(examples, 2), examples, 1, 0, name) for name in ('demist', 'unet')]
    for task in tasks:
        train_model(task, preset, settings, Machine(), {})

    class Method(type(METHODS['unet'])):
        def recipe(self, preset):
            return super().recipe(preset) | {'channels': 64}

    monkeypatch.setitem(METHODS, 'unet', Method('unet', shares_stages=False))
    assert finished_model(tasks[0], preset, settings)
    assert finished_model(tasks[1], preset, settings) is None


def test_to_forget_removes_the_stages_of_a_model_alone(examples, settings, preset, fake):
    splits = assign(examples, 2)
    made = [(1, 'demist'), (1, 'ftldm+lora'), (1, 'unet'), (2, 'demist')]
    tasks = [fold_task(splits, examples, fold, 0, method) for fold, method in made]
    work = settings.execution.work_dir / 'demist_group'
    stages = [
        work / 'fold-1' / 'stage-demist',
        work / 'fold-1' / 'stage-ftldm+lora',
        work / 'fold-1' / 'unet' / 'stage-unet',
        work / 'fold-2' / 'stage-demist',
    ]
    for task in tasks:
        train_model(task, preset, settings, Machine(), {})
    assert all(stage.exists() for stage in stages)
    forget(tasks[0], settings)
    assert [stage.exists() for stage in stages] == [False, False, True, True]
    forget(tasks[2], settings)
    assert [stage.exists() for stage in stages] == [False, False, False, True]
    assert all(load_bundle(task.bundle(settings)) for task in tasks)


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
