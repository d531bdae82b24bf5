"""The plugin on small real graphs: what fails, what goes on, what is said."""

import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from demist_app.engine.failures import NodesFailedError
from demist_app.engine.plugin import DemistMultiProc


def plugin(**arguments):
    return DemistMultiProc({'n_procs': 2, 'memory_gb': 4.0, **arguments})


def one():
    return 1


def add_one(before):
    return before + 1


def run_and_fail(cohort, **arguments):
    with pytest.raises(NodesFailedError) as caught:
        cohort.workflow.run(plugin=plugin(**arguments))
    return caught.value.failures


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return 'Z' not in Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    return False


def meet_and_die(mine, other):
    import os
    import signal
    import time
    from pathlib import Path

    while not Path(other).exists():
        time.sleep(0.01)
    Path(mine).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def meet_and_live(mine, other):
    import time
    from pathlib import Path

    Path(other).touch()
    while not Path(mine).exists():
        time.sleep(0.01)
    return 1


def test_only_the_node_whose_worker_was_killed_fails(cohort, tmp_path):
    meeting = {'mine': str(tmp_path / 'a'), 'other': str(tmp_path / 'b')}
    cohort.unit('01_ses_A', meet_and_die, add_one, **meeting)
    cohort.unit('02_ses_A', meet_and_live, add_one, **meeting)
    cohort.unit('03_ses_A', one, add_one)
    statuses = []
    (failure,) = run_and_fail(
        cohort, status_callback=lambda node, status: statuses.append((node.fullname, status))
    )
    assert failure.unit == 'sub-01_ses-A'
    assert failure.node == 'demist_wf.sub_01_ses_A_wf.meet_and_die'
    assert failure.not_run == ('demist_wf.sub_01_ses_A_wf.add_one',)
    for word in (failure.node, failure.unit, 'signal 9', 'out of memory', '--low-mem', '--mem'):
        assert word in failure.message
        assert word in failure.crash_file.read_text()
    assert failure.crash_file.parent == cohort.crash_dir
    assert cohort.result('02_ses_A', 'add_one') == 2
    assert cohort.result('03_ses_A', 'add_one') == 2
    assert len(statuses) == 10
    assert statuses.count(('demist_wf.sub_01_ses_A_wf.meet_and_die', 'exception')) == 1
    assert statuses.count(('demist_wf.sub_02_ses_A_wf.add_one', 'end')) == 1


def count_run(folder):
    from pathlib import Path

    with (Path(folder) / 'log').open('a') as file:
        file.write('x')
    return 1


def die_without_flag(before, folder):
    import os
    from pathlib import Path

    if not (Path(folder) / 'flag').exists():
        os._exit(3)
    return before


def test_a_rerun_resumes(cohort, tmp_path):
    cohort.unit('01', count_run, die_without_flag, add_one, folder=str(tmp_path))
    (failure,) = run_and_fail(cohort)
    assert 'exited by itself with status 3' in failure.message
    (tmp_path / 'flag').touch()
    cohort.workflow.run(plugin=plugin())
    assert (tmp_path / 'log').read_text() == 'x'
    assert cohort.result('01', 'add_one') == 2


def segfault():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def out_of_memory():
    raise MemoryError


def full_disk():
    import errno
    import os

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def plain_error():
    raise ValueError('the scan is upside down')


def system_exit():
    import sys

    sys.exit(0)


@pytest.mark.parametrize(
    ('function', 'words'),
    [
        (segfault, ('SIGSEGV', 'sub-01', 'report')),
        (out_of_memory, ('MemoryError', '--low-mem')),
        (full_disk, ('No space left', '-w')),
        (plain_error, ('ValueError: the scan is upside down',)),
        (system_exit, ('SystemExit',)),
    ],
)
def test_messages_say_what_to_do(cohort, function, words):
    cohort.unit('01', function)
    cohort.unit('02', one)
    (failure,) = run_and_fail(cohort)
    assert failure.unit == 'sub-01'
    assert all(word in failure.message for word in words)
    assert failure.message in failure.crash_file.read_text()
    assert cohort.result('02', 'one') == 1


