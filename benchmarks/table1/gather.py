"""What the runs of demist left: scores, budgets, and the maps of every unit."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
from common import Map, load
from lesions import CONTRASTS, KNOWN, ORACLE, Scan, Table, on_grid, surely_white

from demist_app.evaluation.lesions import lesion_pairs, means, midsagittal
from demist_app.evaluation.metrics import score
from demist_app.imaging.normalise import normalise
from demist_app.model.bundle import METADATA
from demist_app.training.methods import METHODS
from demist_app.workflows.crossvalidation import model_name
from demist_app.workflows.examples import out_of_fold

NOISE_FREE, RETEST = '*fit*', '*retest*'
DIGITS = 4  # of percent; means of one value differ beyond, and would be ranked


class Maps(Mapping[str, Map]):
    """The maps of a unit by the title of their row, read when they are asked for.

    Parameters
    ----------
    readers : dict
    """

    def __init__(self, readers: dict[str, Callable[[], Map]]) -> None:
        self.readers = readers

    def __getitem__(self, title: str) -> Map:
        return self.readers[title]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


@dataclass(frozen=True)
class Unit:
    """One scan: its names, and where its images are."""

    folder: Path
    participant: str
    session: str
    group: str
    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        return f'{self.participant}_{self.session}'

    @property
    def below(self) -> Path:
        return Path(self.participant) / self.session / 'anat'

    @property
    def made(self) -> Path:
        """Start of the names of what demist made."""
        return self.folder / 'demist' / self.below / self.name

    def phantom(self, ending: str) -> Path:
        """Path of what only a phantom can tell."""
        home = self.folder / 'bids' / 'derivatives' / 'phantom' / self.below
        return home / f'{self.name}_space-T1w_{ending}.nii.gz'

    def image(self, kind: str) -> Map:
        """Read ``T1w`` or ``FLAIR`` on the grid of the T1w, normalised as the networks see it."""
        space = '' if kind == 'T1w' else '_space-T1w'
        return normalise(load(Path(f'{self.made}{space}_desc-preproc_{kind}.nii.gz')), self.brain)[
            0
        ]

    @cached_property
    def brain(self) -> Any:
        """Brain as demist cut it out."""
        return load(Path(f'{self.made}_desc-brain_mask.nii.gz')) > 0

    @property
    def maps(self) -> Maps:
        """Measured, noise-free, repeated and true PSR, that of all methods, and both images."""
        home = self.folder / 'bids' / 'derivatives' / 'qmt' / self.below
        paths = {ORACLE: home / f'{self.name}_space-T1w_desc-qmt_PSRmap.nii.gz'}
        paths |= {title: self.phantom(f'desc-{desc}_PSRmap') for title, desc in KNOWN.items()}
        for method in self.methods:
            desc = out_of_fold(method)['desc']
            paths[title_of(method)] = Path(f'{self.made}_space-T1w_desc-{desc}_PSRmap.nii.gz')
        readers = {title: partial(load, path) for title, path in paths.items()}
        images = {title: partial(self.image, title.split()[0]) for title in CONTRASTS}
        return Maps(readers | images)


@dataclass(frozen=True)
class Results:
    """All that the tables and figures show.

    Attributes
    ----------
    scores : DataFrame
        ``group_scores.tsv``, methods in the order of the paper's table; scans that all of them
        have scored.
    bundles : dict
        Method to the metadata of the models of its folds.
    units : list of Unit
        Those that all methods have a map of.
    scans : list of Scan
        The first scan of every patient among them that has lesions.
    """

    scores: pd.DataFrame
    bundles: dict[str, list[dict[str, Any]]]
    units: list[Unit]
    scans: list[Scan]

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.bundles)

    @cached_property
    def limits(self) -> pd.DataFrame:
        """Scores of what no method can be expected to beat, made as those of the methods.

        On the grid of the T1w, which at 1 mm has the voxels of the grid that these are scored on.
        """
        rows = []
        for unit in self.units:
            maps = unit.maps
            for title in (NOISE_FREE, RETEST):
                found = score(maps[title], maps[ORACLE], unit.brain).columns()
                names = {'participant_id': unit.participant, 'session_id': unit.session}
                rows.append(names | {'method': title} | found)
        return pd.DataFrame(rows)


def lesion_means(found: Results, title: str) -> Table:
    """Return the means of one map in all lesions and their NAWM, columns as `means` has them."""
    rows = np.concatenate([means(scan.maps[title], scan.pairs) for scan in found.scans])
    return np.round(rows, DIGITS)


def title_of(method: str) -> str:
    """Name a method as the paper does."""
    return METHODS[method].title


def gather(folder: Path) -> Results:
    """Read all of it, find the lesions, and what they are compared with."""
    scores = pd.read_csv(folder / 'demist' / 'group_scores.tsv', sep='\t')
    methods = tuple(method for method in METHODS if method in set(scores['method']))
    scores['method'] = pd.Categorical(scores['method'], methods)
    scores = scores.sort_values(['method', 'participant_id', 'session_id'])
    scores['method'] = scores['method'].astype(str)
    models = folder / 'demist' / 'models'
    bundles = {
        method: [
            json.loads((models / model_name(f'fold-{fold}', method) / METADATA).read_text('utf-8'))
            for fold in sorted(set(scores.loc[scores['method'] == method, 'fold']))
        ]
        for method in methods
    }
    keys = ['participant_id', 'session_id', 'group']
    counts = scores.groupby(keys).size()
    names = counts.index[counts == len(methods)]
    scores = scores[scores.set_index(keys).index.isin(names)]
    units = [Unit(folder, *name, methods) for name in names]
    first = {unit.participant: unit for unit in reversed(units) if unit.group == 'patient'}
    scans = [scan_of(unit) for unit in reversed(first.values())]
    return Results(scores, bundles, units, [scan for scan in scans if scan.pairs])


def scan_of(unit: Unit) -> Scan:
    """Pair the lesions of a unit, which the phantom knows, with normal-appearing white matter."""
    reference = nb.as_closest_canonical(nb.load(f'{unit.made}_desc-preproc_T1w.nii.gz'))
    spacing = reference.header.get_zooms()[:3]
    lesions = (on_grid(unit.phantom('label-lesion_mask'), reference, 0) > 0) & unit.brain
    t1w, flair = unit.image('T1w'), unit.image('FLAIR')
    plane = midsagittal(t1w, unit.brain, spacing)
    white = surely_white(t1w, flair, unit.brain, lesions)
    return Scan(unit.participant, lesion_pairs(lesions, white, spacing, plane), unit.maps)
