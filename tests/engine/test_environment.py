"""Environment variables for any user and any HOME."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from demist_app.engine import environment
from demist_app.engine.environment import prepare, without_secrets

REPOSITORY = Path(__file__).resolve().parents[2]
NOWHERE = '/dev/null/home'  # cannot be made, not even by root


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    before = dict(os.environ)
    monkeypatch.setattr(tempfile, 'tempdir', None)
    for name in ('XDG_CACHE_HOME', 'XDG_CONFIG_HOME', *environment.CACHES, *environment.ARCHIVES):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_usual_home_is_used(tmp_path):
    os.environ['HOME'] = str(tmp_path / 'home')
    changed = prepare(tmp_path / 'work', omp_nthreads=3)
    assert changed['XDG_CACHE_HOME'] == str(tmp_path / 'home/.cache')
    assert not {'HOME', 'MPLCONFIGDIR', 'TORCH_HOME', 'NIPYPE_CONFIG_DIR'} & changed.keys()
    assert changed['OMP_NUM_THREADS'] == '3'
    assert changed['MPLBACKEND'] == 'Agg'
    assert changed['NIPYPE_NO_ET'] == '1'
    assert not (tmp_path / 'home').exists()


def test_what_cannot_be_written_moves_to_the_work_folder(tmp_path):
    os.environ |= {'HOME': NOWHERE, 'TORCH_HOME': f'{NOWHERE}/torch', 'MPLCONFIGDIR': str(tmp_path)}
    changed = prepare(tmp_path / 'work', omp_nthreads=1, templates=True)
    for name in ('XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'TORCH_HOME', 'NIPYPE_CONFIG_DIR'):
        assert Path(changed[name]).is_relative_to(tmp_path / 'work')
    assert 'MPLCONFIGDIR' not in changed
    assert 'TEMPLATEFLOW_HOME' not in changed  # its usual place is below XDG_CACHE_HOME


def test_a_read_only_archive_is_used_if_there_is_something_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, '_writable', lambda folder: folder.name != 'archive')
    archive = tmp_path / 'archive'
    archive.mkdir()
    os.environ |= {'HOME': str(tmp_path), 'TEMPLATEFLOW_HOME': str(archive)}
    changed = prepare(tmp_path / 'work', omp_nthreads=1, templates=True)
    assert Path(changed['TEMPLATEFLOW_HOME']).is_relative_to(tmp_path / 'work')
    (archive / 'tpl-X').mkdir()
    os.environ['TEMPLATEFLOW_HOME'] = str(archive)
    assert 'TEMPLATEFLOW_HOME' not in prepare(tmp_path / 'work', omp_nthreads=1, templates=True)


def test_sockets_get_a_short_temporary_folder(tmp_path, monkeypatch):
    long = tmp_path / ('x' * 80)
    long.mkdir()
    monkeypatch.setenv('TMPDIR', str(long))
    prepare(tmp_path / 'work', omp_nthreads=1)
    assert len(tempfile.gettempdir()) <= environment.LONGEST_TEMPORARY_FOLDER
    assert os.environ['TMPDIR'] == tempfile.gettempdir()


SCRIPT = """
import json, os, sys
from pathlib import Path
from demist_app.engine.environment import prepare, without_secrets
prepare(Path(sys.argv[1]), omp_nthreads=1)

import matplotlib.font_manager, monai, nilearn.plotting, torch
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow
from niworkflows.interfaces.bids import STANDARD_SPACES
from demist_app.engine.plugin import DemistMultiProc

def home():
    import os
    import niworkflows.interfaces.bids
    return os.environ['XDG_CACHE_HOME']

if __name__ == '__main__':
    workflow = Workflow('demist_wf', base_dir=sys.argv[1])
    node = Node(Function([], ['out'], home), 'home')
    workflow.config['execution'] = {'crashdump_dir': sys.argv[1]}
    workflow.add_nodes([node])
    workflow.run(plugin=DemistMultiProc({'n_procs': 1, 'memory_gb': 1}))
    result = Node(Function([], ['out'], home), 'home', base_dir=sys.argv[1] + '/demist_wf').result
    print(json.dumps({'templates': len(STANDARD_SPACES), 'cache': result.outputs.out}))
"""


@pytest.fixture(scope='module')
def stranger() -> list[str]:
    """Prefix of a command that runs it as a user without a name, without network or privileges."""
    prefix = ['unshare', '--user', '--net', '--map-user=54321', '--map-group=54321']
    with suppress(OSError):
        if not subprocess.run([*prefix, 'true'], capture_output=True).returncode:
            return prefix
    pytest.skip('no user namespaces here')


@pytest.mark.slow
@pytest.mark.parametrize('home', ['read-only', 'unset'])
def test_libraries_work_for_a_user_without_name_home_or_network(tmp_path, stranger, home):
    script, work, read_only = (tmp_path / name for name in ('script.py', 'work', 'read-only'))
    script.write_text(SCRIPT)
    read_only.mkdir(mode=0o555)
    home_variable = {'HOME': str(read_only)} if home == 'read-only' else {}
    done = subprocess.run(
        [*stranger, sys.executable, str(script), str(work)],
        cwd=read_only,
        env={'PATH': os.environ['PATH'], 'PYTHONPATH': str(REPOSITORY), **home_variable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told['templates'] == 0
    assert Path(told['cache']).is_relative_to(work)
    assert not list(read_only.iterdir())


@pytest.mark.parametrize(
    'name',
    ['GITHUB_TOKEN', 'AWS_SECRET_ACCESS_KEY', 'AWS_ACCESS_KEY_ID', 'PGPASSWORD', 'DB_PWD',
     'SSH_AUTH_SOCK', 'SLURM_JWT', 'HF_API_KEY', 'GOOGLE_APPLICATION_CREDENTIALS', 'npm_pat'],
)  # fmt: skip
def test_variables_that_look_secret_are_left_out(name):
    assert without_secrets({name: 'x'}) == {}


def test_variables_that_steps_need_are_kept():
    needed = dict.fromkeys(
        ('PATH', 'PWD', 'OLDPWD', 'HOME', 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'SLURM_JOB_ID',
         'LD_LIBRARY_PATH', 'TMPDIR', 'PYTHONPATH', 'TEMPLATEFLOW_HOME'),
        'x',
    )  # fmt: skip
    needed['http_proxy'] = 'http://proxy:3128'
    assert without_secrets(needed) == needed
    assert without_secrets({'DATABASE': 'postgres://me:word@host/x'}) == {}
