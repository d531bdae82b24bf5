"""Training by jobs: the scans first, then a fold by two processes."""

import dataclasses
import json
import subprocess

import pytest

from demist_app.model.bundle import load_bundle
from demist_app.model.presets import load_preset

pytestmark = pytest.mark.slurm


@pytest.fixture
def preset(tmp_path):
    """The preset `tiny` with two updates a stage."""
    content = load_preset('tiny').as_dict()
    for field in dataclasses.fields(load_preset('tiny').training):
        if isinstance(stage := content['training'][field.name], dict):
            stage |= {'updates': 2, 'patch': 32}
    content['training'] |= {'validate_every': 2, 'adversarial_start': 2, 'latent_versions': 1}
    path = tmp_path / 'few.json'
    path.write_text(json.dumps(content | {'name': 'few'}))
    return path


def test_two_tasks_of_srun_train_one_fold_together(finished, preset):
    place = finished
    place.write(
        'group', '--preset', str(preset), '--n-splits', '2', '--n-samples', '1', '--device', 'cpu',
        '--devices', '2',
    )  # fmt: skip
    place.ended(*place.submit(script='prepare'))
    assert (place.out / 'models' / 'splits.tsv').exists(), place.printed()
    assert not (place.out / 'models' / 'fold-1').exists()
    place.ended(*place.submit('--array=1', script='folds'))
    bundle = load_bundle(place.out / 'models' / 'fold-1')
    devices = {facts['device'] for facts in bundle.metadata['stages'].values()}
    assert devices == {'CPU, 2 x 1 thread(s)'}, place.printed()
    assert {row['status'] for row in place.runs()[-1].values()} == {'done'}, place.printed()


def test_srun_and_devices_must_agree(finished):
    done = subprocess.run(
        ['srun', '--ntasks=2', *finished.command('group', '--n-splits', '2')],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'srun started 2 processes, but --devices 1' in done.stderr
