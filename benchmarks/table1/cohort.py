"""The phantoms of the table: patients and controls of two sites, two in five of them seen twice."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from demist_app.phantom.cohort import Cohort, simulate
from demist_app.phantom.signals import SITES
from demist_app.phantom.writing import write_dataset, write_session, write_years

SEED = 11  # neither that of the held-out phantoms nor that of any shipped model


def of(number: int, participants: int, resolution: float) -> Cohort:
    """Return the cohort whose participant `number` is the one of the table."""
    return Cohort(participants, SEED, resolution, sessions=2 if number % 5 in (1, 2) else 1)


def write_participant(out: Path, participants: int, resolution: float, number: int) -> str:
    """Write all that there is of one participant, unless it is there."""
    cohort = of(number, participants, resolution)
    who = cohort.describe(number)
    if not (out / f'sub-{who.label}' / f'sub-{who.label}_sessions.json').exists():
        site = next(site for site in SITES if site.name == who.site)
        names = [f'{k + 1:02d}' for k in range(cohort.sessions)]
        for name, session in zip(names, simulate(cohort, number), strict=True):
            write_session(out, who.label, name, site, session)
        write_years(out, who.label, names)  # last, so that it says that the rest is there
    return f'sub-{who.label}: {who.group}, site {who.site}, {cohort.sessions} session(s)'


def write_lesions(bids: Path) -> Path:
    """Put the lesion masks where no other truth is, as a study has them; return the data set.

    Given all that the phantom knows, demist would take its brain masks as well.
    """
    known, out = (bids / 'derivatives' / name for name in ('phantom', 'lesions'))
    for path in known.glob('sub-*/**/*_label-lesion_mask.*'):
        copy = out / path.relative_to(known)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(known / 'dataset_description.json', out)
    return out


def write(out: Path, participants: int, resolution: float, nprocs: int) -> Iterator[str]:
    """Write the participants that are not there yet, and yield a line for each."""
    numbers = range(1, participants + 1)
    people = [of(number, participants, resolution).describe(number) for number in numbers]
    out.mkdir(parents=True, exist_ok=True)
    write_dataset(out, people, f'benchmarks/table1, {participants} participants, seed {SEED}')
    with ProcessPoolExecutor(
        nprocs, get_context('spawn'), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(partial(write_participant, out, participants, resolution), numbers)
