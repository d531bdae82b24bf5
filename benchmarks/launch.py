"""Running demist, and the command lines of programs that do."""

import argparse
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOME_FAILED = 1  # exit code of demist; what is done counts


def demist(*arguments: str | Path, log: Path | None = None) -> int:
    """Run demist from the root of the repository, where presets find their baselines.

    Parameters
    ----------
    *arguments : str or Path
    log : Path, optional
        To which what it says is appended.
    """
    command = [sys.executable, '-m', 'demist_app', *map(str, arguments)]
    with log.open('a') if log else nullcontext() as said:
        code = subprocess.run(
            command, cwd=ROOT, check=False, stdout=said, stderr=subprocess.STDOUT if log else None
        ).returncode
    if code not in (0, SOME_FAILED):
        sys.exit(code)
    return code


def parse(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line up to ``--``; return what follows, for demist, beside it."""
    own, extra = sys.argv[1:], []
    if '--' in own:
        cut = own.index('--')
        own, extra = own[:cut], own[cut + 1 :]
    return parser.parse_args(own), extra
