"""``demist`` with a training that takes no time: ``python fake_training.py <arguments of demist>``.

The models it writes are linear ones, fitted to the units they were given.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demist_app.model.bundle import write_bundle
from demist_app.model.linear import LinearFit
from demist_app.training.fit import TrainingError
from demist_app.training.methods import METHODS

TRAINED = 'trained.txt'


@dataclass(frozen=True)
class FakeMethod:
    """Any method, for no cost."""

    name: str
    shares_stages: bool

    @property
    def title(self) -> str:
        return self.name.upper()

    def recipe(self, preset):
        return {'preset': preset.as_dict()}

    def train(self, course):
        folder = course.work / f'stage-{self.name}'
        folder.mkdir(parents=True, exist_ok=True)
        model = LinearFit()
        for example in course.training:
            images = np.asarray(example.images[0], np.float32)
            model.add(images, np.asarray(example.psr, np.float32), example.mask > 0)
        np.savez(folder / 'fit.npz', **model.solve().tensors())
        return {'fit': {'updates': 1, 'seconds': 0.0, 'device': 'CPU'}}

    def fit(self, course, out: Path, facts):
        name = out.as_posix().partition('/models/')[2]
        if name == os.environ.get('FAIL'):
            raise TrainingError('the loss became infinite')
        stages = self.train(course)
        (group,) = (folder for folder in course.work.parents if folder.name == 'demist_group')
        with (group / TRAINED).open('a') as file:
            names = ' '.join(example.name for example in course.training)
            streams = ' '.join(course.preset.streams.active)
            file.write(f'{name} on {names}, streams {streams}\n')
        metadata = {
            'name': out.name,
            'version': '0',
            'network': 'linear',
            'description': f'a stand-in for {self.name} [@sisco2022].',
            'training_data': 'tests',
            'parameters': {'all': 3},
            'stages': stages,
            **facts,
        }
        with np.load(course.work / f'stage-{self.name}' / 'fit.npz') as tensors:
            return write_bundle(out, metadata, dict(tensors), f'# {out.name}\n')


METHODS_IN_TESTS = {
    name: FakeMethod(name, shares_stages=name != 'unet')
    for name in ('demist', 'unet', 'ftldm+lora')
}

if __name__ == '__main__':
    from demist_app.cli.run import run

    METHODS.update(METHODS_IN_TESTS)
    sys.exit(run(sys.argv[1:]))
