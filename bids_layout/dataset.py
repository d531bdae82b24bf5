"""What makes the output folder a BIDS derivative data set; every file whole or not at all."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from bids_layout.links import check_links
from bids_layout.names import dataset_links
from bids_layout.query import QueryError
from bids_layout.text import is_utf8

BIDS_VERSION = '1.10.0'
GENERATOR = 'demist'
# BIDS has no suffix for PSR, and none for HTML reports, transforms and figures of derivatives.
IGNORED = ('*_PSRmap.*', '*_psr.*', '*_xfm.*', '*.html', 'figures', 'models', 'group_*')

_README = """\
# demist: synthetic PSR maps

**These maps are synthetic, not measured.** demist computes them from a T1-weighted and a FLAIR
image. They estimate the pool size ratio (PSR) that quantitative magnetisation transfer would
measure; they are no measurement, and not for clinical use.

- PSR is the ratio F = M0m / M0f of the macromolecular to the free water pool, **in percent**.
  The macromolecular pool *fraction* is another quantity: F / (1 + F).
- `*_space-T1w_desc-synth_PSRmap.nii.gz`: the map, on the grid of the T1w. The sidecar names the
  model, its checksum, the sampler, the number of draws and the seed.
- `*_space-T1w_desc-synthsd_PSRmap.nii.gz`: standard deviation over the draws, voxel by voxel,
  in percent PSR. Neighbouring voxels are correlated: it is not the error of a regional mean.
- `*_desc-synth_psr.tsv`: mean, SD, median and volume of each tissue, of lesions and of
  normal-appearing white matter where a lesion mask was given.
- `*_desc-preproc_T1w.nii.gz`, `*_space-T1w_desc-preproc_FLAIR.nii.gz`,
  `*_desc-brain_mask.nii.gz`: what the model saw, before normalisation.
- `*_from-FLAIR_to-T1w_mode-image_xfm.*`: the transform that carries the FLAIR to the T1w (`.txt`
  for ITK and ANTs, `.x5` for nitransforms).
- `sub-*.html`: one report for each participant and session; look at it before using a map.
- `logs/CITATION.*`: the methods in words, with references, to copy into a paper.
"""


def write_dataset_description(
    out_dir: Path,
    bids_dir: Path,
    derivatives: Mapping[str, Path],
    version: str,
    container: Mapping[str, str] | None = None,
) -> None:
    """Write ``dataset_description.json``, ``.bidsignore`` and ``README.md``.

    Files that already say the same are left alone; lines that users added to ``.bidsignore`` are
    kept. A file appears under its name only when it is complete.

    Parameters
    ----------
    out_dir
        Root of the output; made if absent.
    bids_dir
        Root of the raw data set.
    derivatives
        Name → root of each derivative data set used.
    version
        Version of demist.
    container
        ``Type`` and ``Tag`` of the container that demist runs in.

    Raises
    ------
    QueryError
        The folder holds another data set, or a link into one that is read.
    """
    check_output(out_dir)
    check_links(out_dir, [bids_dir, *derivatives.values()])
    out_dir.mkdir(parents=True, exist_ok=True)
    links = dataset_links(out_dir, bids_dir, derivatives)
    generator: dict[str, object] = {'Name': GENERATOR, 'Version': version}
    if container:
        generator['Container'] = dict(container)
    description = {
        'Name': 'demist: synthetic PSR maps, not measured',
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'derivative',
        'GeneratedBy': [generator],
        'SourceDatasets': [{'URL': link} for link in links.values()],
        'DatasetLinks': links,
        'HowToAcknowledge': 'Cite the works listed in logs/CITATION.md.',
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + '\n'
    write_whole(out_dir / 'dataset_description.json', text)

    ignore = out_dir / '.bidsignore'
    try:
        present = ignore.read_text(encoding='utf-8').splitlines() if ignore.exists() else []
    except UnicodeDecodeError as error:
        raise QueryError(f'{ignore} is not UTF-8 text: convert or delete it.') from error
    lines = [*present, *(line for line in IGNORED if line not in present)]
    write_whole(ignore, '\n'.join(lines) + '\n')
    write_whole(out_dir / 'README.md', _README)


def check_output(out_dir: Path) -> None:
    """Refuse an output folder that holds another data set.

    Parameters
    ----------
    out_dir
        Root of the output; need not exist.

    Raises
    ------
    QueryError
        It is raw data, another program's output, or not a folder.
    """
    if not is_utf8(str(out_dir)):
        raise QueryError(f'The path of the output folder {out_dir} is not UTF-8: give another one.')
    if out_dir.exists() and not out_dir.is_dir():
        raise QueryError(f'The output folder {out_dir} is a file: give another path.')
    path = out_dir / 'dataset_description.json'
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding='utf-8-sig'))
        owner = found['GeneratedBy'][0]['Name']
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        owner = 'another data set'
    if owner != GENERATOR:
        raise QueryError(
            f'The output folder {out_dir} belongs to {owner}: '
            'give an empty folder or one that demist wrote.'
        )


def write_whole(path: Path, text: str) -> None:
    """Write a text file aside and rename it, unless it already has that content.

    Parameters
    ----------
    path
        The file.
    text
        Its content, written as UTF-8.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        return
    aside = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    try:
        aside.write_text(text, encoding='utf-8')
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
