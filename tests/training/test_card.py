import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demist_app.model.bundle import CARD, find_bundle, load_bundle
from demist_app.training.card import model_card

SCRIPT = Path(__file__).resolve().parents[2] / 'benchmarks' / 'card.py'
MEASURED = 'metrics', 'scored_on', 'lesions', 'coverage'


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(shutil.copytree(find_bundle('small'), tmp_path / 'small'))


def put(bundle, facts):
    path = bundle.path.with_name('metrics.json')
    path.write_text(json.dumps(facts))
    done = subprocess.run(
        [sys.executable, SCRIPT, bundle.path, path], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_shipped_card_says_what_the_shipped_metadata_say(bundle):
    assert (bundle.path / CARD).read_text('utf-8') == model_card(bundle.metadata)


def test_the_order_of_the_metadata_changes_no_card(bundle):
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in bundle.metadata.items()
    }
    turned['coverage'] |= {'regions': dict(reversed(turned['coverage']['regions'].items()))}
    assert model_card(turned) == model_card(bundle.metadata)


def test_the_same_figures_leave_the_same_bundle(bundle):
    assert 'as before' in put(bundle, {key: bundle.metadata[key] for key in MEASURED})
    assert load_bundle(bundle.path).sha256 == bundle.sha256


def test_other_figures_reach_the_card_and_no_weight(bundle):
    weights = bundle.metadata['sha256']['models/model.safetensors']
    metrics = bundle.metadata['metrics'] | {'PSNR': [12.34, 0.5]}
    assert f'before {bundle.sha256}' in put(bundle, {'metrics': metrics})
    changed = load_bundle(bundle.path)
    assert changed.metadata['sha256']['models/model.safetensors'] == weights
    assert '| PSNR (dB) | 12.34 ± 0.5 |' in (changed.path / CARD).read_text('utf-8')
