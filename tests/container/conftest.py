"""The image that DEMIST_IMAGE names, run by the engine that DEMIST_ENGINE names."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Run

from demist_app.phantom.cohort import write_cohort


@dataclass(frozen=True)
class Image:
    """An image and the command that runs it."""

    engine: str
    name: str

    def command(self, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        return [self.engine, 'run', '--rm', *options, self.name, *arguments]

    def inside(self, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """Return what another program than demist says in the container."""
        program, *rest = arguments
        command = self.command(*rest, options=(*options, '--network=none', '--entrypoint', program))
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def participant(
        self, bids: Path, folder: Path, *arguments: str, options: tuple[str, ...] = ()
    ) -> list[str]:
        """Return the command that processes a data set into the folder ``out`` of `folder`."""
        (folder / 'out').mkdir(parents=True, exist_ok=True)
        volumes = ('-v', f'{bids}:/data:ro', '-v', f'{folder / "out"}:/out')
        return self.command('/data', '/out', 'participant', *arguments, options=options + volumes)

    def demist(
        self, bids: Path, folder: Path, *arguments: str, options: tuple[str, ...] = ()
    ) -> Run:
        """Process a data set to the end."""
        done = subprocess.run(
            self.participant(bids, folder, *arguments, options=options),
            cwd=folder,  # podman leaves a file "oom" where it was started
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Run(folder / 'out', folder / 'out/work', done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope='session')
def image() -> Image:
    engine, name = os.environ.get('DEMIST_ENGINE'), os.environ.get('DEMIST_IMAGE')
    if not engine or not name:
        pytest.skip('no image to test (set DEMIST_IMAGE, and DEMIST_ENGINE to docker or podman)')
    return Image(engine, name)


@pytest.fixture(scope='session')
def quick() -> tuple[str, ...]:
    """Options of a short run of the default model, the same inside and outside a container."""
    return (
        '--participant-label', '01', '--sloppy', '--n-samples', '1', '--nprocs', '2',
        '--omp-nthreads', '1',
    )  # fmt: skip


@pytest.fixture(scope='session')
def phantom(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two participants at 2 mm."""
    return write_cohort(
        tmp_path_factory.mktemp('phantom') / 'bids', 2, seed=5, resolution=2.0, nprocs=2
    )


@pytest.fixture(scope='session')
def default_run(
    image: Image, phantom: Path, quick: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Participant 01, by root and without any option of the engine."""
    run = image.demist(phantom, tmp_path_factory.mktemp('default'), *quick)
    assert run.code == 0, run.text
    return run
