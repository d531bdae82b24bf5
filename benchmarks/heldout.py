"""Compare models on phantoms nobody was trained on: ``make heldout`` runs all of it.

Every model's maps against the measured PSR inside the true brain, where what the estimated brain
mask missed counts as 0, and the mean PSR of every lesion against the truth and against the measured
map. Gradient boosting with context is fitted here, on the phantoms `linear` was fitted on, which
have the protocols of the held-out ones: a competitor that knows the scanner.

A second table splits the errors: how far each map is from the noise-free fit, which is as good as a
measurement can be, and from the truth of 1 mm, by tissue; and how much of the variance of
noise-free PSR within a tissue it leaves open. What T1w and FLAIR do not determine is at most what
the best model leaves open. Prints Markdown.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import SYNTHETIC, Case, Map, add_facts, cases, load
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.ceiling import ceiling
from demist_app.evaluation.metrics import score
from demist_app.model.boosting import features
from demist_app.model.residuals import PSR_MAX
from demist_app.training.linear import Example, examples

VOXELS = 60_000  # of each phantom, for the boosting
SCORES = ('PSNR', 'SSIM', 'MSE', 'MAE')
COLUMNS = (
    'PSNR (dB)', 'SSIM', 'MSE (1e-3)', 'MAE (pp)', 'lesions: r, true', 'CCC, true',
    'bias, true (pp)', 'CCC, measured', 'bias, measured (pp)', 'n',
)  # fmt: skip
SPLIT = (
    'model', 'region', 'from the measured (pp)', 'noise (pp)', 'from noise-free (pp)',
    'bias (pp)', 'from the truth (pp)', 'left open', 'dB below noise-free',
)  # fmt: skip
LESIONS, WHOLE = 'lesions, mean of each', 'white matter, mean of each scan'


def fit_boosting(training: Iterator[Example]) -> HistGradientBoostingRegressor:
    """Fit gradient boosting on a sample of every phantom's voxels."""
    rng = np.random.default_rng(0)
    inputs, targets = [], []
    for example in training:
        rows = features(example.images, example.mask)
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
        image[example.mask] = np.clip(
            model.predict(features(example.images, example.mask)), 0, PSR_MAX
        )
        maps[example.name] = image
    return maps


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
            rows.append((found.psnr, found.ssim, found.mse, found.mae))
            compared = (ours, case.truth, case.measured)
            means = [ndimage.mean(image, case.labels, case.lesions) for image in compared]
            lesions.append(np.stack(means, axis=1))
        return cls(np.array(rows), np.concatenate(lesions))

    def row(self, name: str) -> str:
        """Return a row of the table."""
        ours, true, measured = self.lesions.T
        units = (self.scores * (1, 1, 1e3, 1)).T
        with_true, with_measured = agreement(ours, true), agreement(ours, measured)
        cells = [
            *(f'{values.mean():.3f} ± {values.std(ddof=1):.3f}' for values in units),
            f'{with_true.r:.3f}',
            *(f'{value:.3f}' for a in (with_true, with_measured) for value in (a.ccc, a.bias)),
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


def split_rows(name: str, maps: dict[str, Map], held_out: list[Case]) -> list[str]:
    """Return the rows of the second table: maps against measured, noise-free and true PSR."""
    values: dict[str, list[NDArray[np.floating[Any]]]] = {}
    for case in held_out:
        images = np.stack([maps[case.name], case.measured, case.fit, case.truth])
        regions = case.regions()
        for region, mask in regions.items():
            values.setdefault(region, []).append(images[:, mask])
        means = images[:, regions['white matter']].mean(axis=1, keepdims=True)
        values.setdefault(WHOLE, []).append(means)
        each = [ndimage.mean(image, case.labels, case.lesions) for image in images]
        values.setdefault(LESIONS, []).append(np.array(each))
    rows = []
    for region, parts in values.items():
        ours, measured, fit, truth = np.concatenate(parts, axis=1)
        found = ceiling(ours, measured, fit)
        cells = [
            *(f'{np.sqrt(square):.2f}' for square in (found.total, found.noise, found.model)),
            f'{found.bias:+.2f}',
            f'{np.sqrt(np.mean((ours - truth) ** 2)):.2f}',
            f'{found.undetermined:.1%}',
            f'{found.gap_db:.1f}',
        ]
        rows.append(f'| {name} | {region} | ' + ' | '.join(cells) + ' |')
    return rows


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
    parser.add_argument('--metrics', type=Path, help='add the last model’s scores to this JSON')
    options = parser.parse_args()
    held_out = list(cases(options.bids))
    named = dict(text.split('=', 1) for text in options.outputs)
    columns = ('model', *COLUMNS)
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    splits: list[str] = []

    def judge(title: str, maps: dict[str, Map]) -> Result:
        result = Result.of(maps, held_out)
        print(result.row(title), flush=True)
        splits.extend(split_rows(title, maps, held_out))
        return result

    for kind in ('fit', 'retest'):
        judge(f'*{kind}*', {c.name: getattr(c, kind) for c in held_out})
    for name, folder in named.items():
        result = judge(
            name, {c.name: load(Path(folder) / c.folder / f'{c.name}{SYNTHETIC}') for c in held_out}
        )
        if options.metrics:
            add_facts(options.metrics, **result.facts())
    if options.training:
        model = fit_boosting(examples(*options.training))
        testing = examples(Path(next(iter(named.values()))), options.bids / 'derivatives' / 'qmt')
        judge('boosting with context', boosted_maps(model, testing))
    print('\n| ' + ' | '.join(SPLIT) + ' |\n' + '|---' * len(SPLIT) + '|')
    print('\n'.join(splits))


if __name__ == '__main__':
    main()
