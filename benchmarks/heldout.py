"""Compare models on phantoms nobody was trained on: ``make heldout`` runs all of it.

Every model's maps against the measured PSR inside the true brain, where what the estimated brain
mask missed counts as 0, and the mean PSR of every lesion against the truth and against the measured
map. Gradient boosting with context is fitted here, on the phantoms `linear` was fitted on, which
have the protocols of the held-out ones: a competitor that knows the scanner. Prints Markdown.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import load, separate
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from demist_app.evaluation.metrics import score
from demist_app.training.linear import Example, examples

VOXELS = 60_000  # of each phantom, for the boosting
PSR_MAX = 25.0
SCORES = ('PSNR', 'SSIM', 'MSE', 'MAE')
COLUMNS = (
    'PSNR (dB)', 'SSIM', 'MSE (1e-3)', 'MAE (pp)', 'lesions: r, true', 'CCC, true',
    'bias, true (pp)', 'CCC, measured', 'bias, measured (pp)', 'n',
)  # fmt: skip

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One held-out phantom: measured map, truth, brain, labels and numbers of lesions."""

    name: str
    folder: Path
    measured: Map
    truth: Map
    fit: Map
    retest: Map
    mask: NDArray[np.bool_]
    labels: NDArray[np.int32]
    lesions: NDArray[np.int64]


def cases(bids: Path) -> Iterator[Case]:
    """Yield the held-out phantoms."""
    for path in sorted((bids / 'derivatives' / 'qmt').glob('sub-*/**/*_desc-qmt_PSRmap.nii.gz')):
        name = path.name.split('_space-')[0]
        below = path.parent.relative_to(bids / 'derivatives' / 'qmt')
        stem = f'{bids}/derivatives/phantom/{below}/{name}'
        maps = [
            load(Path(f'{stem}_space-T1w_desc-{k}_PSRmap.nii.gz'))
            for k in ('truth', 'fit', 'retest')
        ]
        mask = load(Path(f'{stem}_space-T1w_desc-brain_mask.nii.gz')) > 0
        found = Path(f'{stem}_space-T1w_label-lesion_mask.nii.gz')
        lesions = load(found) > 0 if found.exists() else np.zeros_like(mask)
        yield Case(name, below, load(path), *maps, mask, *separate(lesions))


def features(example: Example) -> Map:
    """Neighbourhood of 3 × 3 × 3 voxels, means of 3 and 8 mm, and place, per voxel of the brain."""
    mask = example.mask
    columns = []
    for image in example.images:
        padded = np.pad(image, 1)
        for shift in np.ndindex(3, 3, 3):
            window = tuple(slice(s, s + n) for s, n in zip(shift, image.shape, strict=True))
            columns.append(padded[window][mask])
        columns += [ndimage.gaussian_filter(image, sigma)[mask] for sigma in (3.0, 8.0)]
    voxels = np.argwhere(mask).astype(np.float32)
    place = (voxels - voxels.mean(0)) / voxels.std(0)
    return np.concatenate([np.stack(columns, axis=1), place], axis=1)


def fit_boosting(training: Iterator[Example]) -> HistGradientBoostingRegressor:
    """Fit gradient boosting on a sample of every phantom's voxels."""
    rng = np.random.default_rng(0)
    inputs, targets = [], []
    for example in training:
        rows = features(example)
        chosen = rng.choice(len(rows), VOXELS, replace=False)
        inputs.append(rows[chosen])
        targets.append(np.clip(example.psr[example.mask][chosen], 0, PSR_MAX))
    model = HistGradientBoostingRegressor(max_iter=300, max_leaf_nodes=63, random_state=0)
    return model.fit(np.concatenate(inputs), np.concatenate(targets))


def boosted_maps(
    model: HistGradientBoostingRegressor, testing: Iterator[Example]
) -> dict[str, Map]:
    """Predict, on the grid of the T1w."""
    maps = {}
    for example in testing:
        image = np.zeros(example.mask.shape, np.float32)
        image[example.mask] = np.clip(model.predict(features(example)), 0, PSR_MAX)
        maps[example.name] = image
    return maps


