"""What became of every unit of a cohort: the traces of all runs, read together."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from bids.utils import natural_sort

from bids_layout.names import derivative_path, report_path, summary_path
from bids_layout.pairing import Unit
from bids_layout.query import QueryError
from demist_app.settings import Inputs
from demist_app.workflows.outputs import TABLE_COLUMNS

STATUSES = {
    'done': 'all results are there',
    'failed': 'the last run could not finish it',
    'interrupted': 'the last run was stopped before it was finished',
    'unfinished': 'a run was killed or still goes on, or files were removed',
    'skipped': 'it has no pair of scans that can be used',
    'not started': 'no run has come to it yet',
}
"""What can become of a unit."""

_DTYPES = {name: str if name == 'region' else float for name in TABLE_COLUMNS}
_GOING_ON = (
    'a run that began here has not ended: it goes on, or was killed; when nothing runs any more, '
    'run the same command again'
)
_GONE = (
    'a later run of it has not ended, or its summary in figures/ was removed: when nothing runs '
    'any more, run the participant level again'
)


@dataclass(frozen=True)
class Verdict:
    """What the last run that ended says of a unit."""

    run: str
    status: str
    step: str = ''
    reason: str = ''


@dataclass(frozen=True)
class Traces:
    """One unit, as its files and the runs show it.

    Attributes
    ----------
    participant, session : str
        Labels without prefixes; no session is empty.
    status : str
        One of `STATUSES`.
    step, reason : str
        What failed, and why it has no results.
    report : str
        Name of its report; empty if there is none of its last run.
    summary : dict
        What its run wrote beside the figures; empty unless the unit is done.
    draws : int or None
        Draws that the map is the mean of; None without a map of the same run.
    distance : dict
        Of the intensities of each scan from the training scans, in SDs.
    table : DataFrame or None
        Regional values of the same run.
    lesions : dict
        What the sidecar says of lesions and their NAWM; empty without a lesion mask.
    """

    participant: str
    session: str
    status: str
    step: str = ''
    reason: str = ''
    report: str = ''
    summary: dict[str, Any] = field(default_factory=dict)
    draws: int | None = None
    distance: dict[str, float] = field(default_factory=dict)
    table: pd.DataFrame | None = None
    lesions: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """E.g. ``sub-01_ses-A``."""
        return unit_of(self.participant, self.session).label

    @property
    def medians(self) -> dict[str, float]:
        """Region to its median PSR in percent, NaN where it has no voxel."""
        if self.table is None:
            return {}
        return dict(zip(self.table['region'], self.table['psr_median'], strict=True))


def unit_of(participant: str, session: str) -> Unit:
    """Return a unit of which only the labels matter."""
    return Unit(participant=participant, session=session or None, t1w=Path(), flair=Path())


def unit_of_row(row: Mapping[Any, Any]) -> Unit:
    """Return the unit of a row of a table, by ``participant_id`` and ``session_id``."""
    session = '' if row['session_id'] == 'n/a' else row['session_id'].removeprefix('ses-')
    return unit_of(row['participant_id'].removeprefix('sub-'), session)


def find_traces(inputs: Inputs) -> list[Traces]:
    """Find all units that the data set, the output folder or a run knows.

    Parameters
    ----------
    inputs : Inputs
        Data set and output folder; labels of participants and sessions narrow the search.

    Returns
    -------
    list of Traces
        In natural order.
    """
    out_dir = inputs.out_dir
    verdicts, begun = _read_runs(out_dir)
    here = set(_folders(inputs.bids_dir))
    seen = {_labels(label) for label in verdicts} | set(_with_results(out_dir))
    found = []
    for label in natural_sort({unit_of(*labels).label for labels in here | seen}):
        participant, session = _labels(label)
        if not (
            _wanted(participant, inputs.participant_label)
            and _wanted(session, inputs.session_label)
        ):
            continue
        running = any(_wanted(participant, p) and _wanted(session, s) for p, s in begun)
        found.append(_trace(out_dir, participant, session, verdicts.get(label), running=running))
    return found


def _trace(
    out_dir: Path, participant: str, session: str, verdict: Verdict | None, *, running: bool
) -> Traces:
    unit = unit_of(participant, session)
    report = report_path(out_dir, unit)
    shown = report.name if report.exists() else ''
    path = summary_path(out_dir, unit)
    unusable = _GONE
    # a run removes the summary when it begins with a unit and writes it last: only a unit that
    # has one shows the files of one run
    if path.exists():
        try:
            summary = json.loads(path.read_text('utf-8'))
            run = summary['provenance']['Run']
            if verdict is None or verdict.status == 'done' or run > verdict.run:
                results = _results(out_dir, unit, summary)
                return Traces(participant, session, 'done', report=shown, **results)
        except (OSError, ValueError, LookupError, TypeError) as error:
            unusable = f'its files are damaged ({error}): run the participant level again'
    if verdict and verdict.status != 'done':
        return Traces(participant, session, verdict.status, verdict.step, verdict.reason, shown)
    if verdict or path.exists():
        return Traces(participant, session, 'unfinished', reason=unusable)
    if running:
        return Traces(participant, session, 'unfinished', reason=_GOING_ON)
    return Traces(participant, session, 'not started', reason=STATUSES['not started'])


def _results(out_dir: Path, unit: Unit, summary: dict[str, Any]) -> dict[str, Any]:
    """Read the numbers of a unit that is done."""
    if 'Model' not in summary['provenance']:  # any map here is of an earlier run
        return {'summary': summary}
    path = derivative_path(out_dir, unit, desc='synth', suffix='psr')
    table = pd.read_csv(path, sep='\t', dtype=_DTYPES)
    psr = {'desc': 'synth', 'space': 'T1w', 'suffix': 'PSRmap', 'extension': '.json'}
    sidecar = json.loads(derivative_path(out_dir, unit, **psr).read_text('utf-8'))
    return {
        'summary': summary,
        'draws': sidecar['Draws'],
        'distance': sidecar['IntensityDistance'],
        'table': table[list(_DTYPES)],
        'lesions': sidecar.get('LesionPairs', {}),
    }


def _read_runs(
    out_dir: Path,
) -> tuple[dict[str, Verdict], list[tuple[list[str], list[str]]]]:
    """Read the verdicts of all participant-level runs, and what runs without one work on."""
    verdicts: dict[str, Verdict] = {}
    begun = []
    for path in sorted(out_dir.glob('logs/*/settings.json')):  # names begin with the time
        try:
            inputs = json.loads(path.read_text('utf-8'))['inputs']
            if inputs['analysis_level'] != 'participant':
                continue
            status = path.with_name('status.tsv')
            if not status.exists():
                begun.append((inputs['participant_label'], inputs['session_label']))
                continue
            with status.open(encoding='utf-8', newline='') as file:
                for row in csv.DictReader(file, delimiter='\t'):
                    if row['status'] == 'refused':  # another run's verdict counts
                        continue
                    step, reason = (_known(row[key]) for key in ('step', 'reason'))
                    verdict = Verdict(path.parent.name, row['status'], step, reason)
                    verdicts[row['unit']] = verdict
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise QueryError(
                f'{path.parent} is a damaged log of a run ({error}): remove it, and run the '
                'participants it was about again'
            ) from error
    return verdicts, begun


def _folders(bids_dir: Path) -> Iterator[tuple[str, str]]:
    """Find the participants and sessions of the data set, without indexing it."""
    for folder in bids_dir.glob('sub-*/'):
        sessions = [path.name.removeprefix('ses-') for path in folder.glob('ses-*/')]
        for session in sessions or ['']:
            yield folder.name.removeprefix('sub-'), session


def _with_results(out_dir: Path) -> Iterator[tuple[str, str]]:
    for pattern in ('sub-*/figures', 'sub-*/ses-*/figures'):
        for path in out_dir.glob(f'{pattern}/*_desc-summary_psr.json'):
            yield _labels(path.name.partition('_desc-')[0])


def _labels(label: str) -> tuple[str, str]:
    participant, _, session = label.partition('_')
    return participant.removeprefix('sub-'), session.removeprefix('ses-')


def _known(cell: str) -> str:
    return '' if cell == 'n/a' else cell


def _wanted(label: str, selected: Collection[str]) -> bool:
    return not selected or label in selected
