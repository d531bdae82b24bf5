"""Running demist."""

import subprocess
import sys
from pathlib import Path

SOME_FAILED = 1  # its exit code; what is done counts
ROOT = Path(__file__).resolve().parents[2]


def demist(*arguments: str | Path) -> int:
    """Run demist from the root of the repository, where presets find their baselines."""
    command = [sys.executable, '-m', 'demist_app', *map(str, arguments)]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code not in (0, SOME_FAILED):
        sys.exit(code)
    return code
