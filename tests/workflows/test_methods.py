"""The methods text says what was done, and cites only what the bibliography has."""

from pathlib import Path

import pytest

from bids_layout.pairing import Unit
from boilerplate.methods import write_citations
from demist_app.model.presets import load_preset
from demist_app.settings import Training
from demist_app.workflows.methods import describe_training

UNITS = [
    Unit(participant=label, session=session, t1w=Path(), flair=Path())
    for label, session in (('01', 'A'), ('01', 'B'), ('02', 'A'))
]


@pytest.mark.parametrize('streams', [(), ('semantic',), ('semantic', 'spatial', 'adaptive')])
@pytest.mark.parametrize('backbone', [None, Path('brats')])
def test_it_says_what_was_trained_on_whom(streams, backbone, tmp_path):
    preset = load_preset('tiny').with_streams(streams)
    training = Training('tiny', backbone=backbone, n_splits=3)
    text = describe_training('The T1w was corrected [@n4]. ', preset, training, UNITS)
    assert '3 scans of 2 participants' in text
    assert '3-fold' in text
    assert 'corrected [@n4]. Measured' in text
    assert ('model zoo' in text) == bool(backbone)
    named = {
        'semantic': 'cross-attention',
        'spatial': 'ControlNet',
        'adaptive': 'low-rank adaptation',
    }
    for stream, words in named.items():
        assert (words in text) == (stream in streams)
    assert 'Other methods' not in text
    write_citations(text, tmp_path)  # raises where the bibliography lacks a key
    assert '@article{n4' in (tmp_path / 'CITATION.bib').read_text()


def test_it_names_the_methods_that_were_trained():
    preset = load_preset('tiny')
    both = describe_training('', preset, Training('tiny', methods=('linear', 'demist')), UNITS)
    assert 'latent diffusion' in both
    assert 'Other methods that were trained on the same scans (preset tiny): Linear. ' in both
    alone = describe_training('', preset, Training('tiny', methods=('unet', 'linear')), UNITS)
    assert 'latent diffusion' not in alone
    assert 'Regression UNet, Linear. ' in alone


def test_it_says_that_a_model_was_distilled():
    training = Training('tiny')
    plain, distilled = (
        describe_training('', preset, training, UNITS)
        for preset in (load_preset('tiny'), load_preset('tiny').distilled())
    )
    assert 'third stage' not in plain
    assert 'in 1 evaluation(s)' in distilled
    assert '[@indi]' in distilled
