"""A cluster, a cohort, and how jobs are written, submitted and watched."""

import csv
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from demist_app.phantom.cohort import write_cohort

DEMIST = (sys.executable, '-m', 'demist_app')


@dataclass(frozen=True)
class Place:
    """Folders of one test; their names are as unpleasant as names may be."""

    bids: Path
    root: Path
    name: str = "out of 'x' %j"

    @property
    def out(self) -> Path:
        return self.root / self.name

    @property
    def work(self) -> Path:
        return self.root / 'work'

    @property
    def scripts(self) -> Path:
        return self.root / 'jobs $HOME %A é'

    def command(self, level: str, *options: str) -> list[str]:
        folders = [str(self.bids), str(self.out), level, '-w', str(self.work)]
        return [*DEMIST, *folders, '--sloppy', '--nprocs', '1', *options]

    def write(self, level: str, *options: str) -> str:
        """Write the scripts; return what demist says."""
        return self.say(*self.command(level, *options, '--write-slurm', str(self.scripts)))

    def submit(self, *options: str, script: str = '') -> list[str]:
        """Submit all jobs, or one script; return their numbers."""
        if script:
            path = str(self.scripts / f'{script}.sbatch')
            return [self.say('sbatch', '--parsable', *options, path)]
        lines = self.say('bash', str(self.scripts / 'submit.sh'), *options).splitlines()
        return [line.rpartition(' ')[2] for line in lines]

    def runs(self) -> list[dict[str, dict[str, str]]]:
        """Return the content of every status.tsv, oldest first."""
        found = []
        for path in sorted(self.out.glob('logs/2*/status.tsv')):
            with path.open() as file:
                found.append({row['unit']: row for row in csv.DictReader(file, delimiter='\t')})
        return found

    def printed(self) -> str:
        """Return what all jobs printed."""
        return '\n'.join(path.read_text() for path in sorted(self.scripts.glob('*.out')))

    @staticmethod
    def say(*command: str) -> str:
        """Run a command of SLURM and return what it prints."""
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @staticmethod
    def until(what, seconds: float):
        """Wait until `what()` is true, and return it."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, 'nothing happened'
            time.sleep(0.2)
        return found

    def ended(self, *jobs: str, seconds: float = 240) -> None:
        """Wait until jobs are neither waiting nor running."""
        self.until(lambda: not self.say('squeue', '--noheader', '--job', ','.join(jobs)), seconds)


@pytest.fixture(scope='session')
def cluster() -> None:
    """A cluster that answers."""
    if not shutil.which('sbatch'):
        pytest.skip('no SLURM on this machine (apt-get install slurm-wlm munge)')
    if subprocess.run(['sinfo'], capture_output=True, check=False).returncode:
        pytest.skip('no SLURM cluster answers (eval "$(tests/cluster/start.sh)")')


@pytest.fixture(scope='session')
def bids(tmp_path_factory, cluster) -> Path:
    """Four phantoms of 2 mm."""
    out = tmp_path_factory.mktemp('cluster') / 'bids'
    return write_cohort(out, 4, seed=5, resolution=2.0, nprocs=2)


@pytest.fixture
def place(bids, tmp_path) -> Place:
    return Place(bids, tmp_path)


@pytest.fixture(scope='session')
def finished(bids, tmp_path_factory) -> Place:
    """A cohort that an array of jobs has processed and joined."""
    place = Place(bids, tmp_path_factory.mktemp('finished'))
    said = place.write('participant', '--model', 'linear')
    assert 'participants.sbatch, aggregate.sbatch and submit.sh' in said
    place.ended(*place.submit())
    return place
