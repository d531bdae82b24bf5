"""Which scans raise an alarm: held-out phantoms, real scans, and scans spoilt on purpose.

Every unit is judged by the model as it is; those named are spoilt as well. Prints Markdown.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nb
import numpy as np
from common import Map, Mask, load
from scipy import ndimage

from demist_app.imaging.conform import brain_box
from demist_app.imaging.normalise import normalise
from demist_app.model.bundle import load_bundle
from demist_app.model.outliers import judge
from demist_app.model.predictor import Predictor, load_predictor
from demist_app.model.signature import Signature, signature
from demist_app.model.synthesis import DiffusionPredictor

NOISE = (0.05, 0.10, 0.15)  # of the brain's brightest
SLICES = (5, 8)  # mm
SHIFT = 8  # mm
GHOST = 0.25
SKULL = 8  # mm, what a mask would leave around the brain


def spoilt(images: Map) -> Iterator[tuple[str, Map]]:
    """Yield a pair of scans in ways that no training scan was."""
    t1w, flair = images
    yield 'FLAIR and T1w exchanged', images[::-1].copy()
    yield 'FLAIR is a second T1w', images[[0, 0]]
    yield 'T1w is a second FLAIR', images[[1, 1]]
    yield 'T1w inverted', np.stack([1 - t1w, flair])
    yield 'FLAIR to the power of 2.5', np.stack([t1w, flair**2.5])
    yield f'FLAIR {SHIFT} mm off', np.stack([t1w, np.roll(flair, SHIFT, axis=1)])
    yield 'coil without its upper half', images * np.linspace(0.2, 1, images.shape[3], dtype='f4')
    ghosts = np.roll(images, images.shape[2] // 4, 2) + np.roll(images, -images.shape[2] // 4, 2)
    yield f'ghosts of {GHOST:.0%} (motion)', np.clip(images + GHOST * ghosts, 0, 1)
    noise = np.random.default_rng(0).standard_normal(images.shape).astype(np.float32)
    for level in NOISE:
        yield f'noise of {level:.0%} of the brightest', np.clip(images + level * noise, 0, 1)
    for thickness in SLICES:
        yield (
            f'slices of {thickness} mm',
            ndimage.uniform_filter1d(images, thickness, axis=3),
        )
    yield 'blur (SD 2 mm)', ndimage.gaussian_filter(images, (0, 2, 2, 2))


def pairs(folder: Path) -> Iterator[tuple[str, list[Map], Mask]]:
    """Yield the scans that demist wrote and their brain.

    The features are of 1 mm: scans of other voxels are left out, their sidecars have their scores.
    """
    for path in sorted(folder.glob('sub-*/**/*_desc-brain_mask.nii.gz')):
        if not np.allclose(nb.load(path).header.get_zooms()[:3], 1, atol=0.01):
            print(
                f'{path.name}: not of 1 mm, left out; see OutlierScore of its map', file=sys.stderr
            )
            continue
        stem = str(path).removesuffix('_desc-brain_mask.nii.gz')
        files = (f'{stem}_desc-preproc_T1w.nii.gz', f'{stem}_space-T1w_desc-preproc_FLAIR.nii.gz')
        yield Path(stem).name, [load(Path(file)) for file in files], load(path) > 0


def prepared(scans: list[Map], mask: Mask) -> tuple[Map, Mask]:
    """Normalise as demist does and cut to the brain."""
    images = np.stack([normalise(scan, mask)[0] for scan in scans])
    box = brain_box(mask)
    return images[:, *box], mask[box]


def cases(scans: list[Map], mask: Mask, *, spoil: bool) -> Iterator[tuple[str, Map, Mask]]:
    """Yield a unit as it is and, if wanted, spoilt."""
    images, brain = prepared(scans, mask)
    yield 'as it is', images, brain
    if spoil:
        for title, pair in spoilt(images):
            yield title, pair, brain
        wide = ndimage.binary_dilation(mask, iterations=SKULL)
        yield f'{SKULL} mm of skull left', *prepared(scans, wide)


def seen(predictor: Predictor, images: Map, mask: Mask) -> Signature:
    """Return what the alarm goes by."""
    found = signature(images, mask)
    if isinstance(predictor, DiffusionPredictor):
        latent = predictor.describe(images, mask, threads=os.cpu_count() or 1)
        if latent is not None:
            found['latent'] = latent
    return found


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/outliers.py')
    parser.add_argument('bundle', type=Path)
    parser.add_argument('outputs', nargs='+', type=Path, help='demist’s output folders, of 1 mm')
    parser.add_argument('--spoil', nargs='*', default=[], metavar='UNIT', help='e.g. sub-01_ses-01')
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    known, predictor = bundle.metadata['outliers'], load_predictor(bundle)
    print(
        f'Alarm above {known["threshold"]:.2f}, set for false alarms in at most '
        f'{known["false_alarm_rate"]:.1%} of scans like the {known["units"]} of the training.\n'
    )
    columns = ('outputs', 'unit', 'scans', *known['usual'], 'score', 'alarm')
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    for folder in options.outputs:
        for name, scans, mask in pairs(folder):
            for title, images, brain in cases(scans, mask, spoil=name in options.spoil):
                found = judge(seen(predictor, np.ascontiguousarray(images), brain), known)
                cells = [f'{score:.1f}' for score in (*found.scores.values(), found.score)]
                verdict = 'yes' if found.alarm else 'no'
                print(
                    f'| {folder.name} | {name} | {title} | {" | ".join(cells)} | {verdict} |',
                    flush=True,
                )


if __name__ == '__main__':
    main()
