"""nipype's own plugins, chosen with ``--use-plugin``: what they need, and how they end."""

import getpass
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
from nipype.pipeline import plugins
from nipype.pipeline.plugins.slurm import SLURMPlugin

from demist_app.cli.plugin_file import read_plugin
from demist_app.cli.progress import RunProgress
from demist_app.cli.verdict import read_crashes
from demist_app.engine.failures import Failure
from demist_app.settings import Settings, SettingsError

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

SLURM = ('SLURM', 'SLURMGraph')
POLL = 2.0
"""Seconds between two questions to the scheduler."""
PROCESS_GB = 1.0
"""What the libraries of one step take, beside its data."""
_NO_RESULT = 'results file does not exist'
_ENDED = (
    'SLURM ended the job of this step before it was done (time limit, memory or scancel; its '
    'output is in {folder}); run the same command again, finished steps are kept'
)


class PatientSLURM(SLURMPlugin):
    """nipype's plugin, which as it is ends the whole run when one job is killed."""

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        if result and isinstance(result['traceback'], str):  # nipype wants to add lines to it
            result = {**result, 'traceback': result['traceback'].splitlines(keepends=True)}
        return str(super()._report_crash(node, result=result))


@dataclass(frozen=True)
class Plugin:
    """A plugin and its arguments.

    Attributes
    ----------
    name : str
        As nipype knows it, for instance ``SLURM``.
    arguments : dict
        ``plugin_args``.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, out_dir: Path, work_dir: Path) -> Self:
        """Read the file, and check that its plugin can work here.

        Raises
        ------
        SettingsError
            If it names no plugin of nipype, or one that cannot use this machine or these folders.
        """
        name, arguments = read_plugin(path)
        known = sorted(n.removesuffix('Plugin') for n in vars(plugins) if n.endswith('Plugin'))
        if name not in known:
            raise SettingsError(
                f'--use-plugin {path}: nipype has no plugin {name!r}; it has {", ".join(known)}'
            )
        if name in SLURM:
            if not isinstance(arguments.get('sbatch_args', ''), str):
                raise SettingsError(f'--use-plugin {path}: sbatch_args must be one line of text')
            _check_slurm(name, out_dir, work_dir)
        return cls(name, arguments)

    def run(
        self, workflow: 'LiterateWorkflow', settings: Settings, progress: RunProgress
    ) -> Sequence[Failure]:
        """Run a graph to its end; return what failed."""
        arguments = {'status_callback': progress.callback, **self.arguments}
        if self.name not in SLURM:
            return _run(workflow, settings, plugin=self.name, plugin_args=arguments)
        # sbatch finds no name of the user where there is no login
        os.environ.setdefault('LOGNAME', getpass.getuser())
        workflow.config['execution'] |= {
            'poll_sleep_duration': str(POLL),
            'job_finished_timeout': '30',  # seconds a network file system may lag behind
        }
        self._ask_for_resources(workflow, settings)
        before = _reports(workflow)
        with _cancelled_if_interrupted(settings.run_uuid):
            if self.name == 'SLURM':
                return _run(workflow, settings, plugin=PatientSLURM(plugin_args=arguments))
            graph = workflow.run(plugin=self.name, plugin_args=self.arguments)
            _wait(settings.run_uuid)
        ended = _ENDED.format(folder=_batch(workflow))
        return list(_judge(graph, read_crashes(settings.log_dir), before, ended, progress))

    def _ask_for_resources(self, workflow: 'LiterateWorkflow', settings: Settings) -> None:
        """Have the job of every step ask for what the step needs; what the file says goes first."""
        wanted = self.arguments.get('sbatch_args', '')
        # a job whose predecessor failed would wait for ever; nipype's other plugin submits no such
        # job, and takes the "-o" in this option for a log file
        doomed = '--kill-on-invalid-dep=yes ' if self.name == 'SLURMGraph' else ''
        for name in workflow.list_node_names():
            node = workflow.get_node(name)
            megabytes = round((node.mem_gb + PROCESS_GB) * 1000)
            node.plugin_args = {
                'sbatch_args': f'--cpus-per-task={node.n_procs} --mem={megabytes}M '
                f'{wanted} {doomed}--comment={settings.run_uuid}',
                'overwrite': True,
            }


def _run(workflow: 'LiterateWorkflow', settings: Settings, **plugin: Any) -> Sequence[Failure]:
    """Run a graph by a plugin that says with crash files only what failed."""
    try:
        workflow.run(**plugin)
    except Exception:
        if not (failures := read_crashes(settings.log_dir)):
            raise
        ended = _ENDED.format(folder=_batch(workflow))
        return [replace(f, message=ended) if _NO_RESULT in f.traceback else f for f in failures]
    return ()


def _check_slurm(name: str, out_dir: Path, work_dir: Path) -> None:
    if not shutil.which('sbatch'):
        raise SettingsError(
            f'--use-plugin: {name} needs the command sbatch, which is not to be found here (inside '
            'a container it never is: there, submit whole runs, see --write-slurm)'
        )
    if '%' in str(out_dir):
        raise SettingsError(
            f'out_dir {out_dir} has a "%" in its name, which nipype\'s plugin {name} cannot pass '
            'on; give another folder, or submit whole runs (see --write-slurm)'
        )
    if shlex.quote(str(work_dir)) != str(work_dir) or '%' in str(work_dir):
        raise SettingsError(
            f'work_dir {work_dir} has characters that nipype cannot pass on to sbatch; '
            'give a folder of letters, digits, "-", "_", "." and "/" with -w'
        )


def _batch(workflow: 'LiterateWorkflow') -> Path:
    """Where nipype puts the scripts of all jobs and what they print."""
    return Path(workflow.base_dir) / workflow.name / 'batch'


def _result(node: Any) -> Path:
    """Name the file that a step leaves when it ends well."""
    return Path(node.output_dir(), f'result_{node.name}.pklz')


def _reports(workflow: 'LiterateWorkflow') -> dict[Path, int]:
    """Return when the last step of each unit ended in an earlier run."""
    folder = Path(workflow.base_dir, workflow.name)
    return {path: path.stat().st_mtime_ns for path in folder.glob('*/report/result_report.pklz')}


def _judge(
    graph: nx.DiGraph,
    crashes: Sequence[Failure],
    before: Mapping[Path, int],
    ended: str,
    progress: RunProgress,
) -> Iterator[Failure]:
    """Tell from what jobs left which steps ended well, for a plugin that only submits them."""
    yield from crashes
    lost = {progress.unit_of(crash.node) for crash in crashes}
    for node in nx.topological_sort(graph):
        if (unit := progress.unit_of(node.fullname)) in lost:
            continue
        path = _result(node)
        # the last step of a unit always runs; of others, the result of an earlier run may do
        if path.exists() and path.stat().st_mtime_ns != before.get(path):
            progress.callback(node, 'end')
        else:
            lost.add(unit)
            yield Failure(node.fullname, unit, ended, ended, None, ())


def _jobs(run_uuid: str) -> list[str]:
    """Return the numbers of the jobs of this run that wait or run."""
    listing = subprocess.run(
        ['squeue', '--me', '--noheader', '--format=%i %k'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return re.findall(rf'^(\S+) {re.escape(run_uuid)}$', listing, re.MULTILINE)


def _wait(run_uuid: str) -> None:
    """Wait until no job of this run is left."""
    left = True
    while left:
        time.sleep(POLL)
        with suppress(subprocess.CalledProcessError):  # a busy controller answers the next time
            left = bool(_jobs(run_uuid))


@contextmanager
def _cancelled_if_interrupted(run_uuid: str) -> Iterator[None]:
    """End the jobs of a run that is stopped, so that none writes while the next run does."""
    try:
        yield
    except BaseException:
        if jobs := _jobs(run_uuid):
            subprocess.run(['scancel', *jobs], check=False)
        raise