def concordance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Lin's concordance correlation coefficient (Biometrics 1989, 45:255)."""
    covariance = np.mean((first - first.mean()) * (second - second.mean()))
    shift = (first.mean() - second.mean()) ** 2
    return float(2 * covariance / (first.var() + second.var() + shift))


@dataclass(frozen=True)
class Result:
    """How one model did."""

    scores: NDArray[np.float64]
    """One row per phantom, columns as in `SCORES`."""
    lesions: NDArray[np.float64]
    """One row per lesion: mean PSR synthetic, true and measured, percent."""

    @classmethod
    def of(cls, maps: dict[str, Map], held_out: list[Case]) -> 'Result':
        """Score one model."""
        rows, lesions = [], []
        for case in held_out:
            ours = maps[case.name]
            found = score(ours, case.measured, case.mask)
            # of maps in [0, 1], so that the PSNR holds it
            rows.append((found.psnr, found.ssim, 10 ** (-found.psnr / 10), found.mae))
            compared = (ours, case.truth, case.measured)
            means = [ndimage.mean(image, case.labels, case.lesions) for image in compared]
            lesions.append(np.stack(means, axis=1))
        return cls(np.array(rows), np.concatenate(lesions))

    def row(self, name: str) -> str:
        """Return a row of the table."""
        ours, true, measured = self.lesions.T
        units = (self.scores * (1, 1, 1e3, 1)).T
        cells = [
            *(f'{values.mean():.3f} ± {values.std(ddof=1):.3f}' for values in units),
            f'{np.corrcoef(ours, true)[0, 1]:.3f}',
            *(
                f'{value:.3f}'
                for other in (true, measured)
                for value in (concordance(ours, other), (ours - other).mean())
            ),
            str(len(ours)),
        ]
        return f'| {name} | ' + ' | '.join(cells) + ' |'

    def facts(self) -> dict[str, Any]:
        """Return what a model card tells."""
        columns = zip(SCORES, self.scores.T, strict=True)
        return {
            'metrics': {name: [values.mean(), values.std(ddof=1)] for name, values in columns},
            'scored_on': f'this model, on {len(self.scores)} phantom scans held out '
            '(`make heldout`)',
        }


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/heldout.py')
    parser.add_argument('bids', type=Path, help='held-out phantoms')
    parser.add_argument('outputs', nargs='+', help='NAME=FOLDER of each model’s demist output')
    parser.add_argument(
        '--training',
        nargs=2,
        type=Path,
        metavar=('DEMIST', 'QMT'),
        help='preprocessed phantoms and their measured maps, for the boosting',
    )
    parser.add_argument('--metrics', type=Path, help='write the last model’s scores here, JSON')
    options = parser.parse_args()
    held_out = list(cases(options.bids))
    named = dict(text.split('=', 1) for text in options.outputs)
    columns = ('model', *COLUMNS)
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    for kind in ('fit', 'retest'):
        maps = {c.name: getattr(c, kind) for c in held_out}
        print(Result.of(maps, held_out).row(f'*{kind}*'))
    for name, folder in named.items():
        maps = {
            c.name: load(Path(folder) / c.folder / f'{c.name}_space-T1w_desc-synth_PSRmap.nii.gz')
            for c in held_out
        }
        result = Result.of(maps, held_out)
        print(result.row(name), flush=True)
        if options.metrics:
            options.metrics.write_text(json.dumps(result.facts(), indent=2) + '\n', 'utf-8')
    if options.training:
        model = fit_boosting(examples(*options.training))
        testing = examples(Path(next(iter(named.values()))), options.bids / 'derivatives' / 'qmt')
        print(Result.of(boosted_maps(model, testing), held_out).row('boosting with context'))


if __name__ == '__main__':
    main()
