"""A process that runs nipype nodes one after another, and the handle its parent has on it.

Each worker has a pipe of its own to the parent. When one is killed, its pipe closes and only the
node it was running is lost. (A shared pool of processes, `concurrent.futures`' or
`multiprocessing`'s, is lost as a whole or waits for ever.)
"""

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import nipype

from demist_app.engine.configuration import configure
from demist_app.engine.environment import without_secrets
from demist_app.engine.failures import LOST
from demist_app.engine.schedule import Job
from demist_app.memory import forget_largest_resident, largest_resident

CONTEXT = multiprocessing.get_context('forkserver')  # the parent's threads and CUDA stay out of it
RESTART = 2.0  # seconds a killed fork server may take to be seen as dead and replaced
PATIENCE = 10.0  # seconds a process may take to exit once it has nothing to do


@dataclass(frozen=True)
class Usage:
    """What one node used.

    Attributes
    ----------
    seconds : float
        Wall time.
    peak_gb : float
        Largest resident memory of its process in 10^9 bytes, with the libraries loaded there.
    """

    seconds: float
    peak_gb: float


@dataclass(frozen=True)
class Outcome:
    """The end of one node: a traceback if it failed, otherwise None."""

    error: str | None
    usage: Usage


class Workers:
    """The worker processes of one run; leaving the context ends them, at once after an exception.

    Parameters
    ----------
    config : mapping
        Sections of nipype's configuration.
    updatehash : bool
        Whether nodes with outdated hashes are taken as they are.
    """

    def __init__(self, config: Mapping[str, Mapping[str, Any]], updatehash: bool) -> None:
        self._config = {name: dict(section) for name, section in config.items()}
        self._updatehash = updatehash
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end(patience=0 if kind else PATIENCE)

    def submit(self, job: Job) -> None:
        """Send a job to an idle worker, a new one if there is none.

        The nodes that use the GPU share workers of their own, as a process keeps GPU memory for
        itself once it has used some.

        Raises
        ------
        Exception
            If the node cannot be pickled or no process can be started.
        """
        payload = pickle.dumps((job.node, self._updatehash))
        for worker in self._workers:
            if worker.job is None and worker.gpu == job.gpu and worker.process.is_alive():
                break
        else:
            try:
                worker = _Worker(job.gpu, self._config)
            except (OSError, EOFError):  # what starts processes was killed itself; it will be back
                time.sleep(RESTART)
                worker = _Worker(job.gpu, self._config)
            self._workers.append(worker)
        worker.job = job
        with suppress(OSError):  # it died this instant; `endings` will say so
            worker.connection.send_bytes(payload)

    def endings(self) -> Iterator[tuple[Job, Outcome | int]]:
        """Wait until something happens in a busy worker.

        Yields
        ------
        job : Job
        ending : Outcome or int
            The end of its node; or the exit code of its worker, which died.
        """
        sources: dict[Any, tuple[_Worker, Job]] = {}
        for worker in self._workers:
            if worker.job:
                # the sentinel, too: a child of a killed worker may hold its pipe open
                for source in (worker.connection, worker.process.sentinel):
                    sources[source] = worker, worker.job
        ready = wait(list(sources)) if sources else []
        for worker, job in dict.fromkeys(sources[source] for source in ready):
            message = worker.receive()
            if isinstance(message, logging.LogRecord):
                target = logging.getLogger(message.name)
                if target.isEnabledFor(message.levelno):
                    target.handle(message)
            elif isinstance(message, Outcome):
                worker.job = None
                yield job, message
            else:
                self._workers.remove(worker)
                yield job, worker.end(PATIENCE)


class _Worker:
    """The parent's handle on one worker process."""

    def __init__(self, gpu: bool, config: Mapping[str, Mapping[str, Any]]) -> None:
        self.gpu = gpu
        self.job: Job | None = None
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(
            target=_serve,
            args=(
                theirs,
                without_secrets(os.environ),
                config,
                logging.getLogger().getEffectiveLevel(),
            ),
        )
        self.process.start()
        theirs.close()

    def receive(self) -> Outcome | logging.LogRecord | None:
        """Return the next message, None if the process has died."""
        with suppress(OSError, EOFError):
            if self.connection.poll():
                message: Outcome | logging.LogRecord = self.connection.recv()
                return message
        return None

    def end(self, patience: float) -> int:
        """Wait for the process to exit, kill it when patience ends; return its exit code."""
        self.process.join(patience)
        if self.process.exitcode in (None, LOST):
            assert self.process.pid, 'a process that was started has a number'
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()
        self.connection.close()
        assert self.process.exitcode is not None, 'a process that was joined has exited'
        return self.process.exitcode


class _Outbox:
    """The worker's messages to its parent, one at a time: log records and outcomes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def put_nowait(self, message: logging.LogRecord | Outcome) -> None:  # as QueueHandler calls it
        with self._turn:
            self._connection.send(message)


def _serve(
    connection: Connection,
    environment: Mapping[str, str],
    config: Mapping[str, Mapping[str, Any]],
    log_level: int,
) -> None:
    """Run nodes until the pipe closes (body of the worker process)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.clear()  # the fork server's, which holds what must not be written down
    os.environ.update(environment)
    configure(config)
    nipype.logging.update_logging(nipype.config)
    outbox = _Outbox(connection)
    logging.getLogger('nipype').handlers.clear()
    logging.getLogger().handlers[:] = [QueueHandler(outbox)]  # type: ignore[arg-type]
    logging.getLogger().setLevel(log_level)
    logging.captureWarnings(True)
    gc.freeze()  # collecting garbage among the modules costs half a second a node
    while True:
        try:
            payload = connection.recv_bytes()
        except EOFError:
            return
        outbox.put_nowait(_run(payload))


def _run(payload: bytes) -> Outcome:
    gc.collect()
    forget_largest_resident()
    start = time.monotonic()
    error = None
    try:
        node, updatehash = pickle.loads(payload)  # noqa: S301
        node.run(updatehash=updatehash)
    except BaseException:  # a node that calls sys.exit has failed, too
        error = traceback.format_exc()
    return Outcome(error, Usage(time.monotonic() - start, largest_resident()))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent, 'a worker is started by its parent'
    wait([parent.sentinel])
    os._exit(1)
