"""A run that ``srun`` starts as many processes, to train on several nodes.

The first process leads: it alone prepares the scans, writes bundles and maps. For every model it
tells the others, through files in the work folder, what to train along with it.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bids_layout.dataset import write_whole
from demist_app.settings import Settings, SettingsError
from demist_app.training.examples import Example, read_examples
from demist_app.workflows.crossvalidation import Task

PATIENCE = 0.5
"""Seconds between two looks of a waiting process."""


class Convoy:
    """The processes of one ``srun``; alone without it.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    SettingsError
        If ``srun`` started another number of processes than the training was told of.
    """

    def __init__(self, settings: Settings) -> None:
        environment = os.environ
        training = settings.training
        step = [
            environment.get(f'SLURM_{key}', '0') for key in ('JOB_ID', 'STEP_ID', 'RESTART_COUNT')
        ]
        processes = training.devices * training.num_nodes
        started = int(environment.get('SLURM_STEP_NUM_TASKS', '1'))
        if started not in (1, processes):
            raise SettingsError(
                f'srun started {started} processes, but --devices {training.devices} and '
                f'--num-nodes {training.num_nodes} make {processes}; give as many'
            )
        self.together = processes > 1 and 'SLURM_NTASKS' in environment
        if self.together:  # Lightning wants it, and "srun -n" does not set it
            environment.setdefault('SLURM_NTASKS_PER_NODE', str(training.devices))
        self.leads = not self.together or environment.get('SLURM_PROCID', '0') == '0'
        self._folder = settings.execution.work_dir / 'demist_group' / f'.step-{"-".join(step)}'
        self._told = 0

    def tell(self, task: Task | None) -> None:
        """Tell the others what to train next; None: that all is done."""
        if not self.together:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        order = task and {
            'name': task.name,
            'training': [str(example.path) for example in task.training],
            'validation': [str(example.path) for example in task.validation],
        }
        write_whole(self._folder / f'{self._told}.json', json.dumps(order))
        self._told += 1

    def orders(self) -> Iterator[Task]:
        """Wait for what the first process tells, and yield it."""
        number = 0
        while True:
            path = self._folder / f'{number}.json'
            while not path.exists():
                time.sleep(PATIENCE)
            order = json.loads(path.read_text('utf-8'))
            if order is None:
                return
            yield Task(order['name'], _read(order['training']), _read(order['validation']))
            number += 1


def _read(paths: list[str]) -> tuple[Example, ...]:
    # every unit has a store of its own
    return tuple(example for path in paths for example in read_examples(Path(path).parent))
