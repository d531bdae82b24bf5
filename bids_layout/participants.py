"""Read participants.tsv as people write it."""

import csv
from collections.abc import Iterable
from pathlib import Path

from bids_layout.query import QueryError

_ENCODINGS = ('utf-8-sig', 'cp1252', 'latin-1')
_MISSING = ('', 'n/a', 'na', 'nan', 'none')


def read_participants(bids_dir: Path, labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read the rows of ``participants.tsv`` that belong to given participants.

    Byte-order marks, Windows encodings, commas or semicolons for tabs, identifiers without
    ``sub-`` and identifiers that a spreadsheet robbed of leading zeros are understood.

    Parameters
    ----------
    bids_dir
        Root of the raw data set.
    labels
        Participants, without ``sub-``.

    Returns
    -------
    dict
        Label → column → value, without missing values (``n/a``). Empty without the file; a
        participant without a row has no columns.

    Raises
    ------
    QueryError
        The file is no table, lacks the column ``participant_id``, or has two rows for one of the
        participants.
    """
    path = bids_dir / 'participants.tsv'
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, str]] = {}
    repeated = set()
    try:
        lines = _decode(path).splitlines()
    except UnicodeDecodeError as error:
        raise QueryError(f'{path} is not readable as text ({error}): save it as UTF-8.') from error
    separator = max('\t,;', key=lines[0].count) if lines else '\t'
    if separator == '\t':
        # TSV knows no quoting: a lone quotation mark must not swallow the rows that follow.
        reader = csv.DictReader(lines, delimiter='\t', quoting=csv.QUOTE_NONE, restval='')
    else:
        reader = csv.DictReader(lines, delimiter=separator, restval='')
    try:
        columns = [_clean(name) for name in reader.fieldnames or []]
        reader.fieldnames = columns
        table = list(reader)
    except csv.Error as error:
        raise QueryError(f'{path} is not readable as a table ({error}): correct it.') from error
    key = next((name for name in columns if name.lower() == 'participant_id'), None)
    if key is None:
        raise QueryError(f'{path} has no column "participant_id": add it.')
    for row in table:
        values = {name: _clean(row[name]) for name in columns}
        label = values.pop(key).removeprefix('sub-')
        if label in rows:
            repeated.add(label)
        rows[label] = {k: v for k, v in values.items() if k and v.lower() not in _MISSING}

    found = {}
    for label in labels:
        same = label if label in rows else _without_zeros(label, rows)
        if same in repeated:
            raise QueryError(f'{path} has more than one row for sub-{label}: keep one.')
        found[label] = rows.get(same, {})
    return found


def groups(bids_dir: Path, labels: Iterable[str], column: str = 'group') -> dict[str, str | None]:
    """Read one column of ``participants.tsv``.

    Parameters
    ----------
    bids_dir
        Root of the raw data set.
    labels
        Participants, without ``sub-``.
    column
        Name of the column.

    Returns
    -------
    dict
        Label → value, None where it is missing.
    """
    labels = list(labels)
    table = read_participants(bids_dir, labels)
    return {label: table.get(label, {}).get(column) for label in labels}


def _clean(cell: str) -> str:
    return cell.strip().strip('"')


def _decode(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        return content.decode('utf-16')
    for encoding in _ENCODINGS[:-1]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode(_ENCODINGS[-1])


def _without_zeros(label: str, rows: Iterable[str]) -> str:
    """Find the one identifier that differs from a numeric label by leading zeros only."""
    same = [row for row in rows if row.lstrip('0') == label.lstrip('0')]
    return same[0] if label.isdigit() and len(same) == 1 else ''
