import os
import shlex
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.cli.arguments import parse
from demist_app.cli.slurm import MAX_TASKS, Scripts
from demist_app.settings import SettingsError

ODD = 'it\'s "odd" $HOME `id` %j ; & é\n-x'
RECORDER = '#!/bin/bash\nprintf "%s\\0" "$@" >"$RECORD"\n'


def arguments_of(root, level, *options):
    for name in ('bids', 'd e'):
        (root / name).mkdir(exist_ok=True, parents=True)
    folders = [str(root / 'bids'), str(root / 'out'), level, '-w', str(root / 'work')]
    return [*folders, *options, '--write-slurm', str(root / 'jobs')]


def scripts(root, level, *options):
    arguments = arguments_of(root, level, *options)
    return Scripts(arguments, parse(arguments)[0])


def started(script, root, **environment):
    """Run a script with a stand-in for the program it starts; return the arguments it gets."""
    program = next(
        line.split()[1] for line in script.read_text().splitlines() if line.startswith('exec ')
    )
    recorder = root / 'recorder'
    recorder.write_text(RECORDER)
    recorder.chmod(recorder.stat().st_mode | stat.S_IXUSR)
    text = script.read_text().replace(f'exec {program} ', f'exec {shlex.quote(str(recorder))} ', 1)
    env = {**os.environ, 'RECORD': str(root / 'record'), **environment}
    subprocess.run(['bash', '-c', text], check=True, env=env)
    return (root / 'record').read_text().split('\0')[:-1]


def of_demist(words):
    """Return what follows the program: `python -m demist_app` or the container's image."""
    return words[2:] if words[0] == '-m' else words[words.index('image.sif') + 1 :]


@pytest.mark.parametrize('odd', ['plain', ODD])
def test_a_task_gets_the_same_settings_as_the_command(tmp_path, odd, monkeypatch):
    root = tmp_path / odd.replace('/', '').replace('"', '').replace('\n', '')
    filters = root / f'f {odd}.json'
    root.mkdir()
    filters.write_text('{}')
    options = [
        '-d', f'lesions={root / "d e"}', '--bids-filter-file', str(filters), '--n-samples', '3',
        '--output-spaces', 'T1w', 'MNI152NLin2009cAsym', '--random-seed', '-5', '--sloppy', '-vv',
        '--session-label', 'A', 'B', '--mem', '3.5G', '--nprocs', '2',
    ]  # fmt: skip
    written = scripts(root, 'participant', *options)
    written.of_participants(['01', '02'])
    words = started(root / 'jobs' / 'participants.sbatch', root, SLURM_ARRAY_TASK_ID='2')
    monkeypatch.chdir('/')  # the job runs elsewhere
    job, _ = parse(of_demist(words))
    original = written.settings
    assert job.inputs.participant_label == ('02',)
    assert job.processing == original.processing
    assert job.execution == original.execution
    for field in ('bids_dir', 'out_dir', 'session_label', 'bids_filters', 'derivatives'):
        assert getattr(job.inputs, field) == getattr(original.inputs, field)


@given(labels=st.integers(1, 3 * MAX_TASKS))
def test_every_participant_is_in_one_task_and_no_array_is_too_long(tmp_path_factory, labels):
    root = tmp_path_factory.getbasetemp()
    names = [f'{number:04}' for number in range(labels)]
    scripts(root, 'participant').of_participants(names)
    lines = (root / 'jobs' / 'participants.txt').read_text().splitlines()
    assert len(lines) <= MAX_TASKS
    assert [name for line in lines for name in line.split()] == names
    assert f'#SBATCH --array=1-{len(lines)}\n' in (root / 'jobs/participants.sbatch').read_text()


def test_jobs_ask_for_what_demist_is_told_to_use(tmp_path):
    scripts(tmp_path, 'participant', '--nprocs', '6', '--mem', '9G').of_participants(['01'])
    text = (tmp_path / 'jobs' / 'participants.sbatch').read_text()
    assert '#SBATCH --cpus-per-task=6\n' in text
    megabytes = int(text.partition('--mem=')[2].partition('M')[0])
    assert 0.9 * megabytes * 2**20 >= 9e9  # demist takes nine tenths of what a job has
    assert '--gpus' not in text


