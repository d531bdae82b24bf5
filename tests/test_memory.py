"""The largest memory of a process is its own, and can be forgotten."""

import subprocess
import sys

import numpy as np
import pytest

from demist_app.memory import forget_largest_resident, largest_resident

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
