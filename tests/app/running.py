"""The ``demist`` command, run as a user runs it."""

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, '-m', 'demist_app')


@dataclass(frozen=True)
class Run:
    """What a user sees of one run."""

    out: Path
    work: Path
    code: int
    text: str

    @property
    def log_dir(self) -> Path:
        """Folder of the latest run in this output folder."""
        return max(self.out.glob('logs/2*'), key=lambda path: path.stat().st_mtime_ns)

    @property
    def status(self) -> dict[str, dict[str, str]]:
        with (self.log_dir / 'status.tsv').open() as file:
            return {row['unit']: row for row in csv.DictReader(file, delimiter='\t')}


def arguments(bids: Path, folder: Path, *options: str) -> list[str]:
    """Return the command line of a quick run with outputs below `folder`."""
    return [
        *COMMAND, str(bids), str(folder / 'out'), 'participant', '-w', str(folder / 'work'),
        '--sloppy', '--nprocs', '2', '--omp-nthreads', '1', '--model', 'linear', *options,
    ]  # fmt: skip


def demist(bids: Path, folder: Path, *options: str, env=None, prefix=()) -> Run:
    """Run the command to its end."""
    done = subprocess.run(
        [*prefix, *arguments(bids, folder, *options)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return Run(folder / 'out', folder / 'work', done.returncode, done.stdout + done.stderr)
