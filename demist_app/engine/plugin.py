"""The nipype plugin that runs a graph of steps in parallel and never hangs.

nipype's and niworkflows' own plugins share one pool of processes; when the system kills one of
them, which is what happens when memory runs out, they wait for ever.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import networkx as nx
from nipype.pipeline.engine import MapNode
from nipype.pipeline.plugins.base import PluginBase
from nipype.pipeline.plugins.tools import report_crash
from nipype.utils.misc import str2bool

from demist_app.engine.failures import (
    Failure,
    NodesFailedError,
    explain_death,
    explain_error,
    unit_of,
)
from demist_app.engine.resources import available
from demist_app.engine.schedule import Job, Limits, Schedule
from demist_app.engine.worker import CONTEXT, Outcome, Usage, Workers

logger = logging.getLogger(__name__)


class DemistMultiProc(PluginBase):
    """Run a nipype graph on this machine.

    All nodes run in worker processes, one node a process at a time; workers live as long as the
    run. A node whose worker is killed fails at once, with those that need it; the others go on.
    Of the nodes that could start, those of the unit that comes first in the graph go first, so
    that results appear one unit after another.

    Parameters
    ----------
    plugin_args : mapping, optional
        ``n_procs``, ``memory_gb``
            What all running nodes together may use (default: what `available` finds). A node that
            asks for more waits until the whole of it is free.
        ``n_gpu_procs``
            How many nodes with an input ``use_gpu=True`` run at a time (default: 1).
        ``status_callback``
            Called with a node and ``'start'``, ``'end'`` or ``'exception'``.
        ``preload``
            Names of modules that workers find imported, such as those of the interfaces. The
            imports begin when the plugin is made, beside whatever the caller does next.

    Attributes
    ----------
    usage : dict
        `Usage` of each node that ended, by its full name; set before ``status_callback`` hears
        of the end. A node whose worker died has none.

    Notes
    -----
    Of nipype's configuration, ``stop_on_first_crash`` and all that concerns single nodes is
    obeyed. ``poll_sleep_duration`` and ``local_hash_check`` mean nothing here: the plugin waits
    for events, and workers check the hashes. ``remove_node_directories`` is ignored, as it rules
    out resuming a run. Nodes marked ``run_without_submitting`` run in workers like all others.
    """

    def __init__(self, plugin_args: Mapping[str, Any] | None = None) -> None:
        arguments = dict(plugin_args or {})
        super().__init__(arguments)
        # nipype stores plugin_args in every MapNode, and MapNodes are pickled for the workers
        self.plugin_args = {k: v for k, v in arguments.items() if k != 'status_callback'}
        if not {'n_procs', 'memory_gb'} <= arguments.keys():
            machine = available()
            arguments = {'n_procs': machine.cpus, 'memory_gb': machine.memory_gb} | arguments
        self.limits = Limits(
            arguments['n_procs'], arguments['memory_gb'], arguments.get('n_gpu_procs', 1)
        )
        self.usage: dict[str, Usage] = {}
        CONTEXT.set_forkserver_preload([__name__, *arguments.get('preload', ())])
        forkserver.ensure_running()

    def run(
        self, graph: nx.DiGraph, config: Mapping[str, Mapping[str, Any]], updatehash: bool = False
    ) -> None:
        """Run all nodes of a graph (``Workflow.run`` calls this).

        Parameters
        ----------
        graph : networkx.DiGraph
            Expanded graph of nipype nodes.
        config : mapping
            Sections of nipype's configuration.
        updatehash : bool
            Whether nodes with outdated hashes are taken as they are.

        Raises
        ------
        NodesFailedError
            When all nodes are done that can be done; at once with ``stop_on_first_crash``.
        """
        stop_early = str2bool(config['execution']['stop_on_first_crash'])
        with Workers(config, updatehash) as workers:
            run = _Run(graph, self.limits, workers, self._status_callback, self.usage, stop_early)
            run.to_the_end()
        if run.failures:
            raise NodesFailedError(tuple(run.failures))


class _Run:
    """One pass over one graph."""

    def __init__(
        self,
        graph: nx.DiGraph,
        limits: Limits,
        workers: Workers,
        status_callback: Callable[[Any, str], None] | None,
        usage: dict[str, Usage],
        stop_early: bool,
    ) -> None:
        jobs = _jobs(graph)
        edges = ((jobs[first], jobs[second]) for first, second in graph.edges)
        self.failures: list[Failure] = []
        self._schedule = Schedule(list(jobs.values()), edges, limits)
        self._expanded: set[Job] = set()
        self._workers = workers
        self._tell = status_callback or _say_nothing
        self._usage = usage
        self._stop_early = stop_early
        for job in jobs.values():
            if job.n_procs > limits.n_procs or job.memory_gb > limits.memory_gb:
                logger.warning(
                    '%s asks for %d processors and %.1f GB, but the run has %d and %.1f GB',
                    job.name, job.n_procs, job.memory_gb, limits.n_procs, limits.memory_gb,
                )  # fmt: skip

    def to_the_end(self) -> None:
        while not self._schedule.done:
            while job := self._schedule.start():
                self._begin(job)
            for job, ending in self._workers.endings():
                self._end(job, ending)

    def _begin(self, job: Job) -> None:
        try:
            if job not in self._expanded and (children := _children(job)):
                self._expanded.add(job)
                self._schedule.expand(job, children)
                return
            self._tell(job.node, 'start')
            self._workers.submit(job)
        except Exception:
            error = traceback.format_exc()
            self._fail(job, error, explain_error(error))

    def _end(self, job: Job, ending: Outcome | int) -> None:
        if isinstance(ending, int):
            message = explain_death(job.name, ending)
            self._fail(job, message, message)
            return
        self._usage[job.name] = ending.usage
        if ending.error:
            self._fail(job, ending.error, explain_error(ending.error))
            return
        self._schedule.finish(job)
        self._tell(job.node, 'end')

    def _fail(self, job: Job, error: str, message: str) -> None:
        logger.error('%s failed: %s', job.name, message)
        report = [error] if error == message else [error, '\n', message]
        try:
            crash_file = Path(report_crash(job.node, traceback=report))
        except Exception:  # a full disk, for one; the rest of the run must not depend on it
            logger.exception('the crash report of %s could not be written', job.name)
            crash_file = None
        dropped = self._schedule.fail(job)
        self.failures.append(
            Failure(
                node=job.name,
                unit=unit_of(job.name),
                message=message,
                traceback=error,
                crash_file=crash_file,
                not_run=tuple(other.name for other in dropped),
            )
        )
        self._tell(job.node, 'exception')
        if self._stop_early:
            raise NodesFailedError(tuple(self.failures))


def _say_nothing(node: Any, status: str) -> None:
    pass


def _jobs(graph: nx.DiGraph) -> dict[Any, Job]:
    """Return a job for each node, ordered by unit (connected part of the graph)."""
    position = {node: number for number, node in enumerate(nx.topological_sort(graph))}
    jobs = {}
    for unit in nx.weakly_connected_components(graph):
        first = min(position[node] for node in unit)
        for node in unit:
            jobs[node] = _job(node, node.fullname, (first, position[node]))
    return jobs


def _children(job: Job) -> list[Job]:
    """Return a job for each part of a MapNode that has several."""
    if not isinstance(job.node, MapNode) or job.node.num_subnodes() < 2:
        return []
    return [
        _job(node, f'{job.name}.{node.name}', (*job.order, number))
        for number, node in enumerate(job.node.get_subnodes())
    ]


def _job(node: Any, name: str, order: tuple[int, ...]) -> Job:
    return Job(node, name, order, node.n_procs, node.mem_gb, node.is_gpu_node())
