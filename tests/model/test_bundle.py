import json

import numpy as np
import pytest

from demist_app.model.bundle import (
    CARD,
    METADATA,
    WEIGHTS,
    BundleError,
    find_bundle,
    load_bundle,
    shipped,
    write_bundle,
)
from demist_app.model.predictor import load_predictor


@pytest.fixture
def bundle(tmp_path):
    tensors = {'coefficients': np.array([1.0, 2.0, 3.0]), 'residual_sd': np.ones(25)}
    return write_bundle(
        tmp_path / 'mine', {'name': 'mine', 'network': 'linear', 'version': '1'}, tensors, '# card'
    )


def test_round_trip(bundle):
    again = load_bundle(bundle.path)
    assert again == bundle
    np.testing.assert_array_equal(again.tensors()['coefficients'], [1, 2, 3])


def test_everyone_may_read_it(bundle):
    for path in bundle.path.rglob('*'):
        assert path.stat().st_mode & 0o444 == 0o444


def test_writing_twice_gives_the_same_checksum(bundle):
    again = write_bundle(
        bundle.path,
        {'name': 'mine', 'network': 'linear', 'version': '1'},
        bundle.tensors(),
        '# card',
    )
    assert again.sha256 == bundle.sha256
    assert sorted(p.name for p in bundle.path.parent.iterdir()) == ['mine']


def test_truncated_weights_are_refused(bundle):
    weights = bundle.path / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(BundleError, match=r'model\.safetensors was changed or cut short'):
        load_bundle(bundle.path)


def test_edited_card_is_refused(bundle):
    (bundle.path / CARD).write_text('# trained on 10,000 people')
    with pytest.raises(BundleError, match=r'README\.md was changed'):
        load_bundle(bundle.path)


def test_missing_file_is_refused(bundle):
    (bundle.path / CARD).unlink()
    with pytest.raises(BundleError, match=r'README\.md is missing'):
        load_bundle(bundle.path)


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"format": "other"}'])
def test_foreign_metadata_is_refused(bundle, content):
    (bundle.path / METADATA).write_text(content)
    with pytest.raises(BundleError):
        load_bundle(bundle.path)


def test_files_outside_the_bundle_are_refused(bundle):
    metadata = json.loads((bundle.path / METADATA).read_text())
    metadata['sha256']['../outside'] = '0'
    (bundle.path / METADATA).write_text(json.dumps(metadata))
    (bundle.path.parent / 'outside').write_text('')
    with pytest.raises(BundleError, match='outside is missing'):
        load_bundle(bundle.path)


def test_weights_that_are_no_safetensors_are_refused(bundle, monkeypatch):
    import hashlib

    content = b'not safetensors at all'
    (bundle.path / WEIGHTS).write_bytes(content)
    metadata = json.loads((bundle.path / METADATA).read_text())
    metadata['sha256'][str(WEIGHTS)] = hashlib.sha256(content).hexdigest()
    (bundle.path / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(BundleError, match='not a safetensors file'):
        load_bundle(bundle.path)


def test_unknown_network_is_refused(bundle):
    other = write_bundle(
        bundle.path, {'name': 'mine', 'network': 'quantum'}, bundle.tensors(), '# card'
    )
    with pytest.raises(BundleError, match="type 'quantum'"):
        load_predictor(other)


def test_unknown_name_lists_what_is_shipped():
    with pytest.raises(BundleError, match='linear'):
        find_bundle('no-such-model')


def test_shipped_bundles_are_intact():
    assert 'linear' in shipped()
    for path in shipped().values():
        bundle = load_bundle(path)
        assert load_predictor(bundle)
        assert bundle.metadata['training_data']
