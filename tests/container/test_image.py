"""What is in the image, and what is not."""

import json
import subprocess

import pytest

from demist_app import __version__

pytestmark = pytest.mark.container

IMPORT_ALL = """
from importlib import import_module
from pkgutil import walk_packages
import bids_layout, boilerplate, demist_app
for package in bids_layout, boilerplate, demist_app:
    for module in walk_packages(package.__path__, package.__name__ + '.'):
        import_module(module.name)
        print(module.name)
"""
CHECK_MODELS = """
from demist_app.model.bundle import load_bundle, shipped
print(*(load_bundle(path).name for path in shipped().values()))
"""


def test_version(image):
    done = subprocess.run(image.command('--version'), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f'demist {__version__}\n')


def test_labels(image):
    done = subprocess.run(
        [image.engine, 'image', 'inspect', image.name], capture_output=True, text=True, check=True
    )
    labels = json.loads(done.stdout)[0]['Config']['Labels']
    prefix = 'org.opencontainers.image.'
    assert labels[f'{prefix}title'] == 'demist'
    assert labels[f'{prefix}licenses'] == 'Apache-2.0'
    assert labels[f'{prefix}version'] == __version__
    assert {f'{prefix}{name}' for name in ('description', 'revision', 'source')} <= labels.keys()


def test_variables_that_tell_of_the_container_and_bound_the_threads(image):
    variables = image.inside('env').splitlines()
    assert {'IS_DOCKER_8395080871=1', 'OMP_NUM_THREADS=1', 'MKL_NUM_THREADS=1'} <= {*variables}


def test_nothing_of_the_build_is_left(image):
    names = 'cc c++ gcc g++ ld make pip pip3 git'
    assert image.inside('sh', '-c', f'for name in {names}; do command -v $name; done; true') == ''
    leftovers = ('-name', 'tests', '-o', '-name', '.cache', '-o', '-name', '*.whl')
    unused = ('-o', '-path', '/src/*', '-o', '-path', '/var/lib/apt/lists/*')
    assert image.inside('find', '/', '-xdev', *leftovers, *unused) == ''


def test_licences_are_inside(image):
    for name in ('LICENSE', 'NOTICE'):
        assert 'Apache License' in image.inside('cat', f'/usr/share/doc/demist/{name}')


def test_weights_are_inside_and_whole(image):
    assert {'linear', 'small'} <= {*image.inside('python', '-c', CHECK_MODELS).split()}


def test_every_module_finds_what_it_imports(image):
    """No file that was removed to save room is missed."""
    modules = image.inside('python', '-c', IMPORT_ALL).split()
    assert {'demist_app.training.run', 'demist_app.cli.run', 'boilerplate.figures'} <= {*modules}
