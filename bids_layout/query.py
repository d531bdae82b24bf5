"""Index a BIDS data set and its derivatives; say plainly why where that cannot be done."""

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids.layout import BIDSLayout, BIDSLayoutIndexer, Config, parse_file_entities
from bids.layout.models import LayoutInfo
from sqlalchemy.exc import SQLAlchemyError

from bids_layout.text import is_utf8

DATABASE_FILE = 'layout_index.sqlite'
_IMAGE = r'\.nii(?:\.gz)?$'
_RAW = re.compile(rf'/anat/[^/]+{_IMAGE}')
# LST-AI names its masks "..._seg-lst.nii.gz", or just "space-flair_seg-lst.nii.gz", without suffix.
_DERIVED = re.compile(rf'(?:_(?:T1w|PSRmap|mask|dseg)|[_/][^/]*seg-lst){_IMAGE}')
_UNUSED_FOLDERS = re.compile(
    r'/(?:beh|dwi|eeg|fmap|func|ieeg|meg|micr|motion|mrs|nirs|perf|pet|figures|logs?|surf)$'
)
# Folders that link to a folder around them would be followed for ever
_TOO_DEEP = re.compile(r'^(?:/[^/]+){7,}$')
_NOT_UTF8 = re.compile('[\ud800-\udfff]')  # bytes that Python could not decode
_OUTSIDE_PARTICIPANTS = re.compile(r'^/(?!sub-|dataset_description\.json$)')


class QueryError(ValueError):
    """The data set or the selection cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Image:
    """One indexed image and the entities of its name (pybids' long names)."""

    path: Path
    entities: Mapping[str, Any]

    @property
    def unit(self) -> tuple[str, str | None]:
        """Participant and session labels."""
        return self.entities['subject'], self.entities.get('session')


def index(
    bids_dir: Path,
    derivatives: Mapping[str, Path],
    database_dir: Path | None = None,
    validate: bool = True,
) -> BIDSLayout:
    """Index the anatomical images of a data set and what demist uses of its derivatives.

    Only images are indexed. Sidecars are read when they are needed (`sidecars.read`), so that
    one broken JSON file costs one note and not the whole cohort.

    Parameters
    ----------
    bids_dir
        Root of the raw data set.
    derivatives
        Name → root of each derivative data set; the names become the keys of
        ``layout.derivatives``.
    database_dir
        Folder that keeps the index between runs. An index found there is used as it is; a new
        one appears whole or not at all, so that parallel jobs can share the folder.
    validate
        Require a complete ``dataset_description.json`` and ignore raw files whose names are not
        valid BIDS.

    Returns
    -------
    BIDSLayout
        With one child in ``.derivatives`` for each derivative data set.

    Raises
    ------
    QueryError
        A folder is missing, unreadable or not a BIDS data set, or the index belongs to another
        data set.
    """
    required = ('Name', 'BIDSVersion') if validate else ()
    _check_dataset(bids_dir, 'BIDS data set', required)
    for name, folder in derivatives.items():
        _check_dataset(folder, f'derivative data set "{name}"', ())

    layout = _index_one(bids_dir, database_dir, _RAW, validate)
    for name, folder in derivatives.items():
        child_database = None if database_dir is None else database_dir / name
        layout.derivatives[name] = _index_one(folder, child_database, _DERIVED, validate=False)
    return layout


def images(layout: BIDSLayout) -> list[Image]:
    """List the indexed images of one data set (not of its derivatives), in natural order.

    Entities are parsed from the path below the data set's root: pybids searches the absolute
    path, so that a data set kept in ``/home/sub-x/`` would hold nobody but participant "x".

    Parameters
    ----------
    layout
        A data set indexed by `index`.

    Returns
    -------
    list of Image
        Images below a participant's folder.
    """
    root = Path(layout.root)
    configs = [Config.load('bids'), Config.load('derivatives')]
    known = [entity for config in configs for entity in config.entities.values()]
    found = []
    for name in layout.get(return_type='file', scope='self'):
        below = f'/{Path(name).relative_to(root).as_posix()}'
        if not (_RAW.search(below) or _DERIVED.search(below)):
            continue
        image = Image(Path(name), parse_file_entities(below, entities=known))
        if _in_its_place(below, image):
            found.append(image)
    return found


def _in_its_place(below: str, image: Image) -> bool:
    """Tell whether folders and file name agree on who and when (a copied scan may not)."""
    parts = re.findall(r'(?:(?<=/)|(?<=_))(?:sub|ses)-[^/_]+', below)
    expected = {f'sub-{image.entities.get("subject")}', f'ses-{image.entities.get("session")}'}
    return 'subject' in image.entities and set(parts) <= expected


def _index_one(
    root: Path, database_dir: Path | None, wanted: re.Pattern[str], validate: bool
) -> BIDSLayout:
    unwanted_file = re.compile(rf'^(?!.*{wanted.pattern})/sub-.*\.[^/]*$')
    indexer = BIDSLayoutIndexer(
        validate=validate,
        index_metadata=False,
        ignore=[_OUTSIDE_PARTICIPANTS, _UNUSED_FOLDERS, _TOO_DEEP, _NOT_UTF8, unwanted_file],
        config_filename=uuid.uuid4().hex,  # what a data set holds must not tell how to read it
    )
    options = {'validate': False, 'config': ['bids', 'derivatives'], 'indexer': indexer}
    try:
        if database_dir is None:
            return BIDSLayout(root, **options)
        if not (database_dir / DATABASE_FILE).exists():
            aside = database_dir / f'.{uuid.uuid4().hex}'
            try:
                BIDSLayout(root, database_path=aside, **options)
                (aside / DATABASE_FILE).replace(database_dir / DATABASE_FILE)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        layout = BIDSLayout(root, database_path=database_dir, **options)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, SQLAlchemyError) as error:
        # pybids trips over malformed descriptions and broken indices in many ways.
        hint = f' (if the index in {database_dir} is broken, delete it)' if database_dir else ''
        raise QueryError(
            f'{root} cannot be indexed: {type(error).__name__}: {error}{hint}'
        ) from error
    indexed = layout.session.query(LayoutInfo).one().root
    if Path(indexed) != root.absolute():
        raise QueryError(
            f'The index in {database_dir} was made for {indexed}, not for {root.absolute()}: '
            'give another --bids-database-dir or delete that folder.'
        )
    return layout


