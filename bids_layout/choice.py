"""Choose one image among several: the user's filter first, then rules that are said aloud."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bids.layout import Config

from bids_layout.query import Image, QueryError

FILTER_KEYS = ('t1w', 'flair', 'psr')
# One filter file often serves several apps: these are the keys of fMRIPrep and its kin.
_OTHER_APPS_KEYS = {'asl', 'bold', 'dwi', 'fmap', 'm0scan', 'pet', 'roi', 'sbref', 't2w'}
_NUMBERS = {'run', 'echo', 'flip', 'inv', 'chunk'}


@dataclass
class Choice:
    """What was chosen and what should be said about it in the report."""

    image: Image | None = None
    notes: list[str] = field(default_factory=list)


def check_filters(filters: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse filters that could never do what their author meant.

    Parameters
    ----------
    filters
        Content of a bids-filter-file.

    Raises
    ------
    QueryError
        For a key other than t1w, flair, psr (or another app's) and for an unknown entity.
    """
    known = {name for config in ('bids', 'derivatives') for name in Config.load(config).entities}
    for key, entities in filters.items():
        if key in _OTHER_APPS_KEYS:
            continue
        if key not in FILTER_KEYS:
            raise QueryError(
                f'The filter file has a section "{key}": demist knows {", ".join(FILTER_KEYS)}.'
            )
        if not isinstance(entities, Mapping):
            raise QueryError(
                f'Section "{key}" of the filter file is not an object: '
                'write it as {"entity": value, ...}.'
            )
        for name in entities:
            if name not in known:
                raise QueryError(
                    f'The filter file names an unknown entity "{name}" in section "{key}": '
                    f'use one of {", ".join(sorted(known))}.'
                )


def admits(entities: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Tell whether an image passes a filter, in the sense of fMRIPrep's ``--bids-filter-file``.

    Parameters
    ----------
    entities
        Entities of the image.
    filters
        Entity → wanted value or list of values; ``null`` is "must be absent", ``"*"`` is "must
        be present", anything else must be equal (numbers with or without leading zeros, labels
        with or without ``sub-`` and ``ses-``).

    Returns
    -------
    bool
        True if every entity has one of its wanted values.

    Examples
    --------
    >>> admits({'suffix': 'T1w', 'run': '02'}, {'run': 2, 'acquisition': None})
    True
    >>> admits({'suffix': 'T1w'}, {'run': '*'})
    False
    """
    return all(
        any(
            _equals(name, entities.get(name), value)
            for value in (wanted if isinstance(wanted, list) else [wanted])
        )
        for name, wanted in filters.items()
    )


def _equals(name: str, value: Any, wanted: Any) -> bool:
    if wanted is None or value is None:
        return wanted is None and value is None
    if wanted == '*':
        return True
    if name in _NUMBERS:
        return str(value).lstrip('0') == str(wanted).lstrip('0')
    if name == 'extension':
        return str(value).lstrip('.') == str(wanted).lstrip('.')
    prefix = {'subject': 'sub-', 'session': 'ses-'}.get(name, '')
    return str(value) == str(wanted).removeprefix(prefix)


Rule = tuple[str, Callable[[Image], bool]]


def absent(*names: str) -> Callable[[Image], bool]:
    """Make a predicate: the image has none of these entities."""
    return lambda image: not any(name in image.entities for name in names)


RAW_RULES: tuple[Rule, ...] = (
    ('without contrast agent', absent('ceagent')),
    ('the whole volume', absent('chunk')),
    ('not a single echo', absent('echo')),
    ('the first echo', lambda image: int(image.entities.get('echo', 1)) == 1),
    ('in its own space', absent('space')),
    ('compressed', lambda image: image.path.suffix == '.gz'),
)


def prefer(what: str, candidates: Sequence[Image], rules: Iterable[Rule]) -> Choice:
    """Narrow candidates rule by rule, then take the last by name.

    Parameters
    ----------
    what
        Name of the kind of image, for the note.
    candidates
        Images in natural order of their names.
    rules
        Preferences, the strongest first; a rule that would leave nothing is passed over.

    Returns
    -------
    Choice
        With a note if there was more than one candidate.
    """
    if not candidates:
        return Choice()
    remaining = list(candidates)
    reasons = []
    for reason, keeps in rules:
        kept = [image for image in remaining if len(remaining) > 1 and keeps(image)]
        if kept and len(kept) < len(remaining):
            remaining = kept
            reasons.append(reason)
    chosen = remaining[-1]
    if len(remaining) > 1:
        reasons.append('the last by name')
    if not reasons:
        return Choice(chosen)
    note = f'{len(candidates)} {what} images; used {chosen.path.name} ({", ".join(reasons)})'
    return Choice(chosen, [note])
