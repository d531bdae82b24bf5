"""What is said about a failure."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.engine.failures import explain_death, explain_error, unit_of
from demist_app.workflows.participant import workflow_name

labels = st.from_regex(r'[a-zA-Z0-9+]+', fullmatch=True)


@given(labels, st.none() | labels)
def test_a_unit_is_found_by_the_name_of_its_workflow(participant, session):
    unit = SimpleNamespace(label=f'sub-{participant}' + (f'_ses-{session}' if session else ''))
    assert unit_of(f'demist_wf.{workflow_name(unit)}.anat_preproc_wf.bias') == unit.label


@pytest.mark.parametrize('name', ['demist_wf.describe', 'demist_wf.sub_wf.x', '_bias0', 'sub_01'])
def test_steps_of_no_unit(name):
    assert unit_of(name) is None


@pytest.mark.parametrize(
    ('exitcode', 'words'),
    [
        (-9, ['signal 9', 'out of memory', '--low-mem', '--nprocs', '--mem']),
        (-15, ['signal 15', 'rerun']),
        (-11, ['SIGSEGV', 'rerun']),
        (-7, ['SIGBUS', 'rerun']),
        (3, ['status 3', 'rerun']),
        (255, ['lost', '--low-mem']),
    ],
)
def test_every_death_names_node_unit_and_remedy(exitcode, words):
    message = explain_death('demist_wf.sub_01_ses_A_wf.bias', exitcode)
    for word in [
        'demist_wf.sub_01_ses_A_wf.bias',
        'sub-01_ses-A',
        'finished steps are kept',
        *words,
    ]:
        assert word in message


@pytest.mark.parametrize(
    ('last_line', 'remedy'),
    [
        ('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB', '--device cpu'),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", '--low-mem'),
        ('numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 TiB', '--low-mem'),
        ('MemoryError', '--low-mem'),
        ('OSError: [Errno 12] Cannot allocate memory', '--low-mem'),
        ('OSError: [Errno 28] No space left on device', '-w'),
    ],
)
def test_known_errors_come_with_a_remedy(last_line, remedy):
    message = explain_error(f'Traceback:\n\tmore\n\t{last_line}\n')
    assert remedy in message
    assert last_line.rpartition(': ')[2] in message


def test_other_errors_come_as_they_are():
    assert explain_error("Traceback\n  KeyError: 'x'\n") == "KeyError: 'x'"