def _check_dataset(folder: Path, what: str, required: tuple[str, ...]) -> None:
    """Refuse what pybids would drop in silence or report without naming the file."""
    if not folder.exists():
        raise QueryError(f'The {what} {folder} does not exist: check the path.')
    if not is_utf8(str(folder)):
        raise QueryError(f'The path of the {what} {folder} is not UTF-8: rename the folder.')
    if not folder.is_dir():
        raise QueryError(f'The {what} {folder} is a file: give the folder that holds it.')
    try:
        content = {entry.name for entry in folder.iterdir()}
    except PermissionError:
        raise QueryError(f'The {what} {folder} cannot be read: check its permissions.') from None
    description = folder / 'dataset_description.json'
    if description.name not in content:
        inside = sorted(path.parent.name for path in folder.glob('*/dataset_description.json'))
        remedy = (
            f'give one of the data sets inside it ({", ".join(inside)})'
            if inside
            else 'add one with at least "Name" and "BIDSVersion"'
        )
        if not content:
            raise QueryError(f'The {what} {folder} is an empty folder: give another one.')
        raise QueryError(f'The {what} {folder} has no dataset_description.json: {remedy}.')
    try:
        fields = json.loads(description.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        raise QueryError(f'{description} is not readable as JSON ({error}): correct it.') from error
    if not isinstance(fields, dict):
        raise QueryError(f'{description} does not hold a JSON object: correct it.')
    missing = [key for key in required if key not in fields]
    if missing:
        raise QueryError(
            f'{description} lacks {" and ".join(missing)}: '
            'add it, or pass --skip-bids-validation to go on without.'
        )
