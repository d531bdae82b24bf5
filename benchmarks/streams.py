"""What each conditioning stream is worth: ``make streams`` trains and scores without each of them.

The stages before the streams are shared. Every model synthesises the held-out phantoms twice: with
the sampling of its preset, which may start near the answer, and from noise alone, as the paper
does, where all that is known of the scans comes through the streams. Scans and brain masks are
those that demist prepared. Prints Markdown.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from common import Map, cases
from numpy.typing import NDArray

from demist_app.evaluation.metrics import score
from demist_app.imaging.conform import brain_box
from demist_app.model.presets import STREAMS, Preset, load_preset
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.training.linear import Example, examples
from demist_app.training.run import WEIGHTS, assemble, stage_folder

FROM_NOISE = 8  # steps


def variants(preset: Preset, work: Path) -> Iterator[Preset]:
    """Yield the preset with all streams, without one, and without any, where trained."""
    for n in (3, 2, 0):
        for streams in combinations(STREAMS, n):
            variant = preset.with_streams(streams)
            if not streams or (stage_folder(work, '2-conditional', variant) / WEIGHTS).exists():
                yield variant


def samplings(preset: Preset) -> dict[str, Preset]:
    """Return the preset with its own sampling, and from noise."""
    diffusion = preset.diffusion
    noise = replace(diffusion, strength=1.0, sampling_steps=FROM_NOISE)
    start = f'{diffusion.strength:.0%} noise' if diffusion.strength < 1 else 'noise'
    return {
        f'{diffusion.sampling_steps} from {start}': preset,
        f'{FROM_NOISE} from noise': replace(preset, diffusion=noise),
    }


def scores(
    predictor: DiffusionPredictor, example: Example, measured: Map, mask: NDArray[np.bool_], n: int
) -> tuple[float, ...]:
    """Return PSNR, SSIM, MSE and MAE of the mean of n draws."""
    box = brain_box(example.mask)
    drawn = predictor.predict(
        example.images[:, *box], example.mask[box], n_samples=n, seed=0, device='cpu', threads=2
    )
    synthetic = np.zeros(mask.shape, np.float32)
    synthetic[box] = drawn.mean
    found = score(synthetic, measured, mask)
    return found.psnr, found.ssim, found.mse, found.mae


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/streams.py')
    parser.add_argument('work', type=Path, help='of demist_app.training.shipped')
    parser.add_argument('bids', type=Path, help='held-out phantoms')
    parser.add_argument('demist', type=Path, help='demist’s output for them')
    parser.add_argument('--preset', default='small')
    parser.add_argument('--n-samples', type=int, default=2)
    options = parser.parse_args()
    held_out = {case.name: case for case in cases(options.bids)}
    testing = list(examples(options.demist, options.bids / 'derivatives' / 'qmt'))
    columns = ('streams', 'steps', 'PSNR (dB)', 'SSIM', 'MSE (1e-3)', 'MAE (pp)')
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    for variant in variants(load_preset(options.preset), options.work):
        for steps, preset in samplings(variant).items():
            model = assemble(variant, options.work)
            model.preset = preset
            predictor = DiffusionPredictor(model)
            rows = []
            for example in testing:
                case = held_out[example.name]
                rows.append(scores(predictor, example, case.measured, case.mask, options.n_samples))
            units = (np.array(rows) * (1, 1, 1e3, 1)).T
            cells = [f'{values.mean():.3f} ± {values.std(ddof=1):.3f}' for values in units]
            name = ', '.join(variant.streams.active) or 'none (the frozen backbone)'
            print(f'| {name} | {steps} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    main()