def lose_the_fork_server(folder):
    import os
    import signal
    import time
    from pathlib import Path

    (Path(folder) / 'pid').write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(10_000)


def test_the_process_that_starts_workers_may_die(cohort, tmp_path):
    cohort.unit('01', lose_the_fork_server, folder=str(tmp_path))
    cohort.unit('02', one, add_one)
    failures = run_and_fail(cohort, n_procs=1)
    assert [failure.unit for failure in failures] == ['sub-01']
    assert 'lost' in failures[0].message
    while alive(int((tmp_path / 'pid').read_text())):  # nobody's child now
        time.sleep(0.01)
    assert cohort.result('02', 'add_one') == 2


def test_a_node_that_cannot_travel_fails_alone(cohort):
    def identity(value):
        return value

    cohort.unit('01', identity, value=lambda: 1)
    cohort.unit('02', one)
    (failure,) = run_and_fail(cohort)
    assert failure.unit == 'sub-01'
    assert 'pickle' in failure.message
    assert cohort.result('02', 'one') == 1


def test_a_crash_report_that_cannot_be_written_ends_nothing(cohort):
    cohort.crash_dir.touch()  # a file where the folder should be
    cohort.unit('01', plain_error)
    cohort.unit('02', one)
    (failure,) = run_and_fail(cohort)
    assert failure.crash_file is None
    assert 'upside down' in failure.message
    assert cohort.result('02', 'one') == 1


def wait_for_ever(pid_file):
    import os
    import time
    from pathlib import Path

    Path(pid_file).write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def fail_when_there(pid_file):
    import time
    from pathlib import Path

    while not (Path(pid_file).exists() and Path(pid_file).read_text()):
        time.sleep(0.01)
    raise ValueError('first')


def test_stop_on_first_crash_ends_what_runs(cohort, tmp_path):
    pid_file = tmp_path / 'pid'
    cohort.unit('01', fail_when_there, pid_file=str(pid_file))
    cohort.unit('02', wait_for_ever, pid_file=str(pid_file))
    cohort.workflow.config['execution']['stop_on_first_crash'] = 'true'
    (failure,) = run_and_fail(cohort)
    assert failure.message == 'ValueError: first'
    assert not alive(int(pid_file.read_text()))


def double(x):
    return 2 * x


def double_or_fail(x):
    if x == 2:
        raise ValueError('two')
    return 2 * x


def test_map_nodes_run_in_parts(cohort):
    cohort.mapped('01', double, [1, 2, 3])
    cohort.mapped('02', double_or_fail, [1, 2, 3])
    cohort.mapped('03', double, [4])
    seen = []
    (failure,) = run_and_fail(cohort, status_callback=lambda node, status: seen.append(node.name))
    assert failure.unit == 'sub-02'
    assert failure.node == 'demist_wf.sub_02_wf.parts._parts1'
    assert set(failure.not_run) == {'demist_wf.sub_02_wf.parts', 'demist_wf.sub_02_wf.total'}
    assert cohort.result('01', 'total') == 12
    assert cohort.result('03', 'total') == 8
    assert {'_parts0', '_parts1', '_parts2'} <= set(seen)


def stay_a_while(x, use_gpu):
    import os
    import time

    time.sleep(0.05)
    return os.getpid()


def watch(cohort, **arguments):
    """Run and return the sets of nodes that ran at the same time, as the parent saw it."""
    running, moments = set(), []

    def note(node, status):
        (running.add if status == 'start' else running.remove)(node)
        moments.append(set(running))

    cohort.workflow.run(plugin=plugin(status_callback=note, **arguments))
    return moments


