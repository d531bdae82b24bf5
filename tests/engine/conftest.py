"""A graph builder for the engine's tests, and an alarm in place of endless waiting."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import MapNode, Node, Workflow

PATIENCE = 300  # seconds; long enough for any machine, so that only a hang is found


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError(f'no end after {PATIENCE} s')

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Cohort:
    """A workflow with a workflow for each unit; nodes are functions in a chain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.crash_dir = folder / 'crash'
        self.workflow = Workflow('demist_wf', base_dir=str(folder / 'work'))
        self.workflow.config['execution'] = {
            'hash_method': 'content',
            'crashfile_format': 'txt',
            'crashdump_dir': str(self.crash_dir),
        }

    def unit(self, label: str, *functions: Callable[..., Any], **inputs: Any) -> list[Node]:
        """Add a unit: each function gets the output of the one before as its input ``before``."""
        unit = Workflow(f'sub_{label}_wf')
        nodes: list[Node] = []
        for function in functions:
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            node = Node(Function(list(names), ['out'], function), function.__name__)
            for name in set(names) - {'before'}:
                setattr(node.inputs, name, inputs[name])
            unit.add_nodes([node])
            if nodes:
                unit.connect(nodes[-1], 'out', node, 'before')
            nodes.append(node)
        self.workflow.add_nodes([unit])
        return nodes

    def mapped(self, label: str, function: Callable[..., Any], values: list[Any]) -> None:
        """Add a unit that maps a function over values and sums the results."""
        unit = Workflow(f'sub_{label}_wf')
        parts = MapNode(Function(['x'], ['out'], function), 'x', 'parts')
        parts.inputs.x = values
        total = Node(Function(['before'], ['out'], _total), 'total')
        unit.connect(parts, 'out', total, 'before')
        self.workflow.add_nodes([unit])

    def result(self, label: str, name: str) -> Any:
        return Node(Function([], ['out'], _total), name, base_dir=str(
            self.folder / 'work' / 'demist_wf' / f'sub_{label}_wf'
        )).result.outputs.out  # fmt: skip


def _total(before):
    return sum(before)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)
