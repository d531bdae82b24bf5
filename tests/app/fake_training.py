"""``demist`` with a training that takes no time: ``python fake_training.py <arguments of demist>``.

The models it writes are linear ones, fitted to the units they were given.
"""

import os
import sys
from pathlib import Path

import numpy as np

from demist_app.model.bundle import write_bundle
from demist_app.model.linear import LinearFit
from demist_app.training.fit import TrainingError

TRAINED = 'trained.txt'


def train(preset, training, validation, work: Path, *, seed, backbone, machine):
    work.mkdir(parents=True, exist_ok=True)
    if work.name == os.environ.get('FAIL'):
        raise TrainingError('the loss became infinite')
    with (work.parent / TRAINED).open('a') as file:
        names = ' '.join(example.name for example in training)
        file.write(f'{work.name} on {names}, streams {" ".join(preset.streams.active)}\n')
    model = LinearFit()
    for example in training:
        images = np.asarray(example.images[0], np.float32)
        model.add(images, np.asarray(example.psr, np.float32), example.mask > 0)
    np.savez(work / 'fit.npz', **model.solve().tensors())
    return {'fit': {'examples': len(training)}}


def export(work: Path, preset, out: Path, *, facts):
    metadata = {
        'name': out.name,
        'version': '0',
        'network': 'linear',
        'description': 'a stand-in [@sisco2022].',
        'training_data': 'tests',
        **facts,
    }
    with np.load(work / 'fit.npz') as tensors:
        return write_bundle(out, metadata, dict(tensors), f'# {out.name}\n')


if __name__ == '__main__':
    from demist_app.cli.run import run
    from demist_app.workflows import crossvalidation

    crossvalidation.train, crossvalidation.export = train, export
    sys.exit(run(sys.argv[1:]))
