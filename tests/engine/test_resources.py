"""Limits read from made-up machines."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.engine.resources import available, parse_memory

GIB = 1024**3
PLENTY = 2**62


def machine(root: Path, files: dict[str, str], total: int = 64 * GIB) -> Path:
    for name, text in {'proc/meminfo': f'MemTotal: {total // 1024} kB\n', **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def _many_processors(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(32)))


@pytest.fixture
def no_gpu(tmp_path):
    return {'PATH': str(tmp_path)}


def memory_of(resources):
    return resources.memory_gb * 1e9 / 0.9


def test_a_bare_machine(tmp_path, no_gpu):
    found = available(machine(tmp_path, {}), no_gpu)
    assert (found.cpus, found.gpus) == (32, 0)
    assert memory_of(found) == pytest.approx(64 * GIB)
    assert found.sources['cpus'] == 'CPU affinity'
    assert found.sources['memory_gb'] == 'memory of the machine'


def test_this_machine():
    found = available()
    assert 1 <= found.cpus <= 32
    assert 0 < found.memory_gb < os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9


limits = st.one_of(st.none(), st.integers(1, 200 * GIB))
quotas = st.one_of(st.none(), st.integers(1000, 10_000_000))


@given(st.lists(st.tuples(limits, quotas), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_the_tightest_group_counts(tmp_path_factory, levels, version_2, container):
    """Nested groups, outermost first; in a container without a namespace the path is unknown."""
    root = tmp_path_factory.mktemp('machine')
    files = {}
    folder = ''
    for level, (memory, quota) in enumerate(levels):
        if level:
            folder += f'/level{level}'
        if version_2:
            files[f'sys/fs/cgroup{folder}/memory.max'] = f'{memory or "max"}\n'
            files[f'sys/fs/cgroup{folder}/cpu.max'] = f'{quota or "max"} 100000\n'
        else:
            files[f'sys/fs/cgroup/memory{folder}/memory.limit_in_bytes'] = f'{memory or PLENTY}\n'
            files[f'sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us'] = f'{quota or -1}\n'
            files[f'sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us'] = '100000\n'
    group = '/docker/0123abc' if container else folder or '/'
    files['proc/self/cgroup'] = (
        f'0::{group}\n' if version_2 else f'5:memory:{group}\n4:cpu,cpuacct:{group}\n1:pids:/\n'
    )
    seen = levels[:1] if container else levels
    found = available(machine(root, files), {'PATH': str(root)})
    memory = min([64 * GIB, *(memory for memory, _ in seen if memory)])
    cpus = min([32, *(quota / 100_000 for _, quota in seen if quota)])
    assert memory_of(found) == pytest.approx(memory)
    assert found.cpus == max(1, int(cpus))


def test_groups_outside_the_namespace_are_not_followed(tmp_path, no_gpu):
    files = {
        'proc/self/cgroup': '0::/../../other\n',
        'sys/fs/memory.max': '1000000\n',
        'sys/fs/cgroup/memory.max': f'{8 * GIB}\n',
    }
    found = available(machine(tmp_path, files), no_gpu)
    assert memory_of(found) == pytest.approx(8 * GIB)
    assert found.sources['memory_gb'].endswith('sys/fs/cgroup/memory.max')


@pytest.mark.parametrize(
    ('variables', 'cpus', 'memory'),
    [
        ({'SLURM_CPUS_PER_TASK': '4', 'SLURM_MEM_PER_NODE': '16384'}, 4, 16 * GIB),
        ({'SLURM_CPUS_ON_NODE': '8', 'SLURM_MEM_PER_CPU': '2048'}, 8, 16 * GIB),
        ({'SLURM_CPUS_ON_NODE': '8', 'SLURM_CPUS_PER_TASK': '2'}, 2, 64 * GIB),
        ({'SLURM_CPUS_PER_TASK': '2', 'SLURM_MEM_PER_CPU': '1000'}, 2, 2000 * 1024**2),
        ({'SLURM_MEM_PER_NODE': '0'}, 32, 64 * GIB),
        ({'SLURM_CPUS_ON_NODE': '128', 'SLURM_MEM_PER_NODE': '999999999'}, 32, 64 * GIB),
        ({'SLURM_CPUS_PER_TASK': '', 'SLURM_MEM_PER_CPU': 'UNLIMITED'}, 32, 64 * GIB),
    ],
)
def test_slurm(tmp_path, no_gpu, variables, cpus, memory):
    found = available(machine(tmp_path, {}), no_gpu | variables)
    assert found.cpus == cpus
    assert memory_of(found) == pytest.approx(memory)
    assert ('SLURM' in str(found.sources)) == (cpus < 32 or memory < 64 * GIB)


@pytest.mark.parametrize(
    ('visible', 'gpus'),
    [
        (None, 2),
        ('', 0),
        ('-1', 0),
        ('1', 1),
        ('0,1', 2),
        ('0,-1,1', 1),
        ('GPU-5f', 1),
        ('0,1,2', 2),
    ],
)
def test_gpus(tmp_path, visible, gpus):
    program = tmp_path / 'nvidia-smi'
    program.write_text(
        '#!/bin/sh\necho "GPU 0: NVIDIA H100 (UUID: GPU-5f)"\n'
        'echo "  MIG 1g.10gb Device 0: (UUID: MIG-1)"\necho "GPU 1: NVIDIA H100 (UUID: GPU-6f)"\n'
    )
    program.chmod(0o755)
    environ = {'PATH': str(tmp_path)} | (
        {} if visible is None else {'CUDA_VISIBLE_DEVICES': visible}
    )
    assert available(machine(tmp_path, {}), environ).gpus == gpus


def test_a_driver_that_does_not_answer_means_no_gpu(tmp_path):
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\necho "NVIDIA-SMI has failed"\nexit 9\n')
    program.chmod(0o755)
    assert available(machine(tmp_path, {}), {'PATH': str(tmp_path)}).gpus == 0


@given(
    st.floats(0.001, 9999).map(lambda number: f'{number:.3f}'),
    st.sampled_from(['K', 'M', 'G', 'T']),
    st.sampled_from(['', 'B', 'i', 'iB']),
    st.booleans(),
    st.sampled_from(['', ' ']),
)
def test_memory_with_units(number, prefix, ending, lower, space):
    text = f'{number}{space}{prefix}{ending}'
    factor = (1024 if 'i' in ending else 1000) ** ('KMGT'.index(prefix) + 1)
    assert parse_memory(text.lower() if lower else text) == pytest.approx(
        float(number) * factor / 1e9
    )


def test_memory_without_a_unit_is_in_megabytes_as_in_fmriprep():
    assert parse_memory('16000') == 16
    assert parse_memory('1500000000B') == 1.5


@pytest.mark.parametrize(
    'text', ['', 'G', '-1G', '0', '0.0G', '1.5.2G', '8X', 'nan', 'inf', '1e3', '8 G B', '8Bi', '٣G']
)
def test_nonsense_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match='not an amount of memory') as caught:
        parse_memory(text)
    assert repr(text) in str(caught.value)
    assert '\n' not in str(caught.value)
