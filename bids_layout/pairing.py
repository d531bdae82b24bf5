"""Pair T1w with FLAIR: one unit is one participant × session."""

import difflib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids.layout import BIDSLayout
from bids.utils import natural_sort

from bids_layout.choice import RAW_RULES, admits, check_filters, prefer
from bids_layout.derived import Derivatives, Derived
from bids_layout.query import Image, QueryError, images
from bids_layout.sidecars import Sidecars
from bids_layout.text import printable

_LABELS_SHOWN = 20


def unit_label(participant: str, session: str | None) -> str:
    """Name a unit as files do.

    Examples
    --------
    >>> unit_label('01', 'A')
    'sub-01_ses-A'
    """
    return f'sub-{participant}' + (f'_ses-{session}' if session else '')


@dataclass(frozen=True, kw_only=True)
class Unit(Derived):
    """One participant × session that can be processed, and everything that is used of it.

    Attributes
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``; session is None where the data set has none.
    t1w, flair
        The raw pair.
    metadata
        Merged sidecars of the 'T1w' and the 'FLAIR'.
    """

    participant: str
    session: str | None
    t1w: Path
    flair: Path
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """For instance ``sub-01_ses-A``."""
        return unit_label(self.participant, self.session)

    @property
    def entities(self) -> dict[str, str]:
        """The entities that all outputs of the unit share, under pybids' names."""
        return {'subject': self.participant} | ({'session': self.session} if self.session else {})


