"""The tables of a cohort: regional values, quality of every unit, change between sessions."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demist_app.workflows.cohort import STATUSES, Traces
from demist_app.workflows.outputs import TABLE_COLUMNS

OUTLIER_Z = 3.5
"""Iglewicz and Hoaglin (1993) call what lies beyond it a potential outlier."""
OUTLIER_UNITS = 5
"""Fewer values than that have no distribution to lie outside of."""
BRAIN_VOLUME = 'brain volume'
"""Judged like the regions."""

_REGIONS = ('CSF', 'GM', 'cortical GM', 'deep GM', 'WM', 'lesions', 'NAWM')
_IDENTITY: dict[str, dict[str, Any]] = {
    'participant_id': {'Description': 'Participant, as in participants.tsv'},
    'session_id': {'Description': 'Session; n/a where the data set has none'},
}
PSR_COLUMNS: dict[str, dict[str, Any]] = {
    **_IDENTITY,
    **TABLE_COLUMNS,
    'psr_median_z': {
        'Description': 'Robust z of psr_median within the region: 0.6745 (value − median) / MAD '
        f'over all units of this table; n/a for fewer than {OUTLIER_UNITS} values',
    },
}
"""Sidecar of ``group_psr.tsv``; its keys are the columns."""
QC_COLUMNS: dict[str, dict[str, Any]] = {
    **_IDENTITY,
    'group': {'Description': 'Column "group" of participants.tsv'},
    'status': {'Description': 'What became of the unit', 'Levels': STATUSES},
    'step': {'Description': 'Step that failed'},
    'reason': {'Description': 'Why the unit has no results'},
    'demist_version': {'Description': 'Version of demist that made the results'},
    'model': {'Description': 'Name and version of the model'},
    'model_sha256': {'Description': 'Checksum of the model'},
    'draws': {'Description': 'Draws that the map is the mean of'},
    'brain_mask': {'Description': 'Where the brain mask comes from'},
    'brain_volume_ml': {'Description': 'Volume inside the brain mask', 'Units': 'mL'},
    'brain_volume_z': {'Description': 'Robust z of brain_volume_ml, as in group_psr.json'},
    't1w_voxel_mm': {'Description': 'Voxel size of the T1w', 'Units': 'mm'},
    'flair_voxel_mm': {'Description': 'Voxel size of the FLAIR', 'Units': 'mm'},
    't1w_field_t': {'Description': 'Field strength of the T1w', 'Units': 'T'},
    'flair_field_t': {'Description': 'Field strength of the FLAIR', 'Units': 'T'},
    'flair_rotation_deg': {
        'Description': 'Rotation that aligns the FLAIR with the T1w',
        'Units': 'degree',
    },
    'flair_shift_mm': {
        'Description': 'Displacement of the centre of the brain by that alignment',
        'Units': 'mm',
    },
    't1w_distance': {
        'Description': 'Distance of the T1w intensities from those of the training scans, in '
        'standard deviations of the latter',
    },
    'flair_distance': {'Description': 'The same of the FLAIR intensities'},
    'wm_synthsd_mean': {
        'Description': 'Mean over the white matter of the SD of the synthetic PSR of one voxel',
        'Units': 'percentage points',
    },
    'outliers': {
        'Description': 'What lies beyond |robust z| = '
        f'{OUTLIER_Z} of the cohort: regions (by psr_median) and brain volume',
    },
    'n_warnings': {'Description': 'Number of warnings in the report of the unit'},
    'warnings': {'Description': 'These warnings'},
    'report': {'Description': 'Report of the unit'},
}
"""Sidecar of ``group_qc.tsv``; its keys are the columns."""


@dataclass(frozen=True)
class Outlier:
    """A value of one unit that lies apart from those of the others."""

    label: str
    what: str
    value: float
    z: float


@dataclass(frozen=True)
class Change:
    """What became of one participant between the first and the last session.

    Attributes
    ----------
    participant : str
        With its prefix.
    values : dict
        Region to session to median PSR, percent; sessions in natural order.
    one_model : bool
        Whether all sessions were made with the same model: only then is a difference a change.
    """

    participant: str
    values: dict[str, dict[str, float]]
    one_model: bool

    @property
    def sessions(self) -> list[str]:
        """All sessions with values, in order."""
        return list(next(iter(self.values.values())))

    def difference(self, region: str) -> float:
        """Return last minus first session, percentage points; NaN where it means nothing."""
        values = list(self.values.get(region, {}).values())
        return values[-1] - values[0] if self.one_model and values else math.nan


def regions_in_order(names: Iterable[str]) -> list[str]:
    """Return each region once, in the order of the units' own tables.

    >>> regions_in_order(['WM', 'deep GM', 'WM', 'CSF'])
    ['CSF', 'deep GM', 'WM']
    """
    order = {region: number for number, region in enumerate(_REGIONS)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))


def psr_table(units: Sequence[Traces]) -> pd.DataFrame:
    """Join the regional tables of the units that have one; columns as in `PSR_COLUMNS`."""
    tables = []
    for unit in units:
        if unit.table is not None:
            table = unit.table.copy()
            table.insert(0, 'participant_id', f'sub-{unit.participant}')
            table.insert(1, 'session_id', f'ses-{unit.session}' if unit.session else 'n/a')
            tables.append(table)
    if not tables:
        return pd.DataFrame(columns=list(PSR_COLUMNS))
    joined = pd.concat(tables, ignore_index=True)
    joined['psr_median_z'] = joined.groupby('region')['psr_median'].transform(robust_z)
    return joined


def robust_z(values: pd.Series) -> pd.Series:
    """Say how far each value lies from the median, in SDs estimated from the MAD.

    Parameters
    ----------
    values : Series
        Missing values are left out.

    Returns
    -------
    Series
        NaN throughout for fewer than `OUTLIER_UNITS` values, or if most values are the same.

    Examples
    --------
    >>> robust_z(pd.Series([1.0, 2.0, 3.0, 4.0, 25.0])).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 14.84]
    """
    deviations = values - values.median()
    spread = deviations.abs().median()
    if values.count() < OUTLIER_UNITS or spread == 0:
        return pd.Series(np.nan, index=values.index)
    return 0.6745 * deviations / spread


def qc_table(
    units: Sequence[Traces], groups: Mapping[str, str | None], psr: pd.DataFrame
) -> tuple[pd.DataFrame, list[Outlier]]:
    """Say what became of every unit, and which units stand out.

    Parameters
    ----------
    units : sequence of Traces
        At least one.
    groups : mapping
        Participant label to group.
    psr : DataFrame
        Of `psr_table`.

    Returns
    -------
    table : DataFrame
        One row per unit, in the order of `units`; columns as in `QC_COLUMNS`.
    outliers : list of Outlier
        Farthest first.
    """
    rows = [_qc_row(unit, groups.get(unit.participant)) for unit in units]
    labels = [unit.label for unit in units]
    table = pd.DataFrame(rows, labels, list(QC_COLUMNS), dtype=object)  # whole numbers stay whole
    table['brain_volume_ml'] = table['brain_volume_ml'].astype(float)
    table['brain_volume_z'] = robust_z(table['brain_volume_ml'])
    outliers = [
        Outlier(str(label), BRAIN_VOLUME, row['brain_volume_ml'], row['brain_volume_z'])
        for label, row in table.iterrows()
    ]
    outliers += [
        Outlier(_label(row), row['region'], row['psr_median'], row['psr_median_z'])
        for row in psr.to_dict('records')
    ]
    outliers = sorted((o for o in outliers if abs(o.z) > OUTLIER_Z), key=lambda o: -abs(o.z))
    for label in {o.label for o in outliers}:
        table.loc[label, 'outliers'] = '; '.join(
            f'{o.what} (z {o.z:+.1f})' for o in outliers if o.label == label
        )
    return table, outliers


def _qc_row(unit: Traces, group: str | None) -> dict[str, Any]:
    summary = unit.summary
    facts, measures = summary.get('facts', {}), summary.get('measures', {})
    provenance, warnings = summary.get('provenance', {}), summary.get('warnings', [])
    row: dict[str, Any] = {
        'participant_id': f'sub-{unit.participant}',
        'session_id': f'ses-{unit.session}' if unit.session else None,
        'group': group,
        'status': unit.status,
        'step': unit.step or None,
        'reason': unit.reason or None,
        'demist_version': provenance.get('demist'),
        'model': provenance.get('Model'),
        'model_sha256': provenance.get('Model sha256'),
        'draws': unit.draws,
        'brain_mask': facts.get('Brain mask'),
        'brain_volume_ml': measures.get('brain_volume_ml'),
        'flair_rotation_deg': measures.get('rotation_deg'),
        'flair_shift_mm': measures.get('translation_mm'),
        'n_warnings': len(warnings) if summary else None,
        'warnings': '; '.join(warnings) or None,
        'report': unit.report or None,
    }
    for scan in ('T1w', 'FLAIR'):
        name = scan.lower()
        if size := facts.get(f'{scan} voxel size (mm)'):
            row[f'{name}_voxel_mm'] = size.replace(' × ', 'x')
        row[f'{name}_field_t'] = facts.get(f'{scan} field strength (T)')
        row[f'{name}_distance'] = unit.distance.get(scan)
    if unit.table is not None:
        white = unit.table.set_index('region')['synthsd_mean'].get('WM')
        row['wm_synthsd_mean'] = white
    return row


def changes(units: Sequence[Traces]) -> list[Change]:
    """Join the sessions of every participant who has several with regional values."""
    sessions: dict[str, dict[str, Traces]] = {}
    for unit in units:
        if unit.table is not None and unit.session:
            sessions.setdefault(unit.participant, {})[unit.session] = unit
    found = []
    for participant, made in sessions.items():
        if len(made) > 1:
            models = {unit.summary['provenance']['Model sha256'] for unit in made.values()}
            medians = pd.DataFrame({name: unit.medians for name, unit in made.items()})
            values = {region: medians.loc[region].to_dict() for region in medians.index}
            found.append(Change(f'sub-{participant}', values, len(models) == 1))
    return found


def _label(row: Mapping[Any, Any]) -> str:
    session = '' if row['session_id'] == 'n/a' else f'_{row["session_id"]}'
    return f'{row["participant_id"]}{session}'


def to_tsv(table: pd.DataFrame) -> str:
    """Write a table as BIDS wants it: tabs, ``n/a``, no quotes; a cell is one line."""
    lines = ['\t'.join(table.columns)]
    for row in table.itertuples(index=False):
        lines.append('\t'.join(_cell(value) for value in row))
    return '\n'.join(lines) + '\n'


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return 'n/a'
    text = f'{value:.4f}' if isinstance(value, float) else str(value)
    return re.sub(r'\s+', ' ', text).strip() or 'n/a'
