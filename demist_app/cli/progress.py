"""What is running now: live bars on a terminal, plain lines elsewhere."""

import time
from collections import Counter, defaultdict
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

STEPS = {
    'check_inputs': 'reading the scans',
    'brain_mask': 'brain mask',
    'register_flair': 'FLAIR to T1w',
    'bias_t1w': 'bias field of the T1w',
    'bias_flair': 'bias field of the FLAIR',
    'conform': 'resampling and normalisation',
    'segment_tissue': 'tissue classes',
    'measured_psr': 'measured map to the T1w',
    'synthesise': 'synthesis',
    'score': 'comparison with the measured map',
    'to_template': 'registration to the template',
    'regional_table': 'regional table',
    'report': 'report',
}
"""Steps worth a line of their own; the others are named by their node on a terminal only."""


class RunProgress:
    """Follows the nodes of a run by unit; its `callback` is nipype's ``status_callback``.

    Parameters
    ----------
    console : Console
    units : dict of str to str
        Name of a unit's workflow to the label of the unit.
    steps : Counter
        Number of nodes by label.
    """

    def __init__(self, console: Console, units: dict[str, str], steps: Counter[str]) -> None:
        self.console = console
        self.units = units
        self.finished: set[str] = set()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._since: dict[str, float] = {}
        self._live = Progress(
            TextColumn('[bold]{task.description}'),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[step]}'),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {
            label: self._live.add_task(
                label, total=steps[label], step='', start=False, visible=False
            )
            for label in units.values()
        }
        self._total = self._live.add_task(
            f'{len(units)} unit{"s" if len(units) > 1 else ""}', total=steps.total(), step=''
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def callback(self, node: Any, status: str) -> None:
        """Take note of a node that starts, ends or fails."""
        label = self.unit_of(node.fullname)
        if label is None:
            return
        step = STEPS.get(node.name)
        task = self._tasks[label]
        if status == 'start':
            self._since[node.fullname] = time.monotonic()
            if not self._live.tasks[task].started:
                self._live.start_task(task)
                self._live.update(task, visible=True)
            self._live.update(task, step=step or node.name.replace('_', ' '))
            if step and not self.console.is_terminal:
                self.console.print(f'{label}: {step}', markup=False, highlight=False)
        else:
            now = time.monotonic()
            self._busy[label] += now - self._since.get(node.fullname, now)
            self._live.advance(task)
            self._live.advance(self._total)
            if node.name == 'report' and status == 'end':
                self.finished.add(label)
            if status == 'exception':
                self._live.update(task, step='[red]failed')
                self.console.print(
                    f'{label}: failed at {step or node.name}', style='red', highlight=False
                )
            elif self._live.tasks[task].finished:
                self._live.update(task, visible=False)

    def unit_of(self, fullname: str) -> str | None:
        """Return the label of the unit a node belongs to."""
        return next((self.units[part] for part in fullname.split('.') if part in self.units), None)

    def seconds(self, label: str) -> float:
        """Return the time the steps of a unit took, waiting for others not included."""
        return self._busy[label]
