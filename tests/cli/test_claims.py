import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from demist_app.cli import claims
from demist_app.cli.claims import claim

HOLDER = (
    'import sys\n'
    'from pathlib import Path\n'
    'from demist_app.cli.claims import claim\n'
    'with claim(Path(sys.argv[1]), sys.argv[2:]) as held:\n'
    '    print(*sorted(held), flush=True)\n'
    '    sys.stdin.read()\n'
)


def holder(folder, *names):
    """Start another process that claims names; return it and what it was refused."""
    process = subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(folder), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().split()


def test_what_one_run_claims_another_is_refused_until_it_is_killed(tmp_path):
    with claim(tmp_path / 'work', ['sub-01', 'sub-02']) as held:
        assert not held
        process, refused = holder(tmp_path / 'work', 'sub-02', 'sub-03')
        assert refused == ['sub-02']
    with claim(tmp_path / 'work', ['sub-02', 'sub-03']) as held:
        assert held == {'sub-03'}
    process.kill()
    process.wait()
    with claim(tmp_path / 'work', ['sub-03']) as held:
        assert not held


def test_work_folders_are_apart(tmp_path):
    process, _ = holder(tmp_path / 'a', 'sub-01')
    with claim(tmp_path / 'b', ['sub-01']) as held:
        assert not held
    process.kill()
    process.wait()


def test_a_file_system_without_locks_is_worked_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(claims.fcntl, 'lockf', fail)
    caplog.set_level('WARNING', 'demist')
    claims.LOGGER.propagate = True
    with claim(tmp_path, ['sub-01', 'sub-02']) as held:
        assert not held
    assert caplog.text.count('cannot lock files') == 1


@given(st.sets(st.text(min_size=1), max_size=2000))
def test_any_number_of_units_takes_one_open_file(tmp_path_factory, names):
    with claim(tmp_path_factory.getbasetemp(), names) as held:
        assert not held
