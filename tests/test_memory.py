"""The largest memory of a process is its own, and can be forgotten; what it frees is used again."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from demist_app.memory import forget_largest_resident, largest_resident, reusing_freed

GREW = 0.4  # GB


@pytest.fixture
def grown() -> float:
    """Fill memory and free it again; return the largest resident set before."""
    forget_largest_resident()
    before = largest_resident()
    np.ones(int(GREW * 1e9 / 8)).sum()
    return before


def test_counts_what_was_freed(grown: float) -> None:
    assert largest_resident() == pytest.approx(grown + GREW, abs=GREW / 4)


def test_forgets(grown: float) -> None:
    forget_largest_resident()
    assert largest_resident() == pytest.approx(grown, abs=GREW / 4)


@pytest.mark.usefixtures('grown')
def test_a_process_does_not_inherit_that_of_its_parent() -> None:
    ask = 'from demist_app.memory import largest_resident; print(largest_resident())'
    told = subprocess.run([sys.executable, '-c', ask], check=True, capture_output=True, text=True)
    assert float(told.stdout) < largest_resident() / 2


FAULTS = """
import resource
import torch
from demist_app.memory import reusing_freed

def faults(arrays):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(arrays):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(10))
with reusing_freed():
    faults(20)  # the first few leave gaps too small for the next
    print(faults(10))
"""


def test_large_arrays_take_over_freed_memory() -> None:
    """Pages the kernel had to find, in a process of its own: here others have left gaps."""
    told = subprocess.run([sys.executable, '-c', FAULTS], check=True, capture_output=True)
    usually, reusing = map(int, told.stdout.split())
    assert usually > 10 * 40e6 / resource.getpagesize() / 2
    assert reusing < usually / 10


def test_freed_memory_is_given_back_at_the_end() -> None:
    def resident() -> float:
        pages = Path('/proc/self/statm').read_text().split()[1]
        return int(pages) * resource.getpagesize() / 1e9

    before = resident()
    with reusing_freed():
        torch.ones(int(GREW * 1e9 / 4))
        assert resident() > before + GREW / 2
    assert resident() < before + GREW / 4


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ctypes.CDLL', lambda _: object())
    with reusing_freed():
        assert torch.ones(3).sum() == 3
