"""Make the store the shipped model is trained on: ``python -m demist_app.training.phantoms``."""

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from demist_app.phantom.randomised import simulate_random
from demist_app.training.examples import write_example


def write_head(store: Path, seed: int, number: int, protocols: int, resolution: float) -> str:
    """Simulate one head and write it as an example, unless it is there."""
    name = f'seed{seed}head{number:04d}'
    if (store / name / 'example.json').exists():
        return f'{name}: is there'
    scan = simulate_random(seed, number, protocols, resolution)
    brain = scan.mask > 0
    tops = np.percentile(scan.images[:, :, brain], 99.5, axis=-1)
    write_example(
        store,
        name,
        scan.images / tops[..., None, None, None],
        scan.psr,
        scan.mask,
        participant=name,
        group='patient' if scan.lesions.any() else 'control',
    )
    return name


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python -m demist_app.training.phantoms')
    parser.add_argument('store', type=Path, help='folder of the examples; what is there is kept')
    parser.add_argument('--heads', type=int, required=True)
    parser.add_argument('--protocols', type=int, default=4, help='random protocols per head')
    parser.add_argument('--seed', type=int, default=1000)
    parser.add_argument('--resolution', type=float, default=1.0)
    parser.add_argument('--nprocs', type=int, default=1)
    options = parser.parse_args()
    with ProcessPoolExecutor(
        options.nprocs,
        get_context('spawn'),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        tasks = [
            pool.submit(
                write_head,
                options.store,
                options.seed,
                number,
                options.protocols,
                options.resolution,
            )
            for number in range(options.heads)
        ]
        for task in as_completed(tasks):
            print(task.result(), flush=True)


if __name__ == '__main__':
    main()
