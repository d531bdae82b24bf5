import hashlib
import json

import numpy as np
import pytest

from demist_app.model.bundle import (
    CARD,
    METADATA,
    WEIGHTS,
    BundleError,
    _sha256_of_facts,
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


def test_edited_metadata_is_refused(bundle):
    text = (bundle.path / METADATA).read_text()
    assert '"version": "1"' in text
    (bundle.path / METADATA).write_text(text.replace('"version": "1"', '"version": "2"'))
    with pytest.raises(BundleError, match=r'metadata\.json was changed'):
        load_bundle(bundle.path)


def test_metadata_without_checksums_is_refused(bundle):
    metadata = json.loads((bundle.path / METADATA).read_text())
    del metadata['sha256'][str(METADATA)]
    (bundle.path / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(BundleError, match='lacks checksums'):
        load_bundle(bundle.path)


def test_a_file_that_does_not_belong_there_is_refused(bundle):
    (bundle.path / '.DS_Store').write_text('')
    (bundle.path / 'models' / '.cache').mkdir()
    (bundle.path / 'models' / '.cache' / 'listing').write_text('')
    assert load_bundle(bundle.path) == bundle
    (bundle.path / 'models' / 'model.pt').write_text('')
    with pytest.raises(BundleError, match=r'models/model\.pt is no part of the bundle: remove it'):
        load_bundle(bundle.path)


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"format": "other"}'])
def test_foreign_metadata_is_refused(bundle, content):
    (bundle.path / METADATA).write_text(content)
    with pytest.raises(BundleError):
        load_bundle(bundle.path)


def test_files_outside_the_bundle_are_refused(bundle):
    metadata = json.loads((bundle.path / METADATA).read_text())
    metadata['sha256'] = {'../outside': '0'} | metadata['sha256']
    (bundle.path / METADATA).write_text(json.dumps(metadata))
    (bundle.path.parent / 'outside').write_text('')
    with pytest.raises(BundleError, match='outside is missing'):
        load_bundle(bundle.path)


def test_weights_that_are_no_safetensors_are_refused(bundle):
    content = b'not safetensors at all'
    (bundle.path / WEIGHTS).write_bytes(content)
    metadata = json.loads((bundle.path / METADATA).read_text())
    metadata['sha256'][str(WEIGHTS)] = hashlib.sha256(content).hexdigest()
    metadata['sha256'][str(METADATA)] = _sha256_of_facts(metadata)
    (bundle.path / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(BundleError, match='not a safetensors file'):
        load_bundle(bundle.path)


def test_unknown_network_is_refused(bundle):
    other = write_bundle(
        bundle.path,
        {'name': 'mine', 'network': 'quantum', 'version': '1'},
        bundle.tensors(),
        '# card',
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
