"""A run in a process of its own, ended from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow
from demist_app.engine.environment import exit_on_sigterm
from demist_app.engine.plugin import DemistMultiProc

def wait_for_ever(pid_file):
    import os, time
    from pathlib import Path
    Path(pid_file).write_text(str(os.getpid()))
    while True:
        time.sleep(1)

if __name__ == '__main__':
    exit_on_sigterm()
    workflow = Workflow('demist_wf', base_dir=sys.argv[1])
    node = Node(Function(['pid_file'], ['out'], wait_for_ever), 'node')
    node.inputs.pid_file = sys.argv[2]
    workflow.add_nodes([node])
    workflow.run(plugin=DemistMultiProc({'n_procs': 1, 'memory_gb': 1}))
"""


@pytest.mark.parametrize(
    ('number', 'status'),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_workers_end_with_their_parent(tmp_path, number, status):
    script, pid_file = tmp_path / 'script.py', tmp_path / 'pid'
    script.write_text(SCRIPT)
    repository = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(pid_file)],
        env=os.environ | {'PYTHONPATH': str(repository), 'NIPYPE_NO_ET': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # background jobs of a shell, as CI may be one, inherit SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not (pid_file.exists() and pid_file.read_text()):
            assert parent.poll() is None
            time.sleep(0.01)
        worker = Path('/proc', pid_file.read_text())
        parent.send_signal(number)
        assert parent.wait(timeout=60) == status
        while worker.exists():
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
