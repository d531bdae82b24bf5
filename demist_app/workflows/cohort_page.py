"""From the tables of a cohort to its report."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from bids.utils import natural_sort

from boilerplate.group_report import ChangeRow, GroupReport, OutlierRow, UnitRow, signed
from boilerplate.lesions import Lesions
from boilerplate.report import Headline, number
from boilerplate.strips import QUARTILES_FROM, Course, Panel, Value, course, panel
from demist_app import __version__
from demist_app.workflows.cohort import Traces
from demist_app.workflows.cohort_tables import (
    BRAIN_VOLUME,
    OUTLIER_UNITS,
    OUTLIER_Z,
    Change,
    Outlier,
    regions_in_order,
)

_GROUPS_SHOWN = 6
_UNGROUPED = 'no group'
_HEADLINES = {
    'WM': 'White matter',
    'cortical GM': 'Cortical grey matter',
    'GM': 'Grey matter',
    'lesions': 'Lesions',
}
_NUMBERS = [
    'brain_volume_ml',
    'flair_rotation_deg',
    'flair_shift_mm',
    't1w_distance',
    'flair_distance',
]
_NUMBER = re.compile(r'(?<![\w.])\d+(\.\d+)?(?!\w)')  # not the 1 of T1w
_RULE = (
    'Within each tissue, and for the volume of the brain, a value is an outlier if its robust z, '
    f'0.6745 (value − median) / MAD over all units, lies beyond ±{OUTLIER_Z}. An outlier is a '
    'reason to look at a unit, not to leave it out; a small cohort, or one of patients and '
    'controls, has some by chance.'
)
_NONE = ' There is none in this cohort.'
_TOO_FEW = f' There are fewer than {OUTLIER_UNITS} units with values, too few to tell.'


@dataclass(frozen=True)
class Gathered:
    """All that is known of a cohort; the tables are those of `cohort_tables`."""

    units: Sequence[Traces]
    psr: pd.DataFrame
    qc: pd.DataFrame
    outliers: Sequence[Outlier]
    changes: Sequence[Change]
    lesions: Lesions | None


def group_report(found: Gathered, outputs: Iterable[tuple[str, str]]) -> GroupReport:
    """Say what is known of a cohort.

    Parameters
    ----------
    found : Gathered
    outputs : iterable of (str, str)
        Files beside the page and what they are.
    """
    reports = {unit.label: unit.report for unit in found.units}
    regions = regions_in_order(found.psr['region'])
    groups = _groups(found)
    done = found.qc[found.qc['status'] == 'done']
    few = found.psr.groupby('region')['psr_median'].count().max() < OUTLIER_UNITS
    return GroupReport(
        version=__version__,
        headline=_headline(found, done),
        warnings=tuple(_differences(done)),
        unit_warnings=_unit_warnings(found.units),
        regions=tuple(regions),
        units=tuple(_rows(found, regions)),
        panels=tuple(_panels(found, regions, groups)),
        groups=tuple(groups),
        outliers=tuple(
            OutlierRow(
                o.label,
                reports[o.label],
                o.what,
                f'{number(o.value, 0)} mL' if o.what == BRAIN_VOLUME else f'{number(o.value)} %',
                o.z,
            )
            for o in found.outliers
        ),
        rule=_RULE + (_TOO_FEW if few else '' if found.outliers else _NONE),
        courses=tuple(_courses(found, regions, groups)),
        changes=tuple(_change_row(change, regions) for change in found.changes),
        mean_changes=tuple(_mean_changes(found, regions, groups)),
        lesions=found.lesions,
        outputs=tuple(outputs),
        provenance={'demist': __version__}
        | {
            f'Model {model}': f'sha256 {sha256}, {len(units)} unit(s)'
            for (model, sha256), units in done.groupby(['model', 'model_sha256'])
        },
    )


def _groups(found: Gathered) -> list[str]:
    """Return the groups that the figures tell apart; none if there is one, or too many."""
    shown = found.qc['group'][[unit.table is not None for unit in found.units]]
    names: list[str] = natural_sort(set(shown.dropna()))
    if shown.isna().any():
        names.append(_UNGROUPED)
    return names if 2 <= len(names) <= _GROUPS_SHOWN else []


def _group_of(found: Gathered, groups: Sequence[str]) -> dict[str, str]:
    """Return unit to group as the figures show it; one nameless group if they show none."""
    named = found.qc['group'].fillna(_UNGROUPED)
    return {str(label): group if groups else '' for label, group in named.items()}


def _medians(found: Gathered, region: str) -> dict[str, float]:
    """Return unit to its median PSR of a region, where it has one."""
    values = {unit.label: unit.medians.get(region, math.nan) for unit in found.units}
    return {label: value for label, value in values.items() if not math.isnan(value)}


def _headline(found: Gathered, done: pd.DataFrame) -> tuple[Headline, ...]:
    people = done['participant_id'].nunique()
    note = f'done, {people} {"participant" if people == 1 else "participants"}'
    shown = [Headline('Units', str(len(done)), f'of {len(found.units)}', note)]
    medians = dict(tuple(found.psr.groupby('region')['psr_median']))
    for region, title in _HEADLINES.items():
        values = medians.get(region, pd.Series(dtype=float)).dropna()
        if len(values):
            low, middle, high = values.quantile([0.25, 0.5, 0.75])
            spread = f'; quartiles {number(low)} – {number(high)}'
            note = f'median{spread if len(values) >= QUARTILES_FROM else " of the units"}'
            shown.append(Headline(title, number(middle), '%', note))
    return tuple(shown)


def _differences(done: pd.DataFrame) -> Iterable[str]:
    """Warn where units were not made alike, so that their values do not compare."""
    kinds = (
        ('model', 'model_sha256', 'The maps come from different models', 'do not compare them'),
        ('draws', 'draws', 'The maps are means of different numbers of draws', ''),
        ('demist_version', 'demist_version', 'The results come from different versions', ''),
        (
            't1w_field_t', 't1w_field_t', 'The T1w were acquired at different field strengths (T)',
            'a difference of scanners looks like one of PSR',
        ),
    )  # fmt: skip
    for shown, column, what, so in kinds:
        counts = done.groupby([column, shown] if column != shown else [column]).size()
        if len(counts) > 1:
            parts = []
            for values, count in counts.items():
                names = values if isinstance(values, tuple) else (values,)
                parts.append(f'{names[-1]} ({count} {"unit" if count == 1 else "units"})')
            yield f'{what}: {", ".join(parts)}' + (f'; {so}.' if so else '.')


def _unit_warnings(units: Sequence[Traces]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Gather warnings that say the same but for their numbers; most frequent first."""
    kinds: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for unit in units:
        for warning in unit.summary.get('warnings', ()):
            kinds[_NUMBER.sub('…', warning)].append((warning, unit.label))
    shown = []
    for kind, told in kinds.items():
        texts = {text for text, _ in told}
        shown.append((texts.pop() if len(texts) == 1 else kind, tuple(label for _, label in told)))
    return tuple(sorted(shown, key=lambda entry: -len(entry[1])))


