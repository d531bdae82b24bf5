"""One arm on one brain, in a process of its own; see ``speed.__main__``.

Leaves the maps of all draws inside the brain and the facts of the run in one ``.npz``.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed.arms import ARMS, Ours, Stock
from speed.reference import Reference
from stock import stock
from torch.utils.flop_counter import FlopCounterMode

from demist_app.memory import largest_resident
from demist_app.model.bundle import Bundle, load_bundle
from demist_app.model.demist import Demist
from demist_app.model.presets import Preset
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.model.windows import Shape

REPEATS = 3  # of ours; the median counts


class _Windowed(DiffusionPredictor):
    """In windows of one size, whatever the memory."""

    edge: int | None = None

    def _choices(self, shape: Shape, free: float) -> dict[str, tuple[Shape, ...]]:
        found = super()._choices(shape, free)
        if self.edge is None:
            return found
        x, y, z = (min(n, self.edge) for n in shape)
        return found | {'denoising': ((x, y, z),)}


def _ours(arm: Ours, bundle: Bundle, device: str, threads: int) -> Callable[..., Any]:
    predictor = _Windowed.from_bundle(bundle)
    if not arm.student:  # which has been trained for its own sampling and no other
        predictor.preset = replace(
            predictor.preset,
            diffusion=replace(
                predictor.preset.diffusion,
                sampler=arm.sampler,
                sampling_steps=arm.steps,
                strength=arm.strength,
            ),
        )
    predictor.edge = arm.edge

    def draw(images: Any, mask: Any, seed: int) -> Any:
        made = predictor.predict(
            images, mask, n_samples=1, seed=seed, device=device, threads=threads
        )
        return made.mean

    return draw


def _stock(arm: Stock, bundle: Bundle, device: str) -> Callable[..., Any]:
    preset = Preset.from_dict(bundle.metadata['preset'])
    model = Demist.from_tensors(preset, bundle.tensors())
    stock(model)

    def draw(images: Any, mask: Any, seed: int, limit: int = arm.limit) -> Any:
        recipe = Reference(model, arm.sampler, arm.steps, limit)
        return recipe.synthesise(images, mask, seed, torch.device(device))

    return draw


def prepared(arm: Ours | Stock, bundle: Bundle, device: str, threads: int) -> Callable[..., Any]:
    """Return what makes one map of an arm from images, mask and seed.

    That of a `Stock` takes the number of steps to make as well.
    """
    if isinstance(arm, Ours):
        return _ours(arm, bundle, device, threads)
    return _stock(arm, bundle, device)


def scaled(steps: int, one: float, some: float, limit: int) -> float:
    """Extrapolate what one and `limit` steps cost to all of them."""
    return one + (steps - 1) * (some - one) / (limit - 1)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python -m speed.measure')
    parser.add_argument('arm', choices=ARMS)
    parser.add_argument('bundle', type=Path)
    parser.add_argument('example', type=Path, help='npz: images, mask')
    parser.add_argument('out', type=Path)
    parser.add_argument('--draws', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arm = ARMS[options.arm]
    with np.load(options.example) as stored:
        images, mask = stored['images'], stored['mask']
    draw = prepared(arm, load_bundle(options.bundle), options.device, options.threads)
    maps, seconds = [], []

    def timed(*arguments: Any) -> float:
        start = time.perf_counter()
        maps.append(draw(images, mask, *arguments)[mask])
        return time.perf_counter() - start

    if arm.whole:
        seconds = [timed(seed) for seed in range(options.draws)]
    if isinstance(arm, Ours):
        seconds += [timed(0) for _ in range(REPEATS - len(seconds))]
    elif not arm.whole:
        timed(0, 1)  # the first run prepares kernels
        seconds = [scaled(arm.steps, timed(0, 1), timed(0, arm.limit), arm.limit)]
    memory = largest_resident()
    if options.device != 'cpu':
        memory = torch.cuda.max_memory_allocated() / 1e9
    facts = {
        'seconds': float(np.median(seconds)),
        'peak_gb': memory,
        'tflop': _flops(arm, draw, images, mask) / 1e12,
        'device': torch.cuda.get_device_name() if options.device != 'cpu' else 'CPU',
        'threads': options.threads,
        'torch': torch.__version__,
    }
    kept = np.array(maps[: options.draws] if arm.whole else [], np.float16)
    with options.out.open('wb') as file:
        np.savez(file, maps=kept, facts=json.dumps(facts))


def _flops(arm: Ours | Stock, draw: Callable[..., Any], images: Any, mask: Any) -> float:
    """Count the floating-point operations of one draw."""

    def count(*arguments: Any) -> float:
        with FlopCounterMode(display=False) as counter:
            draw(images, mask, 0, *arguments)
        return float(counter.get_total_flops())

    return count() if isinstance(arm, Ours) else scaled(arm.steps, count(1), count(2), 2)


if __name__ == '__main__':
    main()
