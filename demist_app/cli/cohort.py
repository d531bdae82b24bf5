"""Who can be trained on: the units that have a measured PSR map, and the folds they fall into."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bids_layout.dataset import GENERATOR
from bids_layout.pairing import Pairing, Skipped, Unit, find_units
from bids_layout.participants import groups
from bids_layout.query import index
from demist_app.model.presets import Preset, PresetError, load_preset
from demist_app.settings import Settings, SettingsError, Training
from demist_app.training.examples import Example
from demist_app.training.folds import FoldError, Splits, assign, check, read, settle

NO_MAP = 'no measured PSR map'
_MAPS = ('sub-*/*/*_PSRmap.nii*', 'sub-*/ses-*/*/*_PSRmap.nii*')


@dataclass(frozen=True)
class Cohort:
    """What the group level works on.

    Attributes
    ----------
    settings : Settings
        With the derivative data sets that hold the measured maps.
    units : tuple of Unit
        Each has a measured map; at least one.
    skipped : tuple of Skipped
        The others, and why.
    groups : dict of str to str
        Participant label to its group in participants.tsv, ``n/a`` without one.
    splits : Splits
        Folds, as they will be if no unit fails before training.
    preset : Preset
    """

    settings: Settings
    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]
    groups: dict[str, str]
    splits: Splits
    preset: Preset


def splits_path(settings: Settings) -> Path:
    """Where the folds are written down."""
    return settings.inputs.out_dir / 'models' / 'splits.tsv'


def find_cohort(settings: Settings, *, keep_index: bool) -> Cohort | None:
    """Find the units with a measured map; None where the data set has no such map.

    Where no data set given with ``-d`` holds PSR maps, those in ``<bids_dir>/derivatives`` that
    do are used, but for what demist wrote itself.

    Parameters
    ----------
    settings : Settings
    keep_index : bool
        Whether the index of the data set may be written to ``--bids-database-dir``.

    Raises
    ------
    QueryError
        If the data set cannot be used.
    SettingsError
        If the preset is not understood, or the units cannot be split as asked.
    """
    given = settings.inputs.derivatives
    found = {} if any(_has_maps(folder) for folder in given.values()) else dict(_beside(settings))
    if not (found or any(_has_maps(folder) for folder in given.values())):
        return None
    settings, pairing = _pair(settings, {**found, **given}, keep_index)
    used = [unit.psr for unit in pairing.units if unit.psr]
    superfluous = {
        name for name, folder in found.items() if not any(p.is_relative_to(folder) for p in used)
    }
    if superfluous:  # maps that are no measurements, beside masks nobody asked to use
        kept = {name: folder for name, folder in found.items() if name not in superfluous}
        settings, pairing = _pair(settings, {**kept, **given}, keep_index)
    units = tuple(unit for unit in pairing.units if unit.psr)
    if not units:
        return None
    without = [Skipped(unit.label, NO_MAP) for unit in pairing.units if not unit.psr]
    labels = {unit.participant for unit in units}
    known = groups(settings.inputs.bids_dir, labels)
    named = {label: known.get(label) or 'n/a' for label in labels}
    try:
        return Cohort(
            settings=settings,
            units=units,
            skipped=(*pairing.skipped, *without),
            groups=named,
            splits=_rehearse(settings, units, named),
            preset=choose_preset(settings.training),
        )
    except (FoldError, PresetError) as error:
        raise SettingsError(str(error)) from error


def choose_preset(training: Training) -> Preset:
    """Return the preset of a run, with the streams that were asked for.

    Raises
    ------
    PresetError
        If there is no such preset or stream.
    """
    preset = load_preset(training.preset)
    preset = preset.with_streams(training.streams) if training.streams else preset
    return preset.distilled() if training.distill else preset


def _pair(
    settings: Settings, derivatives: dict[str, Path], keep_index: bool
) -> tuple[Settings, Pairing]:
    inputs = replace(settings.inputs, derivatives=derivatives)
    layout = index(
        inputs.bids_dir,
        derivatives=derivatives,
        database_dir=inputs.bids_database_dir if keep_index else None,
        validate=not inputs.skip_bids_validation,
    )
    pairing = find_units(
        layout,
        participants=inputs.participant_label or None,
        sessions=inputs.session_label or None,
        filters=inputs.bids_filters,
    )
    return replace(settings, inputs=inputs), pairing


def _beside(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the derivative data sets inside the raw one that hold PSR maps of others' making."""
    for description in sorted(
        settings.inputs.bids_dir.glob('derivatives/*/dataset_description.json')
    ):
        folder = description.parent
        try:
            generators = json.loads(description.read_text('utf-8-sig'))['GeneratedBy']
            own = generators[0]['Name'] == GENERATOR
        except (OSError, ValueError, TypeError, LookupError):
            own = False
        if not own and folder.name not in settings.inputs.derivatives and _has_maps(folder):
            yield folder.name, folder


def _has_maps(folder: Path) -> bool:
    return any(True for pattern in _MAPS for _ in folder.glob(pattern))


def _rehearse(settings: Settings, units: tuple[Unit, ...], named: dict[str, str]) -> Splits:
    """Draw or read the folds before anything is computed, to fail early if they cannot be."""
    examples = [
        Example(
            name=unit.label,
            participant=f'sub-{unit.participant}',
            group=named[unit.participant],
            path=Path(),
            digest=unit.label,
        )
        for unit in units
    ]
    training, seed = settings.training, settings.processing.random_seed
    if (path := splits_path(settings)).exists():
        # units that failed when the folds were drawn have none, and may fail again
        drawn = {assignment.unit for assignment in read(path).assignments}
        known = [example for example in examples if example.name in drawn]
        return settle(path, known, training.n_splits, seed)
    splits = assign(examples, training.n_splits, seed)
    check(splits, examples)
    return splits