@dataclass(frozen=True)
class Skipped:
    """A participant × session that cannot be processed, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class Pairing:
    """What was found: units to process and units left out, in natural order."""

    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]


def find_units(
    layout: BIDSLayout,
    participants: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Pairing:
    """Find every selected participant × session and pair its T1w with its FLAIR.

    Parameters
    ----------
    layout
        Result of `query.index`.
    participants, sessions
        Labels, with or without ``sub-`` and ``ses-``; None selects all.
    filters
        Content of a bids-filter-file with the sections ``t1w``, ``flair`` and ``psr``
        (see `choice.admits`).

    Returns
    -------
    Pairing
        Each selected participant × session is in exactly one of its two lists.

    Raises
    ------
    QueryError
        For labels that do not exist and filters that cannot be understood.
    """
    filters = filters or {}
    check_filters(filters)
    root = Path(layout.root)
    scans: defaultdict[tuple[str, str | None], list[Image]] = defaultdict(list)
    for image in images(layout):
        scans[image.unit].append(image)
    known = _sessions_by_participant(root, scans)
    labels = {session for found in known.values() for session in found if session}
    selected = _select('participant', 'sub-', participants, known)
    selected_sessions = _select('session', 'ses-', sessions, labels) if sessions else None

    derivatives = Derivatives(layout, filters.get('psr', {}))
    sidecars = Sidecars(root)
    indexed_before = layout.connection_manager.database_file
    units, skipped = [], []
    for participant in selected:
        here = {session: scans[participant, session] for session in known[participant]}
        for session in selected_sessions or _natural(here):
            pair = _pair(here, session, filters)
            if isinstance(pair, str):
                reason = _unreadable(root, participant, session) or pair
                if indexed_before and not any(here.values()):
                    reason += f'; if it is newer than the index in {indexed_before}, delete that'
                label = unit_label(participant, session)
                skipped.append(Skipped(printable(label), printable(reason)))
                continue
            t1w, flair, notes = pair
            derived = derivatives.find(t1w, flair, only_session=len(here) == 1)
            metadata = {}
            for name, image in (('T1w', t1w), ('FLAIR', flair)):
                metadata[name], unreadable = sidecars.read(image.path)
                notes += unreadable
            unit = Unit(
                participant=participant,
                session=session,
                t1w=t1w.path,
                flair=flair.path,
                metadata=metadata,
                **vars(derived) | {'notes': (*notes, *derived.notes)},
            )
            units.append(unit)
    return Pairing(tuple(units), tuple(skipped))


def _sessions_by_participant(
    root: Path, units: Iterable[tuple[str, str | None]]
) -> dict[str, set[str | None]]:
    """Collect the sessions that have images or a folder, so that nobody is left unmentioned."""
    found: defaultdict[str, set[str | None]] = defaultdict(set)
    for participant, session in units:
        found[participant].add(session)
    for folder in root.glob('sub-*/'):
        sessions = found[folder.name.removeprefix('sub-')]
        sessions.update(path.name.removeprefix('ses-') for path in folder.glob('ses-*/'))
        if not sessions:
            sessions.add(None)
    return found


def _natural(labels: Iterable[str | None]) -> list[str | None]:
    return [label or None for label in natural_sort([label or '' for label in labels])]


def _select(
    what: str, prefix: str, wanted: Sequence[str] | None, known: Collection[str]
) -> list[str]:
    existing: list[str] = natural_sort(known)
    if not wanted:
        return existing
    bare = {label.removeprefix(prefix) for label in wanted}
    unknown = natural_sort(bare - set(known))
    if not unknown:
        return [label for label in existing if label in bare]
    near = [match for label in unknown for match in difflib.get_close_matches(label, existing, 3)]
    shown = list(dict.fromkeys([*near, *existing]))[:_LABELS_SHOWN]
    more = f' and {len(existing) - len(shown)} more' if len(existing) > len(shown) else ''
    raise QueryError(
        f'The data set has no {what} {", ".join(unknown)}: '
        f'it has {printable(", ".join(shown)) or "none"}{more}.'
    )


def _pair(
    scans: Mapping[str | None, Sequence[Image]],
    session: str | None,
    filters: Mapping[str, Mapping[str, Any]],
) -> tuple[Image, Image, list[str]] | str:
    """Pair the two images of one session, or give the reason why that cannot be done."""
    if session not in scans:
        return f'the participant has no session {session}'
    chosen, notes, missing = [], [], []
    for key, name in (('t1w', 'T1w'), ('flair', 'FLAIR')):
        wanted = filters.get(key, {})
        candidates = [image for image in scans[session] if _is_candidate(image, name, wanted)]
        choice = prefer(name, candidates, RAW_RULES)
        if choice.image is None:
            missing.append(_missing(name, scans, session))
            continue
        if not os.access(choice.image.path, os.R_OK):
            return f'{choice.image.path} cannot be read{_remedy(choice.image.path)}'
        if agent := choice.image.entities.get('ceagent'):
            notes.append(f'the {name} was acquired with a contrast agent (ce-{agent})')
        chosen.append(choice.image)
        notes += choice.notes
    if missing:
        return ' and '.join(missing)
    return chosen[0], chosen[1], notes


def _is_candidate(image: Image, suffix: str, wanted: Mapping[str, Any]) -> bool:
    magnitude = 'part' in wanted or image.entities.get('part') in (None, 'mag')
    return magnitude and admits(image.entities, {'suffix': suffix, **wanted})


def _missing(suffix: str, scans: Mapping[str | None, Sequence[Image]], session: str | None) -> str:
    holding = [
        other
        for other in _natural(scans)
        if any(_is_candidate(image, suffix, {}) for image in scans[other])
    ]
    if session in holding:
        return f'no {suffix} image that the filter admits'
    elsewhere = ', '.join(f'ses-{other}' if other else 'no session' for other in holding)
    return f'no {suffix} image' + (f' (there is one in {elsewhere})' if elsewhere else '')


def _unreadable(root: Path, participant: str, session: str | None) -> str:
    """Give the folder that hides its content, which would else pass for empty."""
    folder = root / f'sub-{participant}'
    for path in (folder, folder / f'ses-{session}') if session else (folder,):
        if path.exists() and not os.access(path, os.R_OK | os.X_OK):
            return f'{path} cannot be read: check its permissions'
    return ''


def _remedy(path: Path) -> str:
    if path.is_symlink():
        return ': it is a link to a file that is not there (DataLad: run "datalad get" first)'
    return ' (deleted since the data set was indexed, or no permission)'
