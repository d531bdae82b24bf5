"""Look at maps of real scans without measured PSR: peaks, tissues, and change between sessions.

Peaks are maxima of the histogram of a map inside the brain mask; those of a measured map of another
person stand beside them. Sessions of one participant are compared by the tissue means that demist
wrote; whether the person or the scan differs, they do not say. Lesions of real scans are
judged by ``benchmarks/lesions.py``. Prints Markdown.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
from common import SYNTHETIC, Map
from scipy import ndimage
from scipy.signal import find_peaks

BIN = 0.1  # percentage points
SMOOTHING = 3.0  # bins
PROMINENCE = 0.04  # of the highest peak
TABLE = '_desc-synth_psr.tsv'


def peaks(psr: Map) -> str:
    """Return the maxima of the histogram of these voxels, percent, ascending."""
    counts, edges = np.histogram(psr, np.arange(0.5, 20 + BIN, BIN))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), SMOOTHING)
    found, _ = find_peaks(smooth, prominence=PROMINENCE * smooth.max())
    return ', '.join(f'{edges[peak] + BIN / 2:.1f}' for peak in found)


def inside(psr: Path, mask: Path) -> Map:
    """Read the voxels of a map inside a mask of the same shape, whatever their affines say."""
    brain = np.asarray(nb.load(mask).dataobj) > 0
    return nb.load(psr).get_fdata(dtype=np.float32)[brain]


def units(folder: Path) -> Iterator[tuple[Path, str, pd.DataFrame]]:
    """Yield folder, name and regional table of every unit that demist made."""
    for path in sorted(folder.glob(f'sub-*/**/*{TABLE}')):
        yield path.parent, path.name.removesuffix(TABLE), pd.read_csv(path, sep='\t', index_col=0)


def head(columns: Sequence[str]) -> None:
    """Print the head of a table."""
    print('\n| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/real.py')
    parser.add_argument('outputs', nargs='+', type=Path, help='output folders of demist')
    parser.add_argument(
        '--measured',
        nargs=2,
        type=Path,
        metavar=('MAP', 'MASK'),
        help='measured PSR of anybody, percent',
    )
    options = parser.parse_args()
    head(('outputs', 'unit', 'peaks (%)', 'median in tissues (%)'))
    if options.measured:
        print(f'| *measured, another person* | – | {peaks(inside(*options.measured))} | – |')
    for folder in options.outputs:
        for home, name, table in units(folder):
            found = peaks(
                inside(home / f'{name}{SYNTHETIC}', home / f'{name}_desc-brain_mask.nii.gz')
            )
            medians = ', '.join(f'{k} {value:.1f}' for k, value in table['psr_median'].items())
            print(f'| {folder.name} | {name} | {found} | {medians} |', flush=True)
    head(('outputs', 'sessions', 'region', 'first (%)', 'second (%)', 'difference (pp)'))
    for folder in options.outputs:
        for _, group in groupby(units(folder), key=lambda unit: unit[1].split('_')[0]):
            for (_, first, one), (_, second, other) in combinations(list(group), 2):
                for region in one.index.intersection(other.index, sort=False):
                    a, b = (table.loc[region, 'psr_mean'] for table in (one, other))
                    cells = f'{first}, {second} | {region} | {a:.2f} | {b:.2f} | {b - a:+.2f}'
                    print(f'| {folder.name} | {cells} |')


if __name__ == '__main__':
    main()
