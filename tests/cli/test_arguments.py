import json
import subprocess
import sys

import pytest

from demist_app.cli.arguments import parse


@pytest.fixture
def bids(tmp_path):
    folder = tmp_path / 'bids'
    folder.mkdir()
    return folder


def settings_of(bids, *options):
    out = bids.parent / 'out'
    return parse([str(bids), str(out), 'participant', '-w', str(bids.parent / 'work'), *options])[0]


def test_labels_with_and_without_prefix(bids):
    inputs = settings_of(
        bids, '--participant-label', 'sub-01', '02', '01', '--session-label', 'ses-A', 'B'
    ).inputs
    assert inputs.participant_label == ('01', '02')
    assert inputs.session_label == ('A', 'B')


@pytest.mark.parametrize(
    ('aliases', 'values'),
    [
        (('--participant-label', '--participant_label'), ('01',)),
        (('--nprocs', '--nthreads', '--n-cpus', '--n_cpus'), ('2',)),
        (('--mem', '--mem-mb', '--mem_mb'), ('4000',)),
        (('--skip-bids-validation', '--skip_bids_validation'), ()),
    ],
)
def test_spellings_of_fmriprep(bids, aliases, values):
    found = [settings_of(bids, alias, *values) for alias in aliases]
    assert len({repr((s.inputs, s.processing, s.execution)) for s in found}) == 1


@pytest.mark.parametrize(
    ('text', 'gigabytes'), [('1.5G', 1.5), ('16000', 16.0), ('2T', 2000.0), ('4GB', 4.0)]
)
def test_memory_has_a_unit(bids, text, gigabytes):
    assert settings_of(bids, '--mem', text).execution.memory_gb == gigabytes


def test_low_memory_means_one_step_on_one_processor(bids):
    execution = settings_of(bids, '--low-mem', '--nprocs', '8').execution
    assert (execution.nprocs, execution.omp_nthreads) == (1, 1)


def test_native_space_is_always_written(bids):
    spaces = settings_of(bids, '--output-spaces', 'MNI152NLin2009cAsym').processing.output_spaces
    assert spaces == ('T1w', 'MNI152NLin2009cAsym')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--mem', '8'], 'too little'),
        (['--mem', 'lots'], "'lots' is not an amount of memory"),
        (['--nprocs', '0'], 'at least 1'),
        (['--device', 'tpu'], 'none of auto, cpu'),
        (['--bids-filter-file', 'absent.json'], 'absent.json is not a file'),
        (['-d', 'lesions=absent'], 'is not a folder'),
        (['--participant', '01'], 'unrecognized arguments'),
    ],
)
def test_bad_options_end_in_one_sentence(bids, capsys, options, message):
    with pytest.raises(SystemExit, match='2'):
        settings_of(bids, *options)
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('out', 'work', 'message'),
    [
        ('bids', 'work', 'is the data set itself'),
        ('bids/sub-01', 'work', 'lies inside the data set'),
        ('.', 'work', 'holds the data set itself'),
        ('out', 'bids/work', 'overlap'),
        ('out', '.', 'overlap'),
        ('work/out', 'work', 'lies inside work_dir'),
        ('file', 'work', 'is a file'),
    ],
)
def test_folders_that_would_harm_the_input(bids, capsys, out, work, message):
    root = bids.parent
    (root / 'file').write_text('')
    with pytest.raises(SystemExit, match='2'):
        parse([str(bids), str(root / out), 'participant', '-w', str(root / work)])
    assert message in capsys.readouterr().err


def test_derivatives_folder_of_the_data_set_is_fine(bids):
    out = bids / 'derivatives' / 'demist'
    settings, _ = parse([str(bids), str(out), 'participant', '-w', str(bids.parent / 'work')])
    assert settings.inputs.out_dir == out


def test_links_do_not_hide_the_data_set(bids, capsys):
    link = bids.parent / 'link'
    link.symlink_to(bids)
    with pytest.raises(SystemExit):
        parse([str(bids), str(link), 'participant'])
    assert 'is the data set itself' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'not valid JSON'),
        ('[]', 'must map'),
        ('{"t1w": 1}', 'must map'),
    ],
)
def test_bad_filter_files(bids, capsys, content, message):
    file = bids.parent / 'filters.json'
    file.write_text(content)
    with pytest.raises(SystemExit, match='2'):
        settings_of(bids, '--bids-filter-file', str(file))
    assert message in capsys.readouterr().err


def test_config_file_gives_defaults_that_options_override(bids):
    filters = bids.parent / 'filters.json'
    filters.write_text(json.dumps({'t1w': {'acquisition': 'mprage'}}))
    first = settings_of(
        bids, '--nprocs', '1', '--random-seed', '7', '--sloppy', '--bids-filter-file', str(filters)
    )
    config = bids.parent / 'settings.json'
    config.write_text(first.to_json())
    second = settings_of(bids, '--config-file', str(config), '--random-seed', '8')
    assert second.processing.random_seed == 8
    assert second.processing.sloppy
    assert second.execution == first.execution
    assert second.inputs == first.inputs
    assert second.run_uuid != first.run_uuid


def test_foreign_config_file_is_refused(bids, capsys):
    config = bids.parent / 'settings.json'
    config.write_text('{"a": 1}')
    with pytest.raises(SystemExit, match='2'):
        settings_of(bids, '--config-file', str(config))
    assert 'not the settings of a demist run' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('part', 'field', 'value', 'option'),
    [
        ('processing', 'skull_strip', 'perhaps', '--skull-strip'),
        ('processing', 'n_samples', 0, '--n-samples'),
        ('processing', 'device', 'tpu', '--device'),
        ('execution', 'nprocs', 0, '--nprocs'),
        ('training', 'n_splits', -5, '--n-splits'),
    ],
)
def test_values_of_a_config_file_are_checked_as_options_are(
    bids, capsys, part, field, value, option
):
    settings = json.loads(settings_of(bids).to_json())
    settings[part][field] = value
    config = bids.parent / 'settings.json'
    config.write_text(json.dumps(settings))
    with pytest.raises(SystemExit, match='2'):
        settings_of(bids, '--config-file', str(config))
    error = capsys.readouterr().err
    assert f'--config-file {config} cannot be used' in error
    assert option in error


def test_version_and_help_import_nothing_heavy():
    code = (
        'import sys\n'
        'from demist_app.cli.parser import build_parser\n'
        'build_parser().format_help()\n'
        'print(*sys.modules)'
    )
    loaded = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert not {'numpy', 'torch', 'nibabel', 'nipype', 'bids', 'rich'} & set(loaded.stdout.split())
