"""A cohort of phantoms: patients and controls, two sites, one to three sessions, as BIDS."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from demist_app.phantom.acquisition import Session, scan_session
from demist_app.phantom.anatomy import pose, sample_anatomy
from demist_app.phantom.face import sample_soft
from demist_app.phantom.head import default_shape, grid_affine, render_head
from demist_app.phantom.lesions import lesion_texture, render_lesions, sample_lesions
from demist_app.phantom.signals import SITES, Site, sample_tissue_fields
from demist_app.phantom.tissue import relaxivity_at, sample_tissues
from demist_app.phantom.writing import Participant, write_dataset, write_session, write_years

THICK_SLICE_MM = 4.0
ATROPHY_PER_YEAR = {'patient': 0.005, 'control': 0.002}


@dataclass(frozen=True)
class Cohort:
    """What `write_cohort` makes; a participant is a function of this and their number.

    Attributes
    ----------
    participants
        How many; every third is a control, sites alternate.
    seed
        Root of all randomness.
    resolution
        Voxel size of the T1w and in-plane of the FLAIR (mm); PSR is measured at 2 mm or coarser.
    shape
        Voxels of the T1w; by default 184 x 232 x 232 mm.
    sessions
        Sessions per participant, a year apart.
    thick_flair
        4 mm FLAIR slices at both sites (else 1 voxel at site A, 3 mm at site B).
    tesla
        Field strength of both scanners.
    lesions
        How many each patient has at the first session; without, 6 to 45.
    """

    participants: int
    seed: int = 0
    resolution: float = 1.0
    shape: tuple[int, int, int] | None = None
    sessions: int = 1
    thick_flair: bool = False
    tesla: float = 3.0
    lesions: int | None = None

    def describe(self, number: int) -> Participant:
        """Who participant `number` (from 1) is."""
        rng = np.random.default_rng([self.seed, number, 1])
        return Participant(
            label=f'{number:0{max(2, len(str(self.participants)))}d}',
            age=int(rng.integers(20, 65)),
            sex=str(rng.choice(['F', 'M'], p=[0.65, 0.35])),
            group='control' if number % 3 == 0 else 'patient',
            site=self.site(number).name,
        )

    def site(self, number: int) -> Site:
        """Return the scanner of participant `number` (from 1)."""
        return SITES[(number - 1) % len(SITES)].at(self.tesla)


def simulate(cohort: Cohort, number: int) -> list[Session]:
    """Simulate all sessions of participant `number` (from 1).

    Anatomy, tissues and lesions come from the streams of (seed, number), each session's pose,
    motion and noise from (seed, number, session): the result does not depend on who else is made.
    """
    who = cohort.describe(number)
    patient = who.group == 'patient'
    rng = np.random.default_rng([cohort.seed, number, 0])
    anatomy, soft = sample_anatomy(rng, patient), sample_soft(rng)
    tissues, fields, texture = (
        replace(sample_tissues(rng, patient), relaxivity=relaxivity_at(cohort.tesla)),
        sample_tissue_fields(rng),
        lesion_texture(rng),
    )
    lesions = sample_lesions(rng, anatomy, cohort.sessions, cohort.lesions) if patient else []
    site = cohort.site(number)
    slice_mm = THICK_SLICE_MM if cohort.thick_flair else site.flair_slice_mm
    shape = cohort.shape or default_shape(cohort.resolution)
    sessions = []
    for session in range(cohort.sessions):
        scan = np.random.default_rng([cohort.seed, number, 2 + session])
        head = render_head(
            anatomy,
            soft,
            shape,
            grid_affine(shape, cohort.resolution),
            pose(scan, 3.0, 3.0),
            atrophy=session * ATROPHY_PER_YEAR[who.group],
        )
        fractions, where = render_lesions(head, lesions, texture, session)
        sessions.append(scan_session(scan, head, fractions, where, tissues, fields, site, slice_mm))
    return sessions


def _write_participant(out: Path, cohort: Cohort, number: int) -> str:
    who = cohort.describe(number)
    names = [f'{k + 1:02d}' for k in range(cohort.sessions)]
    for name, session in zip(names, simulate(cohort, number), strict=True):
        write_session(out, who.label, name, cohort.site(number), session)
    write_years(out, who.label, names)
    return f'sub-{who.label}: {who.group}, site {who.site}, {cohort.sessions} session(s)'


def write_cohort(
    out: Path,
    participants: int,
    seed: int = 0,
    resolution: float = 1.0,
    *,
    shape: tuple[int, int, int] | None = None,
    sessions: int = 1,
    thick_flair: bool = False,
    nprocs: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a cohort as a BIDS data set with derivatives.

    Parameters
    ----------
    out
        A folder that does not exist yet, or is empty.
    participants, seed, resolution, shape, sessions, thick_flair
        See `Cohort`.
    nprocs
        Processes; the data do not depend on it.
    progress
        Called with a line for each participant written.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    FileExistsError
        `out` holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f'{out}: the folder is not empty; give a new one for the phantom.')
    cohort = Cohort(participants, seed, resolution, shape, sessions, thick_flair)
    numbers = range(1, participants + 1)
    out.mkdir(parents=True, exist_ok=True)
    write_dataset(out, [cohort.describe(n) for n in numbers], f'{cohort}')
    if nprocs == 1:
        for number in numbers:
            progress(_write_participant(out, cohort, number))
        return out
    with ProcessPoolExecutor(
        nprocs, get_context('spawn'), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        tasks = [pool.submit(_write_participant, out, cohort, number) for number in numbers]
        for task in as_completed(tasks):
            progress(task.result())
    return out
