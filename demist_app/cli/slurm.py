"""``--write-slurm``: the jobs of a cohort as scripts for SLURM, to read, edit and submit."""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bids_layout.dataset import write_whole
from demist_app import __version__
from demist_app.cli.given import given, quoted
from demist_app.cli.parser import build_parser
from demist_app.cli.plan import GB_PER_STEP
from demist_app.engine.resources import GB, SHARE_FOR_STEPS
from demist_app.settings import Settings, SettingsError

LABELS = 'participants.txt'
MAX_TASKS = 1000
"""SLURM's default ``MaxArraySize`` allows the numbers 0 to 1000."""
CPUS = 4
PROCESS_GB = 2.0
"""What the main process and idle workers take, beside the steps."""
TRAINING_GB = 16.0
UNIT_MINUTES = 60
"""Many times what a participant took with the shipped models."""
PREPARATION_MINUTES = 10
"""The same for one unit of a training cohort, several at a time."""
TRAINING_MINUTES = 24 * 60
"""For the fold of one method."""
MOST_MINUTES = 7 * TRAINING_MINUTES
"""Few clusters let a job run longer; one that was stopped goes on when it is submitted again."""
# shell, not HTML: what is not ours goes through "quote"
_TEMPLATES = Environment(  # noqa: S701
    loader=PackageLoader('boilerplate'),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters['quote'] = lambda value: shlex.quote(str(value))


@dataclass(frozen=True)
class Job:
    """One script and its place in the chain.

    Attributes
    ----------
    name : str
        Also the shell variable that holds the number of the job.
    title : str
        First line of the script.
    options : tuple of str
        For sbatch.
    command : tuple of str
        Arguments of demist; those that the shell must expand are quoted already.
    after : str
        Name of the job it waits for.
    how : str
        Kind of SLURM's dependency.
    labels : Path or None
        List of participants, a line for each task.
    """

    name: str
    title: str
    options: tuple[str, ...]
    command: tuple[str, ...]
    after: str = ''
    how: str = 'afterok'
    labels: Path | None = None
    launcher: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the script."""
        return f'{self.name}.sbatch'


class Scripts:
    """Writes the scripts for one command line.

    Parameters
    ----------
    arguments : sequence of str
        The command line, with ``--write-slurm``.
    settings : Settings
        What it means.

    Raises
    ------
    SettingsError
        If a folder has a name that SLURM or Apptainer cannot be told.
    """

    def __init__(self, arguments: Sequence[str], settings: Settings) -> None:
        options = build_parser().parse_args(arguments)
        self.settings = settings
        self.folder: Path = options.write_slurm.absolute()
        self.image = _image(options.container)
        self.gpu = settings.processing.device.startswith('cuda')
        self.given = tuple(given(options))
        execution, known = settings.execution, options.config_file
        # what was not said is that of this machine, which is not where the jobs will run
        self.cpus = execution.nprocs if options.nprocs or options.low_mem or known else CPUS
        self.memory_gb = execution.memory_gb if options.mem or known else None
        if any(character in str(self.folder) for character in '"\\\n'):
            raise SettingsError(
                f'--write-slurm {self.folder} has characters that SLURM cannot be told in the name '
                'of a log file; give a folder without quotes, backslashes and line breaks'
            )

    def of_participants(self, labels: Sequence[str]) -> str:
        """Write an array with a task for each participant, and the job that joins their results.

        Parameters
        ----------
        labels : sequence of str
            Of the participants, without ``sub-``, at least one.

        Returns
        -------
        str
            What was written and what to do with it, for people.
        """
        per_task = math.ceil(len(labels) / MAX_TASKS)
        lines = [labels[i : i + per_task] for i in range(0, len(labels), per_task)]
        self._write(LABELS, ''.join(f'{" ".join(line)}\n' for line in lines))
        memory = self.memory_gb or self.cpus * GB_PER_STEP + PROCESS_GB
        units = Job(
            'participants',
            f'One task for each line of {LABELS}; a task that is submitted again goes on.',
            (f'--array=1-{len(lines)}', *self._resources(memory, UNIT_MINUTES * per_task)),
            (*self._command('participant', memory), '--participant-label', '"${labels[@]}"'),
            labels=self.folder / LABELS,
        )
        joined = replace(self._aggregate(), after=units.name, how='afterany')
        return self._submittable([units, joined])

    def of_training(self, units: int) -> str:
        """Write the chain that trains: scans, folds as an array, final model and tables.

        Parameters
        ----------
        units : int
            With a measured map.

        Returns
        -------
        str
            What was written and what to do with it, for people.
        """
        training = self.settings.training
        memory = self.memory_gb or max(TRAINING_GB, self.cpus * GB_PER_STEP + PROCESS_GB)
        command = self._command('group', memory)
        distributed = training.devices * training.num_nodes > 1
        minutes = min(TRAINING_MINUTES * len(training.methods), MOST_MINUTES)
        resources = self._resources(memory, minutes, distributed=distributed)
        launcher = ('srun', '--kill-on-bad-exit=1') if distributed else ()
        jobs = [
            Job(
                'prepare',
                'Prepare the scans and draw the folds.',
                self._resources(memory, UNIT_MINUTES + PREPARATION_MINUTES * units, gpus=False),
                (*command, '--prepare'),
            ),
            Job(
                'folds',
                'One task for each fold: train it, and synthesise and score its participants.',
                (f'--array=1-{training.n_splits}', *resources),
                (*command, '--fold', '"${SLURM_ARRAY_TASK_ID}"'),
                after='prepare',
                launcher=launcher,
            ),
            Job(
                'final',
                'Train the final model if it is wanted, and join scores and tables.',
                resources,
                command,
                after='folds',
                launcher=launcher,
            ),
        ]
        return self._submittable(jobs)

    def _aggregate(self) -> Job:
        folders = self.settings.inputs
        command = (
            *quoted([folders.bids_dir, folders.out_dir, 'group', '--aggregate']),
            *quoted([f'--work-dir={self.settings.execution.work_dir}']),
        )
        options = ('--cpus-per-task=1', '--mem=4096M', '--time=60')
        return Job('aggregate', 'Join what the participants left.', options, command)

    def _command(self, level: str, memory_gb: float) -> tuple[str, ...]:
        """Return the arguments of the command line, for the jobs of one level."""
        inputs = self.settings.inputs
        return (
            *quoted([inputs.bids_dir, inputs.out_dir, level]),
            *quoted([f'--work-dir={self.settings.execution.work_dir}']),
            *(f'--nprocs={self.cpus}', f'--mem={memory_gb!r}G'),
            *quoted(self.given),
        )

    def _resources(
        self, memory_gb: float, minutes: int, *, distributed: bool = False, gpus: bool = True
    ) -> tuple[str, ...]:
        """Return what sbatch is asked for; demist takes nine tenths of the memory of a job."""
        devices, nodes = self.settings.training.devices, self.settings.training.num_nodes
        megabytes = math.ceil(memory_gb * GB / SHARE_FOR_STEPS / 2**20)
        options = [f'--mem={megabytes}M', f'--time={minutes}']
        if distributed:
            # as demist counts, per node: each of its processes takes its share
            each = max(1, self.cpus // devices)
            options += [f'--nodes={nodes}', f'--ntasks-per-node={devices}']
            options += [f'--cpus-per-task={each}']
        else:
            options += [f'--cpus-per-task={self.cpus}']
        if self.gpu and gpus:
            options += [f'--gpus-per-node={devices if distributed else 1}']
        return tuple(options)

    def _submittable(self, jobs: Sequence[Job]) -> str:
        folders = self.settings
        for job in jobs:
            text = _TEMPLATES.get_template('slurm_job.sh.j2').render(
                title=job.title,
                version=__version__,
                job=job,
                log=self._log(job),
                image=self.image,
                written=(folders.inputs.out_dir, folders.execution.work_dir),
                lines=[' '.join(self._program(job)), *job.command],
            )
            self._write(job.file, text)
        submit = _TEMPLATES.get_template('slurm_submit.sh.j2').render(jobs=jobs)
        self._write('submit.sh', submit)
        names = ', '.join(job.file for job in jobs)
        return (
            f'wrote {names} and submit.sh to {self.folder}; look at what they ask for, then: '
            f'bash {shlex.quote(str(self.folder / "submit.sh"))} [options of sbatch]'
        )

    def _log(self, job: Job) -> str:
        number = '%A_%a' if any(o.startswith('--array') for o in job.options) else '%j'
        return f'{self.folder}/'.replace('%', '%%') + f'{job.name}-{number}.out'

    def _program(self, job: Job) -> Iterator[str]:
        """Yield the words before the arguments of demist."""
        if job.launcher:
            # since SLURM 22.05 srun does not take it from sbatch
            yield from (*job.launcher, '--cpus-per-task="${SLURM_CPUS_PER_TASK}"')
        if not self.image:
            yield from quoted([sys.executable, '-m', 'demist_app'])
            return
        # under srun a process must see SLURM's variables; what could harm Python is emptied
        clean = ('--env', 'PYTHONPATH=,PYTHONHOME=') if job.launcher else ('--cleanenv',)
        gpu = ('--nv',) if any(o.startswith('--gpus') for o in job.options) else ()
        binds = (word for bind in self._binds() for word in ('-B', bind))
        yield from quoted(['apptainer', 'run', *clean, '--no-home', *gpu, *binds, self.image])

    def _binds(self) -> Iterator[str]:
        """Yield the folders that a container must see, under the names they have outside."""
        inputs, execution = self.settings.inputs, self.settings.execution
        read = [inputs.bids_dir, *inputs.derivatives.values()]
        for word in self.given:
            path = Path(word.partition('=')[2] if word.startswith('--') else '')
            if path.is_absolute() and path.exists():
                read.append(path)
        written = [inputs.out_dir, execution.work_dir]
        if inputs.bids_database_dir:
            written.append(inputs.bids_database_dir)
        for path in dict.fromkeys((*read, *written)):
            if {':', ','} & set(str(path)):
                raise SettingsError(
                    f'{path} has a colon or comma in its name, and Apptainer cannot bind it; '
                    'rename it, or give the path of a link to it'
                )
            yield f'{path}' if path in written else f'{path}:{path}:ro'

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / name, text)


def _image(container: str | None) -> str:
    if container is None or '://' in container:
        return container or ''
    if not Path(container).exists():
        raise SettingsError(
            f'--container {container} does not exist; give an image file, or an address such as '
            'docker://...'
        )
    return str(Path(container).absolute())
