import json

import numpy as np

from demist_app.interfaces.examples import WriteExample
from demist_app.training.examples import read_examples


def test_an_example_holds_what_was_measured_and_where_its_images_lie(volumes, tmp_path):
    names = ('t1w', 'flair', 'psr', 'mask', 'brain', 'tissue')
    outputs = WriteExample(
        **{name: str(tmp_path / f'{name}.nii') for name in names},
        native_brain=str(tmp_path / 'brain.nii'),
        name='sub-1_ses-A', participant='sub-1', group='patient', warnings=['look at it'],
    ).run().outputs  # fmt: skip
    (example,) = read_examples(tmp_path / 'store')
    assert (example.name, example.participant, example.group) == ('sub-1_ses-A', 'sub-1', 'patient')
    inside = (slice(4, 28), slice(0, 32), slice(0, 16))  # padded from 24 to 32 along the first axis
    assert example.mask.shape == (32, 32, 16)
    np.testing.assert_allclose(example.images[0, 0][inside], volumes['t1w'], atol=1e-3)
    np.testing.assert_allclose(example.images[0, 1][inside], volumes['flair'], atol=1e-3)
    np.testing.assert_allclose(example.psr[inside], volumes['psr'], atol=1e-2)
    assert np.array_equal(example.mask[inside] > 0, volumes['mask'])
    prepared = json.loads((tmp_path / 'prepared.json').read_text())
    assert outputs.prepared == str(tmp_path / 'prepared.json')
    assert prepared['warnings'] == ['look at it']
    expected = {n: f'{n}.nii' for n in names}  # no lesions and no deep grey matter are known
    assert prepared['files'] == expected | {'native_brain': 'brain.nii'}
