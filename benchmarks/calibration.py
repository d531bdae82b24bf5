"""Whether the stated SD of synthetic PSR is the size of its errors, on held-out phantoms.

Errors are against the noise-free fit, which is what models are trained to give, and against the
measured map, whose noise (from the retest, per tissue) is added to the stated SD. The SD is judged
as it is drawn, as it is stated, which is with the factor that the bundle learned from scans kept
from its training, and with the factor that the other participants of this cohort would teach.
Every unit and region gives equally many voxels. Works on what demist wrote, of any model that
states an SD. Ranks of the measured PSR among the draws, and intervals of lesion means, which the SD
of voxels does not give, need single draws: these are made with the model and kept, so that the same
command goes on where it ended. Prints Markdown.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import SYNTHETIC, Case, add_facts, cases, draws, load
from numpy.typing import NDArray
from scipy import ndimage

from demist_app.evaluation.calibration import (
    LEVELS,
    coverage,
    fit_scale,
    measurement_noise,
    predictive_sd,
    rank_histogram,
    spread_skill,
)
from demist_app.model.bundle import load_bundle
from demist_app.model.predictor import load_predictor
from demist_app.model.spread import draws_stated
from demist_app.training.linear import examples

VOXELS = 20_000  # of each region of each unit
TARGETS = ('noise-free fit', 'measured, with its noise')
LESIONS = 'lesions, mean of each'

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Values of one region of one unit.

    Attributes
    ----------
    participant : str
    mean, sd : ndarray, shape (n,)
        Synthetic PSR and its SD, before any learned factor.
    scale : float
        Factor that the bundle learned; 1 if none.
    observed : dict of str to ndarray, shape (n,)
        By target.
    noise : dict of str to float
        By target, SD.
    draws : int
        That mean and SD are of; 1 for a model that states its SD.
    """

    participant: str
    mean: Array
    sd: Array
    scale: float
    observed: Mapping[str, Array]
    noise: Mapping[str, float]
    draws: int

    def error(self, target: str) -> Array:
        """Observed minus predicted."""
        return self.observed[target] - self.mean


def sample(
    case: Case, mean: Array, sd: Array, scale: float, maps: list[Array], draws: int
) -> Sample:
    """Put values of one region together; maps are noise-free, measured and repeated."""
    fit, measured, retest = maps
    return Sample(
        case.name.split('_')[0],
        mean,
        sd,
        scale,
        dict(zip(TARGETS, (fit, measured), strict=True)),
        dict(zip(TARGETS, (0.0, measurement_noise(measured, retest)), strict=True)),
        draws,
    )


def targets(case: Case) -> list[NDArray[np.float32]]:
    """Return the noise-free, the measured and the repeated map."""
    return [case.fit, case.measured, case.retest]


