"""Which step may start now: order, dependencies and limits, without processes or nipype."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What all running steps together may use.

    Attributes
    ----------
    n_procs : int
        Processors.
    memory_gb : float
    n_gpu_procs : int
        Steps that may use the GPU at a time.
    """

    n_procs: int
    memory_gb: float
    n_gpu_procs: int = 1

    def __post_init__(self) -> None:
        if self.n_procs < 1 or self.n_gpu_procs < 1 or not self.memory_gb > 0:
            raise ValueError(f'a run needs at least one processor, GPU slot and byte, not {self}')


@dataclass(frozen=True, eq=False)
class Job:
    """One step, with what it needs while it runs.

    Attributes
    ----------
    node : object
        What to run; the schedule does not look at it.
    name : str
    order : tuple of int
        Among steps that could start, the smallest goes first.
    n_procs, memory_gb, gpu
        Its needs. A step that needs more than the limits runs alone.
    """

    node: Any
    name: str
    order: tuple[int, ...]
    n_procs: int
    memory_gb: float
    gpu: bool


class Schedule:
    """The state of one run.

    A step starts when everything it needs is done and it fits beside the running steps; a step
    that does not fit lets later ones pass. Each call costs a few dictionary look-ups per affected
    step, so thousands of units are no burden.

    Parameters
    ----------
    jobs : sequence of Job
    edges : iterable of (Job, Job)
        The second needs the first.
    limits : Limits
    """

    def __init__(
        self, jobs: Sequence[Job], edges: Iterable[tuple[Job, Job]], limits: Limits
    ) -> None:
        self._limits = limits
        self._needed_by: dict[Job, list[Job]] = {job: [] for job in jobs}
        self._waits_for = dict.fromkeys(jobs, 0)  # jobs neither started nor dropped
        self._running: set[Job] = set()
        for first, second in edges:
            self._needed_by[first].append(second)
            self._waits_for[second] += 1
        self._ready = sorted(
            (job for job, count in self._waits_for.items() if not count), key=lambda job: job.order
        )

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._waits_for and not self._running

    def start(self) -> Job | None:
        """Return the next step that can start now, and count it as running; None if there is none.

        If nothing runs and the run is not done, there is always one.
        """
        procs = sum(self._procs(job) for job in self._running)
        memory = sum(self._memory(job) for job in self._running)
        gpus = sum(job.gpu for job in self._running)
        if procs == self._limits.n_procs:
            return None
        for position, job in enumerate(self._ready):
            if (
                procs + self._procs(job) <= self._limits.n_procs
                and memory + self._memory(job) <= self._limits.memory_gb
                and gpus + job.gpu <= self._limits.n_gpu_procs
            ):
                del self._ready[position]
                del self._waits_for[job]
                self._running.add(job)
                return job
        return None

    def expand(self, job: Job, children: Sequence[Job]) -> None:
        """Put a running step back until its children, new to the schedule, are done."""
        self._running.remove(job)
        self._waits_for[job] = len(children)
        for child in children:
            self._needed_by[child] = [job]
            self._waits_for[child] = 0
            self._add_ready(child)

    def finish(self, job: Job) -> None:
        """Free what a running step used, and let those start that waited for it."""
        self._running.remove(job)
        for waiting in self._needed_by[job]:
            if waiting in self._waits_for:
                self._waits_for[waiting] -= 1
                if not self._waits_for[waiting]:
                    self._add_ready(waiting)

    def fail(self, job: Job) -> list[Job]:
        """Free what a running step used; drop and return all steps that need it."""
        self._running.remove(job)
        dropped = []
        doomed = [job]
        while doomed:
            for waiting in self._needed_by[doomed.pop()]:
                if waiting in self._waits_for:
                    del self._waits_for[waiting]
                    dropped.append(waiting)
                    doomed.append(waiting)
        return sorted(dropped, key=lambda job: job.order)

    def _add_ready(self, job: Job) -> None:
        bisect.insort(self._ready, job, key=lambda job: job.order)

    def _procs(self, job: Job) -> int:
        return min(job.n_procs, self._limits.n_procs)

    def _memory(self, job: Job) -> float:
        return min(job.memory_gb, self._limits.memory_gb)
