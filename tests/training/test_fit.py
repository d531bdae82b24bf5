"""One stage through Lightning: what is kept of it, and what is told."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils.data import Dataset

from demist_app.training.fit import Machine, TrainingError, fit
from demist_app.training.stage import Automatic

MACHINE = Machine(accelerator='cpu')


class Told(Automatic):
    """A stage whose validation loss is given, interval by interval."""

    losses: tuple[float, ...] = ()

    def __init__(self, preset, budget):
        super().__init__(preset, budget, seed=0)
        self.weight = torch.nn.Parameter(torch.zeros(4))
        self.updates_done = 0

    def terms(self, batch, generator):
        if not self.training:
            return {'loss': torch.tensor(self.losses[self.current_epoch])}
        self.updates_done += 1
        return {'loss': (self.weight - 1 - batch['image'].mean()).square().sum()}

    def weights(self, state):
        return {'weight': state['weight']}


class Nothing(Dataset):
    """Without an end."""

    def __getitem__(self, index):
        return {'image': torch.zeros(1)}


def told(micro, losses, updates, every, **changes):
    budget = replace(micro.training.alignment, updates=updates)
    training = replace(micro.training, alignment=budget, validate_every=every, **changes)
    stage = Told(replace(micro, training=training), budget)
    stage.losses = losses
    return stage


def test_what_comes_after_the_best_validation_is_told_too(tmp_path, micro):
    stage = told(micro, (3.0, 2.0, 1.0, 1.5, 1.6), updates=10, every=2)
    kept, facts = fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    assert [past['val/loss'] for past in facts['history']] == pytest.approx([3, 2, 1, 1.5, 1.6])
    assert (facts['updates'], facts['best_update'], stage.updates_done) == (10, 6, 10)
    last = torch.load(tmp_path / 'told' / 'last.ckpt', weights_only=True)['state_dict']
    assert not torch.equal(kept['weight'], last['weight'])


def test_a_stage_that_ends_early_says_when(tmp_path, micro):
    stage = told(micro, (1.0, 2.0, 3.0, 4.0, 5.0), updates=10, every=2, patience=2)
    _, facts = fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    assert (facts['updates'], facts['best_update'], stage.updates_done) == (6, 2, 6)


def test_a_stage_that_is_killed_goes_on_after_its_best(tmp_path, micro):
    stage = told(micro, (1.0, 2.0, 3.0), updates=6, every=2)
    stage.on_validation_epoch_start = lambda: stage.current_epoch < 2 or 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    again = told(micro, (1.0, 2.0, 3.0), updates=6, every=2)
    _, facts = fit(again, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    assert again.updates_done == 2
    assert (facts['updates'], facts['best_update']) == (6, 2)


@pytest.mark.parametrize(
    ('losses', 'error'),
    [((1.0, 2.0, 3.0, 0.5, 0.4), None), ((1.0, 2.0, float('nan'), 0.5, 0.4), TrainingError)],
)
def test_a_stage_that_ended_early_is_not_trained_on(tmp_path, micro, losses, error):
    """It may be killed between its end and the file that says so."""
    folder = tmp_path / 'told'
    stage = told(micro, losses, updates=10, every=2, patience=2)
    stage.on_train_end = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(stage, Nothing(), Nothing(), folder, MACHINE)
    again = told(micro, losses, updates=10, every=2, patience=2)
    with pytest.raises(error) if error else nullcontext():
        _, facts = fit(again, Nothing(), Nothing(), folder, MACHINE)
        assert (facts['updates'], facts['best_update']) == (6, 2)
    assert again.updates_done == 0


def test_a_torn_checkpoint_is_passed_over(tmp_path, micro):
    stage = told(micro, (3.0, 1.0, 2.0), updates=6, every=2)
    stage.on_validation_epoch_start = lambda: stage.current_epoch < 2 or 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    last = tmp_path / 'told' / 'last.ckpt'
    last.write_bytes(last.read_bytes()[:1000])
    again = told(micro, (3.0, 1.0, 2.0), updates=6, every=2)
    _, facts = fit(again, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    assert (again.updates_done, facts['updates'], facts['best_update']) == (2, 6, 4)


def test_a_loss_that_explodes_after_the_best_says_so(tmp_path, micro):
    stage = told(micro, (1.0, 2.0, float('nan')), updates=6, every=2)
    with pytest.raises(TrainingError, match='lower its "learning_rate"'):
        fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)


@pytest.mark.parametrize(('updates', 'done'), [(3, [3]), (7, [4, 8]), (12, [4, 8, 12])])
def test_updates_are_those_that_were_made(tmp_path, micro, updates, done):
    stage = told(micro, (1.0, 2.0, 3.0), updates=updates, every=5)
    _, facts = fit(stage, Nothing(), Nothing(), tmp_path / 'told', MACHINE)
    assert [past['updates'] for past in facts['history']] == done
    assert stage.updates_done == done[-1] == facts['updates']