def test_a_training_is_a_chain(tmp_path):
    options = ('--n-splits', '3', '--devices', '2', '--num-nodes', '2', '--device', 'cuda')
    recipe = ('--preset', 'tiny', '--streams', 'spatial', '--method', 'linear', 'ftldm+lora')
    written = scripts(tmp_path, 'group', *options, *recipe)
    written.of_training(10)
    jobs = {path.stem: path.read_text() for path in (tmp_path / 'jobs').glob('*.sbatch')}
    assert set(jobs) == {'prepare', 'folds', 'final'}
    for name in ('folds', 'final'):
        assert 'exec srun ' in jobs[name]
        assert '#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=2\n' in jobs[name]
        assert '#SBATCH --gpus-per-node=2\n' in jobs[name]
    assert '#SBATCH --array=1-3\n' in jobs['folds']
    assert '#SBATCH --time=2880\n' in jobs['folds']  # a day for each method
    assert '--gpus' not in jobs['prepare']
    prepare, _ = parse(of_demist(started(tmp_path / 'jobs' / 'prepare.sbatch', tmp_path)))
    assert prepare.training.prepare
    assert prepare.training.streams == ('spatial',)
    assert prepare.training.preset == 'tiny'
    assert prepare.training.methods == ('linear', 'ftldm+lora')
    submit = (tmp_path / 'jobs' / 'submit.sh').read_text()
    assert submit.index('prepare.sbatch') < submit.index('folds.sbatch') < submit.index('final.')
    assert '--dependency="afterok:${prepare%%;*}"' in submit
    assert '--dependency="afterok:${folds%%;*}"' in submit


def test_a_container_sees_all_folders_under_their_own_names(tmp_path):
    image = tmp_path / 'image.sif'
    image.touch()
    lesions, model = tmp_path / 'd e', tmp_path / "my 'model'"
    model.mkdir()
    options = ('--container', str(image), '-d', f'lesions={lesions}', '--model', str(model))
    written = scripts(tmp_path, 'participant', *options, '--device', 'cuda')
    written.of_participants(['01'])
    words = started(tmp_path / 'jobs/participants.sbatch', tmp_path, SLURM_ARRAY_TASK_ID='1')
    place = words.index(str(image))
    before, after = words[:place], words[place + 1 :]
    assert before[:4] == ['run', '--cleanenv', '--no-home', '--nv']
    binds = {word for number, word in enumerate(before) if before[number - 1] == '-B'}
    read = (tmp_path / 'bids', lesions, model)
    assert binds == {
        *(f'{folder}:{folder}:ro' for folder in read),
        *(str(tmp_path / name) for name in ('out', 'work')),
    }
    assert parse(after)[0].processing.model == str(model)
    assert (tmp_path / 'out').is_dir()  # what is bound must exist
    assert (tmp_path / 'work').is_dir()


def test_an_address_of_an_image_is_taken_as_it_is(tmp_path):
    address = 'docker://example.org/demist:1'
    scripts(tmp_path, 'participant', '--container', address).of_participants(['01'])
    assert address in (tmp_path / 'jobs' / 'aggregate.sbatch').read_text()


@pytest.mark.parametrize(
    ('level', 'options', 'message'),
    [
        ('participant', ['--dry-run'], '--dry-run cannot go with --write-slurm'),
        ('participant', ['--clean-workdir'], 'would not go on'),
        ('group', ['--no-resume'], 'would not go on'),
        ('group', ['--fold', '1'], '--fold cannot go with --write-slurm'),
        ('group', ['--prepare'], '--prepare cannot go with --write-slurm'),
    ],
)
def test_contradictions_end_in_one_sentence(tmp_path, capsys, level, options, message):
    with pytest.raises(SystemExit, match='2'):
        parse(arguments_of(tmp_path, level, *options))
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_a_container_needs_jobs(tmp_path, capsys):
    arguments = arguments_of(tmp_path, 'participant')[:-2]
    with pytest.raises(SystemExit, match='2'):
        parse([*arguments, '--container', 'x.sif'])
    assert '--write-slurm DIR' in capsys.readouterr().err


def test_what_slurm_or_apptainer_cannot_be_told_is_refused(tmp_path):
    with pytest.raises(SettingsError, match='quotes, backslashes'):
        scripts(tmp_path / 'a"b', 'participant')
    with pytest.raises(SettingsError, match=r'absent\.sif does not exist'):
        scripts(tmp_path, 'participant', '--container', 'absent.sif')
    written = scripts(tmp_path / 'a:b', 'participant', '--container', 'docker://x')
    with pytest.raises(SettingsError, match='colon or comma'):
        written.of_participants(['01'])


def test_scripts_are_valid_for_bash(tmp_path):
    scripts(tmp_path, 'participant').of_participants(['01'])
    scripts(tmp_path, 'group').of_training(4)
    written = sorted((tmp_path / 'jobs').glob('*.s*'))
    assert len(written) == 6
    for path in written:
        subprocess.run(['bash', '-n', str(path)], check=True)