def chosen(case: Case, inside: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield for every region of a unit the voxels taken, of the raveled volume."""
    rng = np.random.default_rng(0)
    for region, where in case.regions().items():
        voxels = np.flatnonzero(where & inside)
        if len(voxels):
            yield region, rng.choice(voxels, VOXELS, replace=len(voxels) < VOXELS)


def from_maps(case: Case, demist: Path) -> Iterator[tuple[str, Sample]]:
    """Yield the regions of a unit from the maps that demist wrote."""
    path = demist / case.folder / f'{case.name}{SYNTHETIC}'
    facts = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text('utf-8'))
    mean = load(path)
    sd = load(path.with_name(path.name.replace('desc-synth_', 'desc-synthsd_')))
    inside = load(path.with_name(f'{case.name}_desc-brain_mask.nii.gz')) > 0
    scale = facts.get('SDScale', 1.0)  # a model without sampling has none
    for region, voxels in chosen(case, inside):
        ours, stated, *maps = (image.ravel()[voxels] for image in (mean, sd, *targets(case)))
        yield (
            region,
            sample(case, ours, stated / scale, scale, maps, draws_stated(facts)),
        )


def of_lesions(case: Case, mask: NDArray[np.bool_], drawn: Array, scale: float) -> Sample:
    """Return the means of the lesions of a unit, whose SD is that over the means of draws."""
    numbers = case.labels[mask]
    seen = np.intersect1d(case.lesions, numbers)
    maps = [ndimage.mean(image[mask], numbers, seen) for image in targets(case)]
    means = np.array([ndimage.mean(draw, numbers, seen) for draw in drawn])
    sd = predictive_sd(means.std(axis=0, ddof=1), draws=len(drawn))
    return sample(case, means.mean(axis=0), sd, scale, maps, len(drawn))


def learned_scales(found: list[Sample]) -> dict[str, float]:
    """Return for each participant the factor that the others teach."""
    scales = {}
    for participant in sorted({s.participant for s in found}):
        others = [s for s in found if s.participant != participant]
        error = np.concatenate([s.error(TARGETS[0]) for s in others])
        sd = np.concatenate([s.sd for s in others])
        scales[participant] = fit_scale(error, sd)
    return scales


def predicted(found: list[Sample], target: str, scales: Mapping[str, float] | None) -> Array:
    """Return the SD of what was to be observed; without `scales`, with those of the bundles."""
    return np.concatenate(
        [
            predictive_sd(
                s.sd, scale=scales[s.participant] if scales else s.scale, noise=s.noise[target]
            )
            for s in found
        ]
    )


def table(columns: tuple[str, ...]) -> None:
    """Print the head of a table."""
    print('\n| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')


def print_coverage(regions: Mapping[str, list[Sample]], scales: Mapping[str, float]) -> None:
    """Print RMSE, SD and coverage: as drawn, as stated, and with the factor of the others."""
    plain = dict.fromkeys(scales, 1.0)
    levels = [f'{level:.0%} interval' for level in LEVELS]
    table(('against', 'region', 'factor', 'bias (pp)', 'RMSE (pp)', 'SD (pp)', *levels))
    for target in TARGETS:
        for region, found in regions.items():
            error = np.concatenate([s.error(target) for s in found])
            for title, factor in (('none', plain), ('stated', None), ('of the others', scales)):
                sd = predicted(found, target, factor)
                cells = [
                    f'{-error.mean():+.2f}',
                    f'{np.sqrt(np.mean(error**2)):.2f}',
                    f'{np.sqrt(np.mean(sd**2)):.2f}',
                    *(
                        f'{share:.1%}'
                        for share in coverage(error, sd, draws=found[0].draws).values()
                    ),
                ]
                print(f'| {target} | {region} | {title} | ' + ' | '.join(cells) + ' |')


def card_facts(regions: Mapping[str, list[Sample]]) -> dict[str, Any]:
    """Return what a model card tells: coverage as stated, of what was free of noise."""
    return {
        'levels': list(LEVELS),
        'regions': {
            region: list(
                coverage(
                    np.concatenate([s.error(TARGETS[0]) for s in found]),
                    predicted(found, TARGETS[0], None),
                    draws=found[0].draws,
                ).values()
            )
            for region, found in regions.items()
        },
    }


def print_spread_skill(found: list[Sample]) -> None:
    """Print RMSE where similar errors are stated, in the brain."""
    error = np.concatenate([s.error(TARGETS[0]) for s in found])
    bins = spread_skill(error, predicted(found, TARGETS[0], None))
    table(('tenth of the voxels of the brain', *map(str, range(1, len(bins.count) + 1))))
    for title, values in (('stated SD (pp)', bins.spread), ('RMSE (pp)', bins.skill)):
        print(f'| {title} | ' + ' | '.join(f'{value:.2f}' for value in values) + ' |')


@dataclass(frozen=True)
class Drawn:
    """Draws of some voxels, shape (draws, n), what was measured there, and the SD of its noise."""

    values: Array
    observed: Array
    noise: float


def print_ranks(regions: Mapping[str, list[Drawn]]) -> None:
    """Print how often the measured value has each rank among the draws."""
    n = len(next(iter(regions.values()))[0].values)
    table(('draws below the measured PSR', *map(str, range(n + 1))))
    print('| *if flat* | ' + ' | '.join([f'{1 / (n + 1):.1%}'] * (n + 1)) + ' |')
    for region, found in regions.items():
        shares = rank_histogram(
            np.concatenate([d.values for d in found], axis=1),
            np.concatenate([d.observed for d in found]),
            noise=np.concatenate([np.full(len(d.observed), d.noise) for d in found]),
        )
        print(f'| {region} | ' + ' | '.join(f'{share:.1%}' for share in shares) + ' |')


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/calibration.py')
    parser.add_argument('bids', type=Path, help='held-out phantoms')
    parser.add_argument('demist', type=Path, help='demist’s output for them')
    parser.add_argument(
        '--draws',
        nargs=2,
        type=Path,
        metavar=('BUNDLE', 'KEPT'),
        help='model to draw with, and folder to keep its draws in',
    )
    parser.add_argument('--metrics', type=Path, help='add the coverage to this JSON')
    parser.add_argument('--n-samples', type=int, default=8)
    parser.add_argument('--participants', default='sub-*', help='pattern, e.g. sub-0[12]')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    held_out = {case.name: case for case in cases(options.bids, options.participants)}
    regions: dict[str, list[Sample]] = {}
    for case in held_out.values():
        for region, values in from_maps(case, options.demist):
            regions.setdefault(region, []).append(values)
    scales = learned_scales(regions['brain'])
    ranked: dict[str, list[Drawn]] = {}
    if options.draws:
        path, kept = options.draws
        bundle = load_bundle(path)
        predictor = load_predictor(bundle)
        scale = bundle.metadata.get('uncertainty', {}).get('sd_scale', 1.0)
        for example in examples(options.demist, options.bids / 'derivatives' / 'qmt'):
            if example.name not in held_out:
                continue
            case, mask = held_out[example.name], example.mask
            drawn = draws(predictor, example, options.n_samples, kept, options.threads)
            place = np.cumsum(mask.ravel()) - 1  # of a voxel among those of the brain
            for region, voxels in chosen(case, mask):
                measured, retest = (m.ravel()[voxels] for m in (case.measured, case.retest))
                values = drawn[:, place[voxels]].astype(float)
                noise = measurement_noise(measured, retest)
                ranked.setdefault(region, []).append(Drawn(values, measured, noise))
            if len(case.lesions):
                means = of_lesions(case, mask, drawn.astype(float), scale)
                regions.setdefault(LESIONS, []).append(means)
    factors = np.array(list(scales.values()))
    first = regions['brain'][0]
    print(
        f'Factor on the SD: stated {first.scale:.2f}; learned here {factors.mean():.2f} '
        f'({factors.min():.2f} to {factors.max():.2f} without one participant of {len(factors)}). '
        'SD of the noise of the measurement (pp): '
        + ', '.join(
            f'{region} {np.mean([s.noise[TARGETS[1]] for s in found]):.2f}'
            for region, found in regions.items()
        )
    )
    print_coverage(regions, scales)
    if options.metrics:
        add_facts(options.metrics, coverage=card_facts(regions))
    print_spread_skill(regions['brain'])
    if ranked:
        print_ranks(ranked)


if __name__ == '__main__':
    main()
