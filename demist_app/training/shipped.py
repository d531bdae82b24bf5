"""Train the model that demist ships: ``python -m demist_app.training.shipped STORE WORK OUT``.

STORE is what ``python -m demist_app.training.phantoms`` made.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np

from demist_app.model.intensities import profile, reference
from demist_app.model.presets import load_preset
from demist_app.training.examination import Examination
from demist_app.training.examples import facts, read_examples
from demist_app.training.export import export
from demist_app.training.fit import Machine
from demist_app.training.run import train

VALIDATION = 8


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python -m demist_app.training.shipped')
    parser.add_argument('store', type=Path, help='training examples')
    parser.add_argument('work', type=Path, help='checkpoints and logs; the same again goes on')
    parser.add_argument('out', type=Path, help='bundle to write; its name becomes the model’s')
    parser.add_argument('--preset', default='small', help='name or JSON file')
    parser.add_argument('--streams', help='of these streams only, e.g. semantic,adaptive')
    parser.add_argument('--distill', action='store_true', help='with stage 3')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--metrics', type=Path, help='what benchmarks/heldout.py found, JSON')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--workers', type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format='%(asctime)s %(message)s')
    preset = load_preset(options.preset)
    if options.streams:
        preset = preset.with_streams(options.streams.split(','))
    if options.distill:
        preset = preset.distilled()
    examples = read_examples(options.store)
    machine = Machine(threads=options.threads, workers=options.workers)
    stages = train(
        preset,
        examples[:-VALIDATION],
        examples[-VALIDATION:],
        options.work,
        seed=options.seed,
        machine=machine,
    )
    profiles = [
        profile(np.clip(pair.astype(np.float32), 0, 1), example.mask > 0)
        for example in examples[:-VALIDATION]
        for pair in example.images
    ]
    described = {
        'stages': stages,
        'seed': options.seed,
        'training_units': [facts(e) for e in examples[:-VALIDATION]],
        'validation_units': [facts(e) for e in examples[-VALIDATION:]],
        'intensity_reference': reference(profiles),
        'training_data': f'{len(examples)} digital phantom heads (PSR maps: noise-free), each '
        f'scanned by {len(examples[0].images)} random protocols and degraded at random; no scan '
        'of a person was used',
        'metrics': {},
        **(json.loads(options.metrics.read_text('utf-8')) if options.metrics else {}),
    }
    examination = Examination(
        examples[:-VALIDATION],
        examples[-VALIDATION:],
        options.seed,
        machine,
        degraded_as=preset.training.latent_versions,
    )
    bundle = export(options.work, preset, options.out, facts=described, examination=examination)
    print(f'{bundle.path}: sha256 {bundle.sha256}')


if __name__ == '__main__':
    main()
