"""Look at maps of real scans that have no measured PSR: peaks, and lesions against their rims.

Peaks are maxima of the histogram of a map inside the brain mask. A lesion's rim is as many voxels
of white matter as it has itself, the nearest that are 2 to 8 mm away and 1 mm clear of all lesions.
The AUC is of mean PSR, lesions against rims; its interval is a bootstrap over lesions. Prints
Markdown.
"""

import argparse
from pathlib import Path

import nibabel as nb
import numpy as np
from common import separate
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks
from skimage.filters import threshold_multiotsu
from sklearn.metrics import roc_auc_score

BIN = 0.1  # percentage points
SMOOTHING = 3.0  # bins
PROMINENCE = 0.05  # of the highest peak
RIM_MM = 2.0, 8.0
DRAWS = 2000

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def peaks(psr: Array) -> list[float]:
    """Return the maxima of the histogram of these voxels, percent, ascending."""
    counts, edges = np.histogram(psr, np.arange(0.5, 20 + BIN, BIN))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), SMOOTHING)
    found, _ = find_peaks(smooth, prominence=PROMINENCE * smooth.max())
    return [float(edges[peak] + BIN / 2) for peak in found]


def pairs(psr: Array, t1w: Array, mask: Mask, lesions: Mask, spacing: Array) -> NDArray[np.float64]:
    """Return the mean PSR of every lesion and of its rim, (n, 2)."""
    white = mask & (t1w > threshold_multiotsu(t1w[mask], 3)[-1])
    white &= ~ndimage.binary_dilation(lesions)
    labels, numbers = separate(lesions, float(spacing.prod()))
    found = []
    for lesion in numbers:
        inside = labels == lesion
        distance = ndimage.distance_transform_edt(~inside, spacing)
        candidates = white & (distance >= RIM_MM[0]) & (distance <= RIM_MM[1])
        nearest = np.argsort(distance[candidates], kind='stable')[: inside.sum()]
        if len(nearest):
            found.append((psr[inside].mean(), psr[candidates][nearest].mean()))
    return np.array(found, float)


def auc(table: NDArray[np.float64]) -> float:
    """Return how often a lesion is darker than a rim."""
    labels = np.repeat([1, 0], len(table))
    return float(roc_auc_score(labels, -table.T.ravel()))


def describe(folder: Path, lesions: Path) -> None:
    """Print a line for every unit of one output folder."""
    for path in sorted(folder.glob('sub-*/**/*_space-T1w_desc-synth_PSRmap.nii.gz')):
        stem = str(path).split('_space-')[0]
        image = nb.load(path)
        psr = image.get_fdata(dtype=np.float32)
        mask = np.asarray(nb.load(f'{stem}_desc-brain_mask.nii.gz').dataobj) > 0
        cells = [Path(stem).name, ', '.join(f'{peak:.1f}' for peak in peaks(psr[mask]))]
        drawn = next(lesions.rglob(f'{Path(stem).name}_*lesion_mask.nii.gz'), None)
        if drawn:
            t1w = nb.load(f'{stem}_desc-preproc_T1w.nii.gz').get_fdata(dtype=np.float32)
            where = resample_from_to(nb.load(drawn), image, order=0).get_fdata() > 0
            spacing = np.array(image.header.get_zooms()[:3], np.float32)
            table = pairs(psr, t1w, mask, where & mask, spacing)
            rng = np.random.default_rng(0)
            n = len(table)
            draws = [auc(table[rng.integers(n, size=n)]) for _ in range(DRAWS)]
            low, high = np.percentile(draws, [2.5, 97.5])
            cells += [
                f'{auc(table):.3f} ({low:.3f} to {high:.3f})',
                f'{(table[:, 0] < table[:, 1]).sum()} of {len(table)}',
                f'{table[:, 0].mean():.1f}, {table[:, 1].mean():.1f}',
            ]
        else:
            cells += ['–'] * 3
        print(f'| {folder.name} | ' + ' | '.join(cells) + ' |', flush=True)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/real.py')
    parser.add_argument('lesions', type=Path, help='derivative data set of lesion masks')
    parser.add_argument('outputs', nargs='+', type=Path, help='output folders of demist')
    options = parser.parse_args()
    columns = (
        'outputs', 'unit', 'peaks (%)', 'AUC, lesion darker than rim', 'darker', 'means (%)'
    )  # fmt: skip
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    for folder in options.outputs:
        describe(folder, options.lesions)


if __name__ == '__main__':
    main()
