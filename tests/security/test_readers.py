"""Whatever bytes a file holds: a result, or the sentence of the module that reads it."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bids_layout.dataset import check_output, write_dataset_description
from bids_layout.participants import read_participants
from bids_layout.query import QueryError, index
from bids_layout.sidecars import Sidecars
from demist_app.cli.plugin_file import read_plugin
from demist_app.imaging.conform import reorient_ras
from demist_app.imaging.volumes import (
    InputError,
    field_strength,
    header_warnings,
    is_skull_stripped,
    load_volume,
)
from demist_app.interfaces.tissue import deep_grey_labels
from demist_app.model.bundle import (
    METADATA,
    BundleError,
    _sha256_of_facts,
    load_bundle,
    write_bundle,
)
from demist_app.model.predictor import load_predictor
from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
too_deep = st.integers(2_000, 200_000).map(lambda depth: b'[' * depth)
json_bytes = st.binary(max_size=300) | too_deep | values.map(json.dumps).map(str.encode)
bounded = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def result_or(kind: type[Exception], path: Path, read: Callable[[], Any]) -> Any:
    """Return what `read` returns; None after its own exception, which must name the file."""
    try:
        return read()
    except kind as error:
        message = str(error)
    assert str(path) in message
    assert '\n' not in message
    return None


@bounded
@given(json_bytes)
@example('{"MagneticFieldStrength": "3T"}'.encode('utf-16'))
@example(b'{"MagneticFieldStrength": 1' + b'0' * 400 + b'}')
def test_any_sidecar(tmp_path, content):
    (tmp_path / 'sub-01_T1w.json').write_bytes(content)
    metadata, notes = Sidecars(tmp_path).read(tmp_path / 'sub-01_T1w.nii.gz')
    assert isinstance(metadata, dict)
    assert len(notes) <= 1


@bounded
@given(st.dictionaries(st.sampled_from(['MagneticFieldStrength', 'SkullStripped']), values))
@example({'MagneticFieldStrength': '3T', 'SkullStripped': 'yes'})
@example({'MagneticFieldStrength': 10**400})
@example({'MagneticFieldStrength': float('nan')})
def test_any_field_of_a_sidecar(metadata):
    image = nb.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    assert all(isinstance(text, str) for text in header_warnings(image, metadata))
    assert isinstance(is_skull_stripped(image, metadata), bool)
    strength = field_strength(metadata)
    assert strength is None or strength > 0


cells = st.text(max_size=8) | st.sampled_from(['sub-01', '1', 'participant_id', 'index', 'name'])
tables = st.lists(st.lists(cells, max_size=4), max_size=5).map(
    lambda rows: '\n'.join('\t'.join(row) for row in rows).encode(errors='surrogatepass')
)


@bounded
@given(st.binary(max_size=300) | tables)
@example(b'\xff\xfeodd')
@example(b'participant_id\tgroup\nsub-01\t' + b'x' * 200_000)
@example(b'participant_id\tgroup\nsub-01\t\x00')
def test_any_participants_tsv(tmp_path, content):
    (tmp_path / 'participants.tsv').write_bytes(content)
    found = result_or(QueryError, tmp_path, lambda: read_participants(tmp_path, ['01', '1']))
    assert set(found or ()) <= {'01', '1'}


@bounded
@given(json_bytes)
def test_any_dataset_description(tmp_path, content):
    (tmp_path / 'dataset_description.json').write_bytes(content)
    assert result_or(QueryError, tmp_path, lambda: check_output(tmp_path)) is None
    result_or(QueryError, tmp_path, lambda: index(tmp_path, {}))


def test_an_ignore_file_of_another_encoding(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / '.bidsignore').write_bytes('übrig\n'.encode('latin-1'))
    with pytest.raises(QueryError, match=r'\.bidsignore is not UTF-8'):
        write_dataset_description(tmp_path / 'out', tmp_path, {}, '1')


def scan() -> bytes:
    data = np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)
    return nb.Nifti1Image(data, np.diag([12.0, 12.0, 12.0, 1.0])).to_bytes()


def scan2() -> bytes:
    data = np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)
    return nb.Nifti2Image(data, np.diag([12.0, 12.0, 12.0, 1.0])).to_bytes()


FIELDS = (*range(40, 56, 2), 70, 108, 112, 280, *range(16, 80, 8), 168, 400)
"""Offsets of sizes, type, start of the data, scale and sform in NIfTI-1 and NIfTI-2."""
EXTREMES = [
    *(struct.pack('<h', number) for number in (-1, 0, 2**15 - 1)),
    *(struct.pack('<q', number) for number in (-1, 0, 2**62)),
    *(struct.pack('<f', number) for number in (float('nan'), float('inf'), -1)),
    *(struct.pack('<d', number) for number in (float('nan'), float('inf'), 1e300)),
]


@st.composite
def damaged(draw) -> bytes:
    """A NIfTI file with some bytes of its header replaced, perhaps cut short or compressed."""
    content = bytearray(draw(st.sampled_from([scan(), scan2()])))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, 540) | st.sampled_from(FIELDS))
        patch = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(EXTREMES))
        content[start : start + len(patch)] = patch
    cut = bytes(content[: draw(st.none() | st.integers(0, len(content)))])
    return gzip.compress(cut, mtime=0) if draw(st.booleans()) else cut


@settings(bounded, max_examples=600)
@given(damaged() | st.binary(max_size=600))
def test_any_nifti_header(tmp_path, content):
    path = tmp_path / 'sub-01_T1w.nii.gz'
    path.write_bytes(content)
    if image := result_or(InputError, path, lambda: load_volume(path)):
        assert np.isfinite(image.get_fdata()).all()
        header_warnings(image, {})
        reorient_ras(image)


@pytest.mark.parametrize('what', ['sidecar', 'scan'])
def test_devices_are_not_read(tmp_path, what):
    if what == 'scan':
        (tmp_path / 'sub-01_T1w.nii.gz').symlink_to('/dev/zero')
        with pytest.raises(InputError, match='not a file'):
            load_volume(tmp_path / 'sub-01_T1w.nii.gz')
    else:
        (tmp_path / 'sub-01_T1w.json').symlink_to('/dev/zero')
        assert Sidecars(tmp_path).read(tmp_path / 'sub-01_T1w.nii.gz')[0] == {}


@pytest.fixture(scope='module')
def bundle(tmp_path_factory) -> Path:
    facts = {'name': 'mine', 'network': 'linear', 'version': '1'}
    tensors = {'coefficients': np.ones(3), 'residual_sd': np.ones(25)}
    return write_bundle(tmp_path_factory.mktemp('b') / 'mine', facts, tensors, '# card').path


@bounded
@given(json_bytes, st.sampled_from(['configs/metadata.json', 'models/model.safetensors']))
def test_any_byte_in_a_bundle(bundle, tmp_path, content, name):
    copy = tmp_path / 'copy'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(copy)


@bounded
@given(
    st.dictionaries(st.sampled_from(['name', 'network', 'version', 'preset', 'x']), values),
    st.dictionaries(st.text(max_size=12), st.text(max_size=8), max_size=2),
)
@example({'network': 'demist', 'preset': {'streams': 1}}, {})
@example({}, {'../../etc/passwd': 'x'})
@example({}, {'\0': 'x'})
@example({}, {'\n': ''})
@example({'x': '\ud800'}, {})
def test_metadata_of_a_bundle_whose_checksums_are_right(bundle, tmp_path, facts, digests):
    """Who makes a bundle makes its checksums, too."""
    copy = tmp_path / 'copy'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    metadata = json.loads((copy / METADATA).read_bytes()) | facts
    metadata['sha256'] |= digests
    metadata['sha256'][str(METADATA)] = _sha256_of_facts(metadata)
    (copy / METADATA).write_text(json.dumps(metadata))
    result_or(BundleError, copy, lambda: load_predictor(load_bundle(copy)))


@bounded
@given(
    st.dictionaries(
        st.sampled_from(['coefficients', 'residual_sd', 'other']),
        st.sampled_from(
            [np.ones(3), np.ones(25), np.ones((2, 2)), np.array(1.0), np.zeros(3, bool)]
        ),
        min_size=1,
    )
)
def test_weights_of_another_shape(tmp_path, tensors):
    facts = {'name': 'mine', 'network': 'linear', 'version': '1'}
    made = write_bundle(tmp_path / 'mine', facts, tensors, '# card')
    if result_or(BundleError, made.path, lambda: load_predictor(made)):
        assert tensors['coefficients'].shape == (3,)


SETTINGS = Settings(
    inputs=Inputs(Path('/bids'), Path('/out')),
    processing=Processing(),
    execution=Execution(Path('/work'), nprocs=2, omp_nthreads=1, memory_gb=4.0),
    run_uuid='x',
)


@bounded
@given(json_bytes.map(lambda content: content.decode('latin-1')))
def test_any_settings(text):
    with pytest.raises(SettingsError):
        Settings.from_json(text)


@bounded
@given(
    st.sampled_from(['inputs', 'processing', 'execution', 'training']),
    st.sampled_from(['participant_label', 'derivatives', 'bids_filters', 'n_samples', 'streams']),
    values,
)
@example('inputs', 'participant_label', '01')
def test_any_field_of_settings(group, name, value):
    content = json.loads(SETTINGS.to_json())
    content[group][name] = value
    try:
        read = Settings.from_json(json.dumps(content))
    except SettingsError:
        return
    stored = getattr(getattr(read, group), name)
    assert stored == (tuple(value) if isinstance(value, list) else value)


@bounded
@given(st.binary(max_size=200) | tables)
@example(b'index\tname\n1\t2\n')
@example(b'index\tname\nx\tthalamus\n')
def test_any_lookup_table(tmp_path, content):
    path = tmp_path / 'dseg.tsv'
    path.write_bytes(content)
    labels = result_or(InputError, path, lambda: deep_grey_labels(path))
    assert all(isinstance(label, int) for label in labels or ())


@bounded
@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
@example(b'plugin: !!python/object/apply:os.system ["touch pwned"]')
@example(b'{"plugin": "Linear", "plugin_args": ["n_procs"]}')
@example(b'{"plugin": {"n_procs": 1}}')
@example(b'[' * 2_000)
@example(b'{[]: 2001-99-99}')
@example(b'Linear')
def test_any_plugin_file(tmp_path, content):
    path = tmp_path / 'plugin.yml'
    path.write_bytes(content)
    assert result_or(SettingsError, path, lambda: read_plugin(path)) is None


def test_a_plugin_file(tmp_path):
    path = tmp_path / 'plugin.yml'
    path.write_text('plugin: SLURM\nplugin_args:\n  sbatch_args: --mem 4G\n')
    assert read_plugin(path) == ('SLURM', {'sbatch_args': '--mem 4G'})
