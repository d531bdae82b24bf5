"""Names are data: odd ones work, or are refused in a sentence; none is ever a command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import COMMAND, arguments, demist

from bids_layout.dataset import check_output
from bids_layout.links import check_links
from bids_layout.query import QueryError

FOLDERS = {
    'symbols': """it's "$(touch pwned)" `touch pwned` ; touch pwned & | < > * ? ~ # ! \\n"""
    '100% %s %(cwd)s {subject} {0} [b] $HOME é 漢字 \u202egnp.\u202c',
    'newline': 'two\nlines\r\x1b[31m\t',
}
LABELS = [
    '01 copy',
    '$(touch pwned)',
    "o'brien",
    '-rf',
    'é',
    '<b>',
    '%s',
    'two\nforged\x1b[2J',
    '*',
]


@pytest.mark.slow
@pytest.mark.parametrize('name', FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_any_name(head, tmp_path, name):
    folder = tmp_path / name
    bids = Path(shutil.copytree(head, folder / 'bids'))
    for label in LABELS:
        (bids / f'sub-{label}').mkdir()
    run = demist(bids, folder)
    assert run.code == 0, run.text
    status = run.status
    assert status.pop('sub-01_ses-01')['status'] == 'done'
    assert {row['status'] for row in status.values()} == {'skipped'}
    assert len(status) == len(LABELS)
    assert (run.out / 'sub-01_ses-01.html').is_file()
    # what stands in a name makes no line of its own in a log, and steers no terminal
    log = (run.log_dir / 'demist.log').read_text()
    shown = run.text[run.text.index('sub-01_ses-01 done') :]
    for text in (log, shown):
        assert '\x1b' not in text
        assert not any(line.startswith('forged') for line in text.splitlines())
    assert not [path for path in tmp_path.rglob('*') if path.name == 'pwned']
    assert not Path('pwned').exists()


@pytest.mark.slow
def test_leading_dashes(head, tmp_path):
    shutil.copytree(head, tmp_path / '-bids')
    options = arguments(head, tmp_path)[len(COMMAND) + 3 :]
    options[options.index('-w') + 1] = './-work'
    done = subprocess.run(
        [*COMMAND, *options, '--', '-bids', '--out', 'participant'],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / '--out/sub-01_ses-01.html').is_file()


def test_labels_that_nobody_has(bids, tmp_path):
    for label in ('$(touch pwned)', '-rf', '\x1b[2J'):
        run = demist(bids, tmp_path, f'--participant-label={label}')
        assert run.code == 2
        assert 'The data set has no participant' in run.text
        assert len(run.text.splitlines()) == 1
        assert '\x1b' not in run.text


@pytest.mark.parametrize('which', ['bids', 'out', 'work'])
def test_names_that_are_no_text(bids, tmp_path, which):
    folders = {'bids': bids, 'out': tmp_path / 'out', 'work': tmp_path / 'work'}
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9'))
    folders[which] = Path(shutil.copytree(bids, odd)) if which == 'bids' else odd
    command = [*COMMAND, folders['bids'], folders['out'], 'participant', '-w', folders['work']]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'UTF-8' in done.stderr
    assert 'caf\\udce9' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_current_folder_with_a_line_break(bids, tmp_path):
    here = tmp_path / 'two\nlines'
    here.mkdir()
    done = subprocess.run(
        [*COMMAND, bids, tmp_path / 'out', 'participant', '-w', tmp_path / 'work'],
        cwd=here,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'start demist in another one' in done.stderr


@pytest.mark.parametrize('link', ['sub-01', 'sub-01/ses-01', 'sub-01/ses-01/anat', 'logs'])
def test_a_link_into_the_input_is_found(tmp_path, link):
    bids, out = tmp_path / 'bids', tmp_path / 'out'
    (bids / 'sub-01').mkdir(parents=True)
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(bids / 'sub-01')
    with pytest.raises(QueryError, match=f'{out / link} is a link into the data set'):
        check_links(out, [bids])


def test_nothing_is_written_through_a_link_into_the_input(bids, tmp_path):
    link = tmp_path / 'out/sub-01'
    link.parent.mkdir()
    link.symlink_to(bids / 'sub-01')
    before = sorted(tmp_path.rglob('*'))
    run = demist(bids, tmp_path)
    assert run.code == 2
    assert f'{link} is a link into the data set' in run.text
    assert [path for path in sorted(tmp_path.rglob('*')) if run.work not in path.parents] == [
        *(path for path in before),
        run.work,
    ]


def test_other_links_in_the_output_folder_are_followed(tmp_path):
    """People keep results on another disk; DataLad keeps them in the data set's own .git."""
    bids, out = tmp_path / 'bids', tmp_path / 'bids/derivatives/demist'
    (out / '.git/x').mkdir(parents=True)
    (tmp_path / 'disk').mkdir()
    (out / 'sub-01').symlink_to(tmp_path / 'disk')
    (out / 'sub-02').symlink_to(out / '.git/x')
    (out / 'sub-03').symlink_to(out / 'nowhere')
    (out / 'sub-04').symlink_to(out / 'sub-04')
    check_links(out, [bids])
    (out / 'sub-05').symlink_to(bids / 'derivatives')
    with pytest.raises(QueryError, match='sub-05 is a link into the data set'):
        check_links(out, [bids])


def test_an_output_folder_whose_path_is_no_text():
    with pytest.raises(QueryError, match='not UTF-8'):
        check_output(Path('/caf\udce9'))


def test_folders_that_link_to_those_around_them(bids):
    """Two such links are followed for ever, in all combinations."""
    (bids / 'sub-01/ses-01/self').symlink_to('..')
    (bids / 'sub-01/ses-01/anat/self').symlink_to('..')
    code = 'import sys; from pathlib import Path; from bids_layout.query import index, images\n' \
        'print(len(images(index(Path(sys.argv[1]), {}))))'  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', code, bids],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == '2'


def test_a_data_set_does_not_tell_how_it_is_read(bids, tmp_path):
    (bids / 'layout_config.json').write_text('{"name": "x", "entities": [{"pattern": "((((a"}]}')
    run = demist(bids, tmp_path, '--dry-run')
    assert run.code == 0, run.text
