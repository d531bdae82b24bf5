"""The soak of ``benchmarks/soak.py``, with few units."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / 'benchmarks' / 'soak.py'


@pytest.mark.slow
def test_every_promise_is_kept_while_something_is_wrong(tmp_path):
    done = subprocess.run(
        [sys.executable, SOAK, tmp_path / 'soak', '--units', '6', '--broken', '2', '--solo', '0'],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '| 6 | 2 and 1 killed (sub-' in done.stdout
