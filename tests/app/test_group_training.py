"""The group level with its real training, a few updates of each stage."""

import csv
import dataclasses
import json
import math
import os
import subprocess
from collections import Counter

import pytest
from running import COMMAND

from demist_app.model.bundle import load_bundle
from demist_app.model.presets import load_preset


@pytest.fixture
def preset(tmp_path):
    """The preset `tiny` with four updates a stage, and one step of sampling."""
    content = load_preset('tiny').as_dict()
    for field in dataclasses.fields(load_preset('tiny').training):
        if isinstance(stage := content['training'][field.name], dict):
            stage |= {'updates': 4, 'patch': 32}
    content['diffusion']['sampling_steps'] = 1
    content['training'] |= {'validate_every': 2, 'adversarial_start': 2, 'latent_versions': 1}
    path = tmp_path / 'few.json'
    path.write_text(json.dumps(content | {'name': 'few'}))
    return path


@pytest.mark.slow
def test_folds_final_model_and_scores(phantom, tmp_path, preset):
    out, work = tmp_path / 'out', tmp_path / 'work'
    command = [
        *COMMAND, str(phantom), str(out), 'group', '-w', str(work), '--preset', str(preset),
        '--n-splits', '2', '--n-samples', '2', '--sloppy', '--nprocs', '2', '--omp-nthreads', '1',
        '--device', 'cpu', '--method', 'demist', 'demist-tokens', 'linear',
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1800, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = ('fold-1', 'fold-2', 'final')
    bundles = [load_bundle(out / 'models' / name) for name in names]
    assert {bundle.metadata['network'] for bundle in bundles} == {'demist'}
    assert len({bundle.sha256 for bundle in bundles}) == 3
    with (out / 'group_scores.tsv').open() as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert Counter((row['method'], row['draws']) for row in rows) == {
        ('demist', '2'): 4, ('demist-tokens', '2'): 4, ('linear', '1'): 4,
    }  # fmt: skip
    assert all(math.isfinite(float(row['psnr'])) for row in rows)
    # what methods share is trained once: even the seconds are the same
    stages = [
        bundles[0].metadata['stages'],
        load_bundle(out / 'models/demist-tokens/fold-1').metadata['stages'],
    ]
    for stage in ('1a-psr', '1a-cond', '1b-align', '1c-backbone'):
        assert stages[0][stage] == stages[1][stage]
    assert stages[0]['2-conditional'] != stages[1]['2-conditional']
    assert load_bundle(out / 'models' / 'linear' / 'fold-2').metadata['network'] == 'linear'
    assert not (out / 'models' / 'linear' / 'final').exists()
    methods = (out / 'models' / 'CITATION.md').read_text()
    for words in ('N4', '2-fold cross-validation', 'preset few', 'a ControlNet branch'):
        assert words in methods
    for stage in ('1a-psr', '2-conditional'):
        assert (work / 'demist_group' / 'final' / stage / 'facts.json').exists()
