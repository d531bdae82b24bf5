from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from demist_app.cli import convoy
from demist_app.cli.convoy import Convoy
from demist_app.settings import Execution, Inputs, Processing, Settings, Training
from demist_app.training.examples import write_example
from demist_app.workflows.crossvalidation import Task


@pytest.fixture
def settings(tmp_path):
    return Settings(
        inputs=Inputs(tmp_path / 'bids', tmp_path / 'out', 'group'),
        processing=Processing(),
        execution=Execution(tmp_path / 'work', nprocs=1, omp_nthreads=1, memory_gb=4.0),
        run_uuid='x',
        training=Training(devices=2),
    )


def of_rank(settings, monkeypatch, rank):
    for name, value in (('NTASKS', '2'), ('PROCID', rank), ('JOB_ID', '7'), ('STEP_ID', '0')):
        monkeypatch.setenv(f'SLURM_{name}', value)
    return Convoy(settings)


def test_the_others_hear_in_order_what_to_train(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(convoy, 'PATIENCE', 0.01)
    first, second = (of_rank(settings, monkeypatch, rank) for rank in '01')
    assert first.leads
    assert not second.leads
    examples = [
        write_example(
            tmp_path / name, name, np.ones((1, 2, 16, 16, 16)), np.full((16, 16, 16), k),
            np.ones((16, 16, 16)), participant=name, group='',
        )
        for k, name in enumerate(('sub-1', 'sub-2'))
    ]  # fmt: skip
    tasks = [
        Task('fold-1', (examples[0],), (examples[1],), (examples[0],)),
        Task('final', (examples[1],), (examples[0],)),
    ]
    with ThreadPoolExecutor() as pool:
        heard = pool.submit(list, second.orders())
        for task in (*tasks, None):
            first.tell(task)
        assert heard.result(timeout=10) == [replace(task, test=()) for task in tasks]


def test_one_process_has_nobody_to_tell(settings, monkeypatch, tmp_path):
    monkeypatch.delenv('SLURM_NTASKS', raising=False)
    alone = Convoy(settings)
    alone.tell(None)
    assert alone.leads
    assert not (tmp_path / 'work').exists()
    monkeypatch.setenv('SLURM_PROCID', '3')  # a job array of single processes, say
    monkeypatch.setenv('SLURM_NTASKS', '4')
    assert Convoy(replace(settings, training=Training())).leads
