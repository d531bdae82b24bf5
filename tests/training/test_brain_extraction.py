import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demist_app.imaging.brain_extraction import MULTIPLE, BrainNet, load_network
from demist_app.model.bundle import load_bundle
from demist_app.phantom.labels import Label
from demist_app.training import brain_extraction as training
from demist_app.training import random_heads
from demist_app.training.random_heads import FAR, LabelledHead, labelled_head, random_sample

SHELLS = [
    (90, Label.SKIN),
    (86, Label.FAT),
    (80, Label.SKULL_TABLE),
    (74, Label.CSF_SUBARACHNOID),
    (70, Label.CORTICAL_GM),
    (60, Label.WM),
    (15, Label.CSF_VENTRICLE),
]


def onion(spacing: float = 3.0) -> LabelledHead:
    """A head of concentric balls; the brain has a radius of 70 mm."""
    axis = spacing * (np.arange(64) - 31.5)
    radius = np.linalg.norm(np.meshgrid(axis, axis, axis, indexing='ij'), axis=0)
    labels = np.zeros(radius.shape, np.uint8)
    for limit, label in SHELLS:
        labels[radius < limit] = label
    return labelled_head(labels, spacing)


@pytest.fixture(scope='module')
def head_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp('heads') / 'onion.npz'
    head = onion(training.HEAD_SPACING * 2)
    np.savez(path, labels=head.labels.numpy(), distance=head.distance.numpy())
    return [path]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, 'FEATURES', (4, 4, 4, 4, 4, 4))
    monkeypatch.setattr(training, 'CHECKPOINT_EVERY', 2)
    monkeypatch.setattr(random_heads, 'SIZES', ((4,), (4,), (4,)))
    monkeypatch.setattr(training, 'HELD_OUT', 1)
    monkeypatch.setattr(training, 'IMAGES_PER_HELD_OUT', 1)


def test_distance_is_that_to_the_brains_surface():
    head = onion()
    radius = 3.0 * np.linalg.norm(np.indices(head.labels.shape) - 31.5, axis=0)
    expected = (radius - 70).clip(-FAR, FAR)
    assert np.abs(head.distance.numpy() - expected).max() < 3.0


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_samples_are_sane(seed):
    sample = random_sample(onion(), seed)
    assert all(n % MULTIPLE == 0 for n in sample.image.shape[1:])
    assert sample.image.shape == sample.distance.shape == sample.seen.shape
    assert all(torch.isfinite(values).all() for values in vars(sample).values())
    assert sample.image.min() >= 0
    assert sample.image.max() == 1
    assert not (sample.image * (1 - sample.seen)).any()
    assert ((sample.distance < 0) & (sample.seen > 0)).any()


def test_sample_depends_on_the_seed_alone():
    first, again, other = (random_sample(onion(), seed).image for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_distance_stays_a_distance_after_deformation():
    distance = random_sample(onion(), 5).distance[0]
    steepness = torch.stack(torch.gradient(distance, spacing=2.0)).norm(dim=0)
    assert steepness[distance.abs() < 10].median() == pytest.approx(1, abs=0.15)


def test_loss_is_small_for_the_truth_and_blind_outside_the_field_of_view():
    distance = random_sample(onion(), 5).distance[None]
    seen = torch.zeros_like(distance)
    seen[..., :40] = 1
    truth = distance / 5
    spoilt = truth * seen - 3 * (1 - seen)
    loss = training.surface_loss(truth.clamp(-2, 2), distance, seen)
    assert loss < 0.05
    assert training.surface_loss(spoilt.clamp(-2, 2), distance, seen) == pytest.approx(float(loss))
    assert training.surface_loss(-truth, distance, seen) > 1


def test_resumed_training_equals_uninterrupted(head_files, tiny, tmp_path, monkeypatch):
    whole = training.train(head_files, 5, 1, tmp_path / 'whole.pt').state_dict()
    loss, calls = training.surface_loss, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(training, 'surface_loss', interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(head_files, 5, 1, tmp_path / 'parts.pt')
    monkeypatch.setattr(training, 'surface_loss', loss)
    parts = training.train(head_files, 5, 1, tmp_path / 'parts.pt').state_dict()
    assert len(calls) == 4
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_published_network_can_be_loaded(tiny, tmp_path):
    torch.manual_seed(0)
    network = BrainNet(training.FEATURES)
    facts = {'heads': 1, 'steps': 2, 'seed': 3, 'cpu_seconds': 60, 'command': 'python -m training'}
    training.publish(network, tmp_path / 'brainmask', facts, {'onions': [0.5, 1.0]})
    bundle = load_bundle(tmp_path / 'brainmask')
    assert bundle.metadata['dice']['onions'] == {'n': 2, 'mean': 0.75, 'min': 0.5}
    assert '| onions | 2 | 0.750 | 0.500 |' in (bundle.path / 'docs' / 'README.md').read_text()
    loaded = load_network(bundle.path).state_dict()
    for key, values in network.state_dict().items():
        torch.testing.assert_close(loaded[key], values.half().float(), rtol=0, atol=0)


@pytest.mark.slow
def test_command(tiny, tmp_path, capsys):
    training.main([str(tmp_path / 'out'), str(tmp_path / 'work'), '--heads', '1', '--steps', '2'])
    metadata = json.loads((tmp_path / 'out' / 'configs' / 'metadata.json').read_text())
    assert metadata['training']['steps'] == 2
    assert metadata['dice']['phantom heads']['n'] == 1
    assert 'phantom heads: Dice' in capsys.readouterr().out
    assert len(list((tmp_path / 'work' / 'heads').iterdir())) == 2


def test_shipped_bundle_is_whole():
    from demist_app import data

    bundle = load_bundle(Path(data.__path__[0]) / 'brainmask')
    assert tuple(bundle.metadata['features']) == training.FEATURES