def _rows(found: Gathered, regions: Sequence[str]) -> Iterable[UnitRow]:
    medians = {region: _medians(found, region) for region in regions}
    apart = {(outlier.label, outlier.what) for outlier in found.outliers}
    known = found.qc[_NUMBERS].astype(float).to_numpy()
    for unit, numbers in zip(found.units, known, strict=True):
        volume, rotation, shift, t1w_distance, flair_distance = numbers.tolist()
        yield UnitRow(
            label=unit.label,
            report=unit.report,
            group=found.qc['group'].fillna('')[unit.label],
            status=unit.status,
            reason=f'{unit.reason} (step {unit.step})' if unit.step else unit.reason,
            values=tuple(medians[region].get(unit.label, math.nan) for region in regions),
            apart=tuple((unit.label, region) in apart for region in regions),
            volume_ml=volume,
            rotation_deg=rotation,
            shift_mm=shift,
            distances=(t1w_distance, flair_distance),
            warnings=len(unit.summary.get('warnings', ())),
            volume_apart=(unit.label, BRAIN_VOLUME) in apart,
        )


def _panels(found: Gathered, regions: Sequence[str], groups: Sequence[str]) -> Iterable[Panel]:
    group_of = _group_of(found, groups)
    apart = {(outlier.label, outlier.what) for outlier in found.outliers}
    for region in regions:
        strips: dict[str, list[Value]] = {group: [] for group in groups or ['']}
        for label, value in _medians(found, region).items():
            strips[group_of[label]].append(Value(label, value, (label, region) in apart))
        if any(strips.values()):
            yield panel(region, strips)


def _courses(found: Gathered, regions: Sequence[str], groups: Sequence[str]) -> Iterable[Course]:
    sessions = natural_sort({name for change in found.changes for name in change.sessions})
    numbers = _numbers(found, groups)
    for region in regions:
        lines = {}
        for change in found.changes:
            values = {s: v for s, v in change.values.get(region, {}).items() if v == v}
            if change.one_model and len(values) > 1:
                lines[change.participant] = values
        if lines:
            yield course(region, sessions, lines, numbers)


def _numbers(found: Gathered, groups: Sequence[str]) -> dict[str, int]:
    """Return participant to the number of its group."""
    group_of, order = _group_of(found, groups), {name: n for n, name in enumerate(groups or [''])}
    shown = [unit for unit in found.units if unit.table is not None]
    return {f'sub-{unit.participant}': order[group_of[unit.label]] for unit in shown}


def _change_row(change: Change, regions: Sequence[str]) -> ChangeRow:
    first, *_, last = change.sessions
    sessions = f'{first} → {last}'
    if len(change.sessions) > 2:
        sessions += f' ({len(change.sessions)} sessions)'
    if not change.one_model:
        sessions += ' (different models)'
    values = tuple(change.difference(region) for region in regions)
    return ChangeRow(change.participant, sessions, values)


def _mean_changes(
    found: Gathered, regions: Sequence[str], groups: Sequence[str]
) -> Iterable[tuple[str, tuple[str, ...]]]:
    numbers = _numbers(found, groups)
    parts: Mapping[str, list[Change]] = {
        group: [c for c in found.changes if numbers[c.participant] == n]
        for n, group in enumerate(groups)
    }
    for who, inside in (*parts.items(), ('all', found.changes)):
        if len(inside) > 1:
            table = pd.DataFrame([[c.difference(r) for r in regions] for c in inside])
            yield who, tuple(_mean_and_sd(column) for _, column in table.items())


def _mean_and_sd(values: pd.Series) -> str:
    return f'{signed(values.mean())} ± {number(values.std())}' if values.count() > 1 else '–'
