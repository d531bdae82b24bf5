"""How well maps tell lesions from normal-appearing white matter, and how right they are there.

For any data set with lesion masks that demist has been run on. Lesions, proximal and distal NAWM
are those of `demist_app.evaluation.lesions`; white matter is what demist's own segmentation gives
of T1w and FLAIR, one voxel inside its border. Beside every AUC stands the agreement of mean PSR in
lesions with the truth and with the measurement, where they are known: FLAIR alone may tell lesions
from NAWM as well as measured PSR does, so a map above the row *measured* is not the more accurate
for it: copied contrast raises an area, and so does less noise. Prints Markdown.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from common import SYNTHETIC, Map, add_facts
from nibabel.processing import resample_from_to
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.lesions import (
    PARTNERS,
    Pair,
    inner_white,
    lesion_pairs,
    means,
    midsagittal,
    pair_scores,
    voxel_scores,
)
from demist_app.evaluation.roc import auc, auc_interval, delong_interval, delong_test
from demist_app.imaging.normalise import normalise
from demist_app.imaging.tissue import WM, segment

MASK = '_space-T1w_label-lesion_mask.nii.gz'
ORACLE, TRUTH = '*measured*', '*truth*'
KNOWN = {'*fit*': 'fit', '*retest*': 'retest', TRUTH: 'truth'}
BRIGHT = 'FLAIR alone'
CONTRASTS = (BRIGHT, 'T1w alone')
FEWEST = 3  # lesions that an agreement can be told of

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Scan:
    """One unit with lesions: all maps there are of it, on the grid of its T1w."""

    participant: str
    pairs: list[Pair]
    maps: dict[str, Map]


def on_grid(path: Path, reference: SpatialImage, order: int = 1) -> Map:
    """Read an image on the grid of another."""
    image = nb.as_closest_canonical(nb.load(path))
    if image.shape != reference.shape or not np.allclose(image.affine, reference.affine):
        image = resample_from_to(image, reference, order=order)
    return image.get_fdata(dtype=np.float32)


def surely_white(t1w: Map, flair: Map, mask: Map, lesions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return white matter all of whose neighbours are white matter or lesions."""
    return inner_white(segment(t1w, flair, mask, lesions) == WM, lesions)


def scans(
    lesion_dir: Path, outputs: dict[str, Path], measured: Path | None, phantom: Path | None
) -> Iterator[Scan]:
    """Yield the units whose lesions are known and that all models have been run on."""
    for path in sorted(lesion_dir.glob(f'sub-*/**/*{MASK}')):
        name = path.name.removesuffix(MASK)
        below = path.parent.relative_to(lesion_dir)
        folders = {model: folder / below for model, folder in outputs.items()}
        if not all((folder / f'{name}{SYNTHETIC}').exists() for folder in folders.values()):
            continue
        scan = next(iter(folders.values())) / name
        image = nb.as_closest_canonical(nb.load(f'{scan}_desc-preproc_T1w.nii.gz'))
        mask = on_grid(Path(f'{scan}_desc-brain_mask.nii.gz'), image, 0)
        t1w = normalise(image.get_fdata(dtype=np.float32), mask)[0]
        flair = on_grid(Path(f'{scan}_space-T1w_desc-preproc_FLAIR.nii.gz'), image)
        flair = normalise(flair, mask)[0]
        lesions = (on_grid(path, image, 0) > 0) & (mask > 0)
        spacing = image.header.get_zooms()[:3]
        plane = midsagittal(t1w, mask > 0, spacing)
        pairs = lesion_pairs(lesions, surely_white(t1w, flair, mask, lesions), spacing, plane)
        maps = {}
        if measured:
            found = measured / below / f'{name}_space-T1w_desc-qmt_PSRmap.nii.gz'
            maps[ORACLE] = on_grid(found, image)
        if phantom:
            stem = phantom / below / f'{name}_space-T1w'
            maps |= {
                title: on_grid(Path(f'{stem}_desc-{desc}_PSRmap.nii.gz'), image)
                for title, desc in KNOWN.items()
            }
        maps |= {m: on_grid(f / f'{name}{SYNTHETIC}', image) for m, f in folders.items()}
        yield Scan(name.split('_')[0], pairs, maps | {BRIGHT: flair, 'T1w alone': t1w})


def interval(low: float, high: float) -> str:
    """Write an interval; none where there is one participant."""
    return '–' if np.isnan(low) else f'{low:.3f} to {high:.3f}'


