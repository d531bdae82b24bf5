"""The targets, in turns: ``PYTHONPATH=benchmarks python -m speed.rounds BUNDLE STUDENT EXAMPLE``.

A machine that others use as well is faster in one minute than in the next, which ratios of arms
that run for minutes one after the other inherit. Here, in every round and in one process, each arm
makes one map, and the stock recipe as many steps as take about as long; its time is scaled by their
count. Prints the median of the ratios of the rounds, and the least and the largest.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from speed.arms import ARMS, Stock, student
from speed.measure import prepared, scaled

from demist_app.model.bundle import load_bundle

STOCK, STEPS = 'stock-ddim-50', 3
LONGER = 1000  # steps of the other target, which cost the same each
OURS = ('warm-1', 'student')


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python -m speed.rounds')
    parser.add_argument('bundle', type=Path, help='stages 1 and 2')
    parser.add_argument('student', type=Path, help='and 3')
    parser.add_argument('example', type=Path, help='npz: images, mask; of python -m speed')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with np.load(options.example) as stored:
        example = stored['images'], stored['mask']
    bundles = {False: load_bundle(options.bundle), True: load_bundle(options.student)}

    def draws(name: str) -> Callable[..., Any]:
        return prepared(ARMS[name], bundles[student(name)], options.device, options.threads)

    def timed(draw: Callable[..., Any], *arguments: Any) -> float:
        start = time.perf_counter()
        draw(*example, 0, *arguments)
        return time.perf_counter() - start

    stock, ours = draws(STOCK), {name: draws(name) for name in OURS}
    recipe = ARMS[STOCK]
    assert isinstance(recipe, Stock)
    for draw in (*ours.values(), lambda *given: stock(*given, 1)):
        timed(draw)  # the first run prepares kernels
    ratios: dict[tuple[str, int], list[float]] = {}
    for number in range(options.rounds):
        one, some = (timed(stock, limit) for limit in (1, STEPS))
        line = [f'round {number + 1}: stock, a step {(some - one) / (STEPS - 1):.2f} s']
        for name, draw in ours.items():
            seconds = timed(draw)
            line.append(f'{name} {seconds:.2f} s')
            for steps in (recipe.steps, LONGER):
                whole = scaled(steps, one, some, STEPS)
                ratios.setdefault((name, steps), []).append(whole / seconds)
        print(', '.join(line), flush=True)
    for (name, steps), found in ratios.items():
        print(
            f'{name}: {median(found):.1f} times faster than {steps} steps of stock MONAI '
            f'({min(found):.1f} to {max(found):.1f}; scaled from {STEPS} steps)'
        )


if __name__ == '__main__':
    main()
