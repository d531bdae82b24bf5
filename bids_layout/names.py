"""Names of what demist writes; one list of patterns serves the app and its data sink."""

import os
from collections.abc import Mapping
from pathlib import Path

from bids.layout.writing import build_path

from bids_layout.pairing import Unit

_UNIT = 'sub-{subject}[_ses-{session}]'
_FOLDER = 'sub-{subject}[/ses-{session}]/{datatype<anat>|anat}/'
_SPACE = '[_space-{space}][_cohort-{cohort}][_res-{resolution}]'

FILE_PATTERNS: tuple[str, ...] = (
    # scalar maps and images
    f'{_FOLDER}{_UNIT}{_SPACE}[_desc-{{desc}}]_{{suffix<T1w|FLAIR|PSRmap>}}'
    '{extension<.nii|.nii.gz|.json>|.nii.gz}',
    # brain and lesion masks
    f'{_FOLDER}{_UNIT}{_SPACE}[_label-{{label}}][_desc-{{desc}}]_{{suffix<mask>}}'
    '{extension<.nii|.nii.gz|.json>|.nii.gz}',
    # segmentations and the tables that name their labels
    f'{_FOLDER}{_UNIT}{_SPACE}[_desc-{{desc}}]_{{suffix<dseg>}}'
    '{extension<.nii|.nii.gz|.json|.tsv>|.nii.gz}',
    # transforms
    f'{_FOLDER}{_UNIT}_from-{{from}}_to-{{to}}_mode-{{mode<image|points>|image}}[_desc-{{desc}}]'
    '_{suffix<xfm>}{extension<.txt|.x5|.h5|.nii.gz|.json>}',
    # regional tables
    f'{_FOLDER}{_UNIT}[_desc-{{desc}}]_{{suffix<psr>}}{{extension<.tsv|.json>|.tsv}}',
    # figures
    'sub-{subject}[/ses-{session}]/{datatype<figures>}/'
    f'{_UNIT}{_SPACE}[_label-{{label}}][_desc-{{desc}}]_{{suffix<T1w|FLAIR|PSRmap|mask|dseg|psr>}}'
    '{extension<.svg>|.svg}',
)


def derivative_path(
    out_dir: Path,
    unit: Unit,
    *,
    suffix: str,
    extension: str | None = None,
    desc: str | None = None,
    space: str | None = None,
    **entities: str | None,
) -> Path:
    """Name one output of a unit.

    The names carry no ``run`` or ``acq``: a unit has one T1w and one FLAIR, and the sidecar's
    ``Sources`` says which.

    Parameters
    ----------
    out_dir
        Root of the derivative data set.
    unit
        The unit.
    suffix, extension, desc, space
        As in the file name; the extension has a default for every suffix but ``xfm``.
    **entities
        Further entities under the names of niworkflows' data sink (``label``, ``from``, ``to``,
        ``mode``, ``resolution``, ``cohort``, and ``datatype='figures'``).

    Returns
    -------
    Path
        Path below `out_dir`.

    Raises
    ------
    ValueError
        No pattern admits this combination.
    """
    wanted = {
        **unit.entities,
        'suffix': suffix,
        'extension': extension,
        'desc': desc,
        'space': space,
        **entities,
    }
    path = build_path(wanted, list(FILE_PATTERNS), strict=True)
    if path is None:
        given = {name: value for name, value in wanted.items() if value}
        raise ValueError(f'no output of demist has a name with {given}')
    return out_dir / str(path)


def figure_path(
    out_dir: Path, unit: Unit, *, suffix: str, desc: str, space: str | None = None
) -> Path:
    """Name one figure of a unit's report, an SVG file below ``figures/``."""
    return derivative_path(
        out_dir, unit, suffix=suffix, extension='.svg', desc=desc, space=space, datatype='figures'
    )


def report_path(out_dir: Path, unit: Unit) -> Path:
    """Name the report of a unit, for instance ``sub-01_ses-A.html``."""
    return out_dir / f'{unit.label}.html'


def dataset_links(out_dir: Path, bids_dir: Path, derivatives: Mapping[str, Path]) -> dict[str, str]:
    """Make ``DatasetLinks``: the data sets that `bids_uri` refers to.

    Parameters
    ----------
    out_dir
        Root of demist's output.
    bids_dir
        Root of the raw data set, linked as "raw".
    derivatives
        Name → root of each derivative data set used.

    Returns
    -------
    dict of str to str
        Relative where the output lies inside the raw data set (the whole can then be moved),
        else ``file://`` URIs.
    """
    raw = bids_dir.resolve()
    home = out_dir.resolve()
    links = {}
    for name, root in {'raw': raw, **derivatives}.items():
        target = root.resolve()
        inside = home.is_relative_to(raw) and target.is_relative_to(raw)
        links[name] = os.path.relpath(target, home) if inside else target.as_uri()
    return links


def bids_uri(path: Path, bids_dir: Path, derivatives: Mapping[str, Path]) -> str:
    """Name an input in a sidecar's ``Sources``.

    Parameters
    ----------
    path
        A file of the raw data set or of one of the derivative data sets.
    bids_dir, derivatives
        As for `dataset_links`.

    Returns
    -------
    str
        For instance ``bids:raw:sub-01/anat/sub-01_T1w.nii.gz``.

    Raises
    ------
    ValueError
        The file is in none of the data sets.
    """
    # Derivatives first: they often lie inside the raw data set.
    for name, root in {**derivatives, 'raw': bids_dir}.items():
        if path.absolute().is_relative_to(root.absolute()):
            return f'bids:{name}:{path.absolute().relative_to(root.absolute()).as_posix()}'
    raise ValueError(f'{path} is in none of the data sets that were given')


def summary_path(out_dir: Path, unit: Unit) -> Path:
    """Name the file that tells the report of a unit what its figures do not show."""
    return figure_path(out_dir, unit, suffix='psr', desc='summary').with_suffix('.json')