def curves(title: str, found: list[Scan], tables: dict[str, Table], reference: str) -> list[str]:
    """Return the cells about telling lesions from NAWM."""
    bright = title == BRIGHT
    owners = np.repeat([scan.participant for scan in found], [len(s.pairs) for s in found])
    cells = []
    for partner in PARTNERS:
        labels, scores, rows = pair_scores(tables[title], partner, bright=bright)
        area = delong_interval(labels, scores)
        cells.append(f'{area.auc:.3f} ({area.lower:.3f} to {area.upper:.3f})')
        if partner == 'combined':
            cells.append(interval(*auc_interval(labels, scores, owners[rows])))
            others = pair_scores(tables[reference], partner, bright=reference == BRIGHT)[1]
            p = delong_test(labels, scores, others)
    parts = [voxel_scores(s.maps[title], s.pairs, 'combined', bright=bright) for s in found]
    voxels = auc(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return [*cells, f'{voxels:.3f}', '–' if title == reference else f'{p:.3g}']


def agreements(title: str, tables: dict[str, Table]) -> list[str]:
    """Return the cells about the mean PSR of lesions."""
    cells = []
    for other in (TRUTH, ORACLE):
        if title in (other, *CONTRASTS) or other not in tables or len(tables[title]) < FEWEST:
            cells += ['–'] * 3
            continue
        a = agreement(tables[title][:, 0], tables[other][:, 0])
        cells += [f'{a.r:.3f}', f'{a.ccc:.3f}', f'{a.bias:+.2f} ({a.lower:+.2f} to {a.upper:+.2f})']
    return cells


def card_facts(title: str, found: list[Scan], tables: dict[str, Table]) -> dict[str, Any]:
    """Return what a model card tells of a model of which the truth is known."""
    areas = {}
    for name in (title, *(n for n in (ORACLE, *CONTRASTS) if n in tables)):
        labels, scores, _ = pair_scores(tables[name], 'combined', bright=name == BRIGHT)
        area = delong_interval(labels, scores)
        told = 'this model' if name == title else name.strip('*')
        areas[told] = [area.auc, area.lower, area.upper]
    agreed = agreement(tables[title][:, 0], tables[TRUTH][:, 0])
    return {
        'count': len(tables[title]),
        'participants': len({scan.participant for scan in found if scan.pairs}),
        'auc': areas,
        'truth': {key: getattr(agreed, key) for key in ('r', 'ccc', 'bias', 'lower', 'upper')},
    }


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/lesions.py')
    parser.add_argument('lesions', type=Path, help=f'derivative data set with *{MASK}')
    parser.add_argument('outputs', nargs='+', help='NAME=FOLDER of each model’s demist output')
    parser.add_argument('--measured', type=Path, help='derivative data set with *_desc-qmt_PSRmap')
    parser.add_argument('--phantom', type=Path, help='derivative data set with the truth')
    parser.add_argument(
        '--reference', help='row that p (DeLong, combined NAWM) is against; default: the first'
    )
    parser.add_argument('--metrics', type=Path, help='add the last model’s areas to this JSON')
    options = parser.parse_args()
    outputs = {n: Path(f) for n, f in (text.split('=', 1) for text in options.outputs)}
    found = list(scans(options.lesions, outputs, options.measured, options.phantom))
    if not found:
        parser.error(f'no unit has lesions in {options.lesions} and maps in every output')
    titles = list(found[0].maps)
    tables = {t: np.concatenate([means(s.maps[t], s.pairs) for s in found]) for t in titles}
    reference = options.reference or titles[0]
    counts = np.isfinite(tables[reference]).sum(axis=0)
    patients = {scan.participant for scan in found if scan.pairs}
    print(
        f'{counts[0]} lesions of {len(patients)} participants, {counts[1]} with proximal and '
        f'{counts[2]} with distal NAWM. In brackets 95 % intervals of DeLong, for agreement the '
        f'limits. p: DeLong against {reference}.\n'
    )
    columns = (
        'map', 'AUC, combined', 'participants drawn', 'AUC, pNAWM', 'AUC, dNAWM',
        'AUC, voxels pooled', 'p', 'r, true', 'CCC, true', 'bias, true (pp)', 'r, measured',
        'CCC, measured', 'bias, measured (pp)', 'means: lesion, pNAWM, dNAWM',
    )  # fmt: skip
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    for title in titles:
        centres = ', '.join(f'{value:.2f}' for value in np.nanmean(tables[title], axis=0))
        cells = [*curves(title, found, tables, reference), *agreements(title, tables), centres]
        print(f'| {title} | ' + ' | '.join(cells) + ' |', flush=True)
    if options.metrics:
        *_, last = outputs
        add_facts(options.metrics, lesions=card_facts(last, found, tables))


if __name__ == '__main__':
    main()
