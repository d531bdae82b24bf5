import os
from pathlib import Path

import pytest

from demist_app.cli.plugins import Plugin
from demist_app.settings import SettingsError

OUT, WORK = Path('/data/out'), Path('/scratch/work')


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'plugin.yml'


def with_sbatch(folder, monkeypatch):
    (folder / 'sbatch').touch(mode=0o755)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')


def test_a_plugin_of_nipype_is_taken_with_its_arguments(file):
    file.write_text('plugin: MultiProc\nplugin_args:\n  n_procs: 2\n')
    assert Plugin.read(file, OUT, WORK) == Plugin('MultiProc', {'n_procs': 2})


def test_what_is_no_plugin_of_nipype_is_refused(file):
    file.write_text('plugin: NoSuch')
    with pytest.raises(SettingsError, match=r"no plugin 'NoSuch'; it has .*SLURMGraph"):
        Plugin.read(file, OUT, WORK)


@pytest.mark.parametrize('name', ['SLURM', 'SLURMGraph'])
def test_slurm_needs_its_commands_and_a_plain_work_folder(file, name, tmp_path, monkeypatch):
    file.write_text(f'plugin: {name}')
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(SettingsError, match='needs the command sbatch'):
        Plugin.read(file, OUT, WORK)
    with_sbatch(tmp_path, monkeypatch)
    assert Plugin.read(file, OUT, WORK).name == name
    with pytest.raises(SettingsError, match='cannot pass on to sbatch'):
        Plugin.read(file, OUT, Path('/scratch/my work; rm -rf x'))
    with pytest.raises(SettingsError, match='has a "%" in its name'):
        Plugin.read(file, Path('/data/100%'), WORK)
    file.write_text(f'plugin: {name}\nplugin_args:\n  sbatch_args: [--time=1]\n')
    with pytest.raises(SettingsError, match='must be one line of text'):
        Plugin.read(file, OUT, WORK)
