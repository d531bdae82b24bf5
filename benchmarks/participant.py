"""Score a participant-level run over a phantom cohort: ``make bench`` runs all of it.

Maps against the measured-like PSR, masks and transforms against the truth, time and memory from
the run's own ``resources.tsv``. Prints Markdown.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import nibabel as nb
import numpy as np
from common import load

from demist_app.evaluation.metrics import dice, score
from demist_app.imaging.transforms import read_itk
from demist_app.model.bundle import find_bundle, load_bundle


def registration_error(ours: Path, truth: Path, mask_path: Path) -> float:
    """Return the mean displacement (mm) between two transforms over the brain."""
    mask = nb.load(mask_path)
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)[::97]
    points = nb.affines.apply_affine(mask.affine, voxels)
    moved = [nb.affines.apply_affine(read_itk(path), points) for path in (ours, truth)]
    return float(np.linalg.norm(moved[0] - moved[1], axis=1).mean())


def score_unit(name: str, anat: Path, phantom: Path, measured: Path, mean_psr: float) -> dict:
    """Score one unit."""
    true_mask = phantom / f'{name}_space-T1w_desc-brain_mask.nii.gz'
    mask = load(true_mask) > 0
    psr = load(measured / f'{name}_space-T1w_desc-qmt_PSRmap.nii.gz')
    synthetic = load(anat / f'{name}_space-T1w_desc-synth_PSRmap.nii.gz')
    linear = score(synthetic, psr, mask)
    constant = score(np.full_like(psr, mean_psr), psr, mask)
    return {
        'PSNR (dB)': linear.psnr,
        'SSIM': linear.ssim,
        'MAE (pp)': linear.mae,
        'PSNR of the mean (dB)': constant.psnr,
        'SSIM of the mean': constant.ssim,
        'MAE of the mean (pp)': constant.mae,
        'mask Dice': dice(mask, load(anat / f'{name}_desc-brain_mask.nii.gz') > 0),
        'FLAIR→T1w error (mm)': registration_error(
            anat / f'{name}_from-FLAIR_to-T1w_mode-image_xfm.txt',
            phantom / f'{name}_from-FLAIR_to-T1w_mode-image_desc-truth_xfm.txt',
            true_mask,
        ),
    }


def print_scores(out: Path, bids: Path, model: str) -> None:
    """Print one row per unit and the mean."""
    mean_psr = load_bundle(find_bundle(model)).metadata['training_mean_psr']
    rows = {}
    for path in sorted(out.glob('sub-*/**/anat/*_space-T1w_desc-synth_PSRmap.nii.gz')):
        name = path.name.split('_space-')[0]
        below = path.parent.relative_to(out)
        phantom, measured = (bids / 'derivatives' / kind / below for kind in ('phantom', 'qmt'))
        rows[name] = score_unit(name, path.parent, phantom, measured, mean_psr)
    columns = list(next(iter(rows.values())))
    print('| unit | ' + ' | '.join(columns) + ' |\n' + '|---' * (1 + len(columns)) + '|')
    for name, row in rows.items():
        print(f'| {name} | ' + ' | '.join(f'{row[column]:.3f}' for column in columns) + ' |')
    table = np.array([[row[column] for column in columns] for row in rows.values()])
    summary = zip(table.mean(0), table.std(0, ddof=1), strict=True)
    print('| **mean ± SD** | ' + ' | '.join(f'{m:.3f} ± {s:.3f}' for m, s in summary) + ' |')


def print_usage(out: Path) -> None:
    """Print seconds and peak memory per step (mean over units) and the totals."""
    logs = sorted(out.glob('logs/*/resources.tsv'))
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    peaks: defaultdict[str, list[float]] = defaultdict(list)
    with logs[-1].open() as file:
        for row in csv.DictReader(file, delimiter='\t'):
            seconds[row['step']].append(float(row['seconds']))
            peaks[row['step']].append(float(row['peak_gb']))
    print('\n| step | seconds per unit | peak GB |\n|---|---|---|')
    for step in sorted(seconds, key=lambda step: -np.mean(seconds[step])):
        if np.mean(seconds[step]) >= 0.5:
            print(f'| {step} | {np.mean(seconds[step]):.1f} | {max(peaks[step]):.2f} |')
    total = sum(np.mean(values) for values in seconds.values())
    print(f'| **all steps** | {total:.1f} | {max(map(max, peaks.values())):.2f} |')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='output of demist … --resource-monitor')
    parser.add_argument('--phantom', type=Path, help='the cohort, as demist-phantom wrote it')
    parser.add_argument('--model', default='linear')
    options = parser.parse_args()
    if options.phantom:
        print_scores(options.out, options.phantom, options.model)
    print_usage(options.out)


if __name__ == '__main__':
    main()