def test_processors_and_memory_limit_what_runs_together(cohort):
    for label, (procs, memory) in enumerate([(1, 0.2), (2, 1), (3, 9), (1, 3), (1, 2), (4, 1)]):
        (node,) = cohort.unit(f'0{label}', stay_a_while, x=label, use_gpu=False)
        node.n_procs, node._mem_gb = procs, memory
    moments = watch(cohort, n_procs=4, memory_gb=4)
    assert max(map(len, moments)) > 1
    for together in moments:
        assert sum(node.n_procs for node in together) <= 4
        assert sum(min(node.mem_gb, 4) for node in together) <= 4


def test_gpu_nodes_take_turns_in_one_process(cohort):
    for label in range(3):
        cohort.unit(f'0{label}', stay_a_while, x=label, use_gpu=True)
        cohort.unit(f'1{label}', stay_a_while, x=label, use_gpu=False)
    moments = watch(cohort, n_procs=3, n_gpu_procs=1)
    assert max(map(len, moments)) > 1
    assert all(sum(node.is_gpu_node() for node in together) <= 1 for together in moments)
    gpu_pids = {cohort.result(f'0{label}', 'stay_a_while') for label in range(3)}
    cpu_pids = {cohort.result(f'1{label}', 'stay_a_while') for label in range(3)}
    assert len(gpu_pids) == 1
    assert not gpu_pids & cpu_pids


def test_units_finish_one_after_another(cohort):
    for label in '123':
        cohort.unit(label, one, add_one)
    order = []
    cohort.workflow.run(
        plugin=plugin(
            n_procs=1,
            status_callback=lambda node, status: order.append(node.fullname.split('.')[1]),
        )
    )
    assert len(order) == 12
    assert order == sorted(order)


def allocate():
    block = bytearray(400_000_000)
    block[::4096] = b'x' * len(block[::4096])
    return 1


def test_usage_is_known_for_each_node(cohort):
    cohort.unit('01', allocate, add_one)
    engine = plugin(n_procs=1)
    cohort.workflow.run(plugin=engine)
    big = engine.usage['demist_wf.sub_01_wf.allocate']
    small = engine.usage['demist_wf.sub_01_wf.add_one']
    assert big.peak_gb > 0.4
    assert small.peak_gb < big.peak_gb - 0.3
    assert big.seconds > 0


def report_environment():
    import logging
    import os
    import warnings

    logging.getLogger('demist_app.somewhere').warning('hello from %s', 'below')
    warnings.warn('mind the gap', stacklevel=1)
    return os.environ['DEMIST_TEST_VARIABLE']


def test_environment_goes_down_and_logs_come_up(cohort, monkeypatch, caplog):
    monkeypatch.setenv('DEMIST_TEST_VARIABLE', 'as set by the parent')
    cohort.unit('01', report_environment)
    with caplog.at_level(logging.INFO):
        cohort.workflow.run(plugin=plugin())
    assert cohort.result('01', 'report_environment') == 'as set by the parent'
    messages = ' '.join(record.getMessage() for record in caplog.records)
    assert 'hello from below' in messages
    assert 'mind the gap' in messages
    assert 'Executing "report_environment"' in messages


def test_no_process_is_left(cohort):
    cohort.unit('01', stay_a_while, x=0, use_gpu=False)
    cohort.workflow.run(plugin=plugin())
    pid = cohort.result('01', 'stay_a_while')
    while alive(pid):  # its parent, the fork server, still has to collect it
        time.sleep(0.01)


def test_ctrl_c_ends_workers(cohort, tmp_path):
    pid_file = tmp_path / 'pid'
    cohort.unit('01', wait_for_ever, pid_file=str(pid_file))

    def press(node, status):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    def raise_when_there(*_):
        if pid_file.exists() and pid_file.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, raise_when_there)
    with pytest.raises(KeyboardInterrupt):
        cohort.workflow.run(plugin=plugin(status_callback=press))
    assert not alive(int(pid_file.read_text()))
