import re
from pathlib import Path

import pytest

from demist_app.cli.arguments import parse
from demist_app.cli.parser import build_parser
from demist_app.settings import Training
from demist_app.training.methods import METHODS


def training_of(tmp_path, *options, level='group'):
    (tmp_path / 'bids').mkdir(exist_ok=True)
    folders = [str(tmp_path / name) for name in ('bids', 'out')]
    return parse([*folders, level, '-w', str(tmp_path / 'work'), *options])[0].training


def test_nothing_said_means_the_defaults(tmp_path):
    assert training_of(tmp_path) == Training()


def test_everything_said_is_kept(tmp_path):
    weights = tmp_path / 'weights'
    weights.mkdir()
    assert training_of(
        tmp_path, '--preset', 'tiny', '--streams', 'spatial, semantic', '--backbone', str(weights),
        '--n-splits', '3', '--fold', '3', '--no-resume', '--no-final', '--devices', '2',
        '--num-nodes', '4', '--method', 'linear', 'ftldm+lora', 'linear',
    ) == Training(
        preset='tiny', streams=('spatial', 'semantic'), backbone=weights, n_splits=3, fold=3,
        resume=False, final=False, devices=2, num_nodes=4, methods=('linear', 'ftldm+lora'),
    )  # fmt: skip


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--n-splits', '1'], 'at least 2'),
        (['--fold', '6'], 'beyond --n-splits 5'),
        (['--fold', '0'], 'at least 1'),
        (['--fold', '1', '--aggregate'], 'give one of them'),
        (['--fold', '1', '--clean-workdir'], 'other folds'),
        (['--backbone', 'absent'], 'absent does not exist'),
        (['--device', 'cuda:1'], 'CUDA_VISIBLE_DEVICES'),
        (['--reports-only'], 'participant level'),
        (['--method', 'linear', 'telepathy'], '--method telepathy is none of mean, linear, '),
    ],
)
def test_contradictions_end_in_one_sentence(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match='2'):
        training_of(tmp_path, *options)
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_training_options_are_refused_at_the_participant_level(tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        training_of(tmp_path, '--fold', '1', level='participant')
    assert 'belongs to the group level' in capsys.readouterr().err


def test_a_config_file_keeps_the_recipe_but_not_the_part(tmp_path):
    options = ['--preset', 'tiny', '--n-splits', '3', '--fold', '2', '--no-final']
    options += ['--method', 'linear', 'demist']
    (tmp_path / 'bids').mkdir()
    folders = [str(tmp_path / name) for name in ('bids', 'out')]
    first, _ = parse([*folders, 'group', '-w', str(tmp_path / 'work'), *options])
    config = Path(tmp_path / 'settings.json')
    config.write_text(first.to_json())
    again = training_of(tmp_path, '--config-file', str(config))
    assert again == Training(preset='tiny', n_splits=3, final=False, methods=('linear', 'demist'))


def test_the_help_names_every_method():
    help_of = {action.dest: action.help for action in build_parser()._actions}
    assert set(re.findall(r'[a-z+-]+', help_of['method'])) >= set(METHODS)
