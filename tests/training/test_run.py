"""Training as a product: it goes on where it was stopped, and ends in the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from demist_app.training.fit import Machine, TrainingError
from demist_app.training.run import STAGES, WEIGHTS, assemble, train

MACHINE = Machine(accelerator='cpu')

SCRIPT = """
import json, sys
from pathlib import Path
from demist_app.model.presets import Preset
from demist_app.training.examples import read_examples
from demist_app.training.fit import Machine
from demist_app.training.run import train

if __name__ == '__main__':
    store, preset, work, devices = sys.argv[1:]
    examples = read_examples(Path(store))
    train(
        Preset.from_dict(json.loads(Path(preset).read_text())),
        examples[:4],
        examples[4:],
        Path(work),
        machine=Machine(accelerator='cpu', devices=int(devices)),
    )
"""


@pytest.fixture(scope='session')
def trained(tmp_path_factory, micro, examples):
    """An undisturbed training: (work folder, facts)."""
    work = tmp_path_factory.mktemp('trained')
    return work, train(micro, examples[:4], examples[4:], work, machine=MACHINE)


def run_script(tmp_path, micro, examples, work, devices=1):
    preset = tmp_path / 'preset.json'
    preset.write_text(json.dumps(micro.as_dict()))
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    store = examples[0].path.parent
    return subprocess.Popen(
        [sys.executable, str(script), str(store), str(preset), str(work), str(devices)],
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )


def weights(work):
    return {f'{s}/{k}': v for s in STAGES for k, v in load_file(work / s / WEIGHTS).items()}


def test_every_stage_leaves_weights_facts_and_logs(trained):
    work, facts = trained
    assert tuple(facts) == STAGES
    for name in STAGES:
        assert facts[name]['updates'] == 4
        assert facts[name]['seconds'] > 0
        assert facts[name]['trainable_parameters'] > 0
        assert list((work / name / 'log').rglob('metrics.csv'))
        assert list((work / name / 'log').rglob('events.*'))
    streams = facts['2-conditional']['parameters_per_stream']
    assert sum(streams.values()) == facts['2-conditional']['trainable_parameters']


def test_the_assembled_model_is_whole(trained, micro):
    work, _ = trained
    model = assemble(micro, work)
    images = torch.rand(1, 2, 32, 32, 32)
    with torch.no_grad():
        z_c = model.encode_cond(images)
        conditioning = model.denoiser.condition(z_c, torch.zeros(1, 3))
        out = model.denoiser(torch.randn(1, 8, 8, 8, 8), torch.tensor([500]), conditioning)
        psr = model.decode(out)
    assert psr.shape == (1, 1, 32, 32, 32)
    assert psr.isfinite().all()
    assert float(model.psr_scale[0]) != 1  # measured, not the default


def test_only_the_streams_change_in_stage_2(trained):
    work, _ = trained
    before = load_file(work / '1c-backbone' / WEIGHTS)
    after = load_file(work / '2-conditional' / WEIGHTS)
    assert all(torch.equal(t, after[f'backbone.{k}']) for k, t in before.items())
    assert any(t.any() for k, t in after.items() if 'adaptive' in k)


def test_the_same_call_again_trains_nothing(trained, micro, examples):
    work, facts = trained
    started = time.monotonic()
    assert train(micro, examples[:4], examples[4:], work, machine=MACHINE) == facts
    assert time.monotonic() - started < facts['1a-psr']['seconds'] + 5


def test_another_run_in_the_same_folder_is_refused(trained, micro, examples):
    work, _ = trained
    with pytest.raises(TrainingError, match='another preset, other scans or another seed'):
        train(micro, examples[:3], examples[4:], work, machine=MACHINE)


def test_a_participant_on_both_sides_is_refused(tmp_path, micro, examples):
    with pytest.raises(TrainingError, match='sub-3 would be both trained and validated on'):
        train(micro, examples[:4], examples[3:], tmp_path, machine=MACHINE)


@pytest.mark.parametrize('stage', ['1a-psr', '2-conditional'])
def test_killed_and_resumed_ends_in_the_same_bits(tmp_path, trained, micro, examples, stage):
    undisturbed, _ = trained
    work = tmp_path / 'work'
    process = run_script(tmp_path, micro, examples, work)
    checkpoint = work / stage / 'last.ckpt'
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (work / stage / WEIGHTS).exists()
    assert run_script(tmp_path, micro, examples, work).wait() == 0
    ours, theirs = weights(work), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_two_processes_train_together(tmp_path, micro, examples):
    assert run_script(tmp_path, micro, examples, tmp_path / 'work', devices=2).wait() == 0
    facts = json.loads((tmp_path / 'work' / '2-conditional' / 'facts.json').read_text())
    assert facts['device'] == 'CPU, 2 x 1 thread(s)'


def test_a_pretrained_backbone_replaces_stage_1c(tmp_path, micro, examples):
    from demist_app.model.backbone_bundle import write_backbone
    from demist_app.model.demist import Demist

    torch.manual_seed(7)
    pretrained = Demist(micro)
    backbone = pretrained.denoiser.backbone.state_dict()
    folder = tmp_path / 'backbone'
    write_backbone(folder, backbone, pretrained.psr.state_dict(), micro)
    work = tmp_path / 'work'
    facts = train(micro, examples[:4], examples[4:], work, backbone=folder, machine=MACHINE)
    assert '1c-backbone' not in facts
    after = load_file(work / '2-conditional' / WEIGHTS)
    assert all(torch.equal(t, after[f'backbone.{k}']) for k, t in backbone.items())
    # a few updates away from what it started from, not a new start
    started = pretrained.psr.state_dict()['encoder.blocks.0.conv.weight']
    assert torch.allclose(
        load_file(work / '1a-psr' / WEIGHTS)['encoder.blocks.0.conv.weight'], started, atol=0.01
    )


def test_running_out_of_memory_names_the_knob(tmp_path, micro, examples, monkeypatch):
    from demist_app.training.stages import AutoencoderStage

    def exhausted(self, batch, batch_idx):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr(AutoencoderStage, 'training_step', exhausted)
    with pytest.raises(TrainingError, match=r'lower "patch" \(now 32\) or "batch"'):
        train(micro, examples[:4], examples[4:], tmp_path, machine=MACHINE)


def test_a_loss_that_explodes_says_so(tmp_path, micro, examples):
    budget = replace(micro.training.psr_autoencoder, learning_rate=1e30)
    mad = replace(micro, training=replace(micro.training, psr_autoencoder=budget))
    with pytest.raises(TrainingError, match='lower its "learning_rate"'):
        train(mad, examples[:4], examples[4:], tmp_path, machine=MACHINE)


def test_an_ablation_shares_the_stages_before(trained, micro, examples):
    work, facts = trained
    semantic = replace(micro, streams=replace(micro.streams, active=('semantic',)))
    ablated = train(semantic, examples[:4], examples[4:], work, machine=MACHINE)
    assert set(ablated['2-conditional']['parameters_per_stream']) == {'semantic'}
    assert all(ablated[stage] == facts[stage] for stage in STAGES[:-1])
    assert (work / '2-semantic' / WEIGHTS).exists()
    assert train(micro, examples[:4], examples[4:], work, machine=MACHINE) == facts
    assert assemble(semantic, work).denoiser.spatial is None
