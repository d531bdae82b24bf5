"""What each stage trains, and what it leaves alone."""

import pytest
import torch

from demist_app.model.demist import Demist
from demist_app.training.stages import (
    AlignmentStage,
    AutoencoderStage,
    BackboneStage,
    ConditionalStage,
)

GENERATOR = torch.Generator()


@pytest.fixture
def model(micro):
    torch.manual_seed(0)
    return Demist(micro)


@pytest.fixture
def batch():
    images = torch.rand(1, 2, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    latent = torch.randn(1, 8, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    return {
        'images': images,
        'psr': images[:, :1],
        'z_c': latent,
        'z_y': 0.5 * latent,
        'origin': torch.zeros(1, 3),
    }


def moved(stage, batch):
    """Names of the parameters that get a gradient which is not zero."""
    stage.terms(batch, GENERATOR.manual_seed(0))['loss'].backward()
    return {k for k, p in stage.named_parameters() if p.grad is not None and p.grad.any()}


def test_alignment_trains_the_conditional_autoencoder_alone(micro, model, batch):
    names = moved(AlignmentStage(micro, micro.training.alignment, 0, model), batch)
    assert any(k.startswith('cond.encoder') for k in names)
    assert any(k.startswith('cond.decoder') for k in names)
    assert not any(k.startswith('psr.') for k in names)


def test_alignment_of_equal_encoders_on_equal_images_is_zero(micro, model, batch):
    from demist_app.model.autoencoder import inherit

    inherit(model.cond, model.psr.state_dict())
    stage = AlignmentStage(micro, micro.training.alignment, 0, model)
    both = batch | {'images': batch['psr'].repeat(1, 2, 1, 1, 1)}
    assert stage.terms(both, GENERATOR)['align'].item() == pytest.approx(0, abs=1e-10)


def test_the_decoded_term_is_there_if_it_has_a_weight(micro, model, batch):
    from dataclasses import replace

    weighted = replace(micro, losses=replace(micro.losses, align_decoded=3.0))
    stages = [AlignmentStage(p, p.training.alignment, 0, model) for p in (micro, weighted)]
    without, terms = (s.terms(batch, GENERATOR.manual_seed(0)) for s in stages)
    assert 'decoded' not in without
    assert terms['decoded'] > 0
    assert terms['loss'].item() == pytest.approx(
        (without['loss'] + 3 * terms['decoded']).item(), rel=1e-5
    )


def test_stage_2_trains_the_streams_alone(micro, model, batch):
    for parameter in model.denoiser.backbone.parameters():  # an untrained one ends in zeros
        torch.nn.init.normal_(parameter, std=0.1)
    stage = ConditionalStage(micro, micro.training.conditional, 0, model)
    names = moved(stage, batch)
    trainable = {k for k, p in stage.named_parameters() if p.requires_grad}
    assert names
    assert names <= trainable
    assert not any(k.startswith('denoiser.backbone') for k in trainable)
    assert {k.split('.')[1] for k in trainable} == {'semantic', 'spatial', 'adaptive'}


def test_the_adaptive_stream_has_its_own_learning_rate(micro, model):
    groups = ConditionalStage(micro, micro.training.conditional, 0, model).groups()
    assert [g['lr'] for g in groups] == [
        micro.training.conditional.learning_rate,
        micro.training.lora_learning_rate,
    ]


def test_the_backbone_trains_without_conditions(micro, model, batch):
    stage = BackboneStage(
        micro, micro.training.backbone, 0, model.denoiser.backbone.requires_grad_(True)
    )
    assert moved(stage, {'z_y': batch['z_y']})


def test_learning_rates_rise_and_fall(micro, model):
    stage = AutoencoderStage(micro, micro.training.psr_autoencoder, 0, model.psr, 'psr')
    stage.budget = stage.budget.__class__(updates=1000, learning_rate=1.0, batch=1, patch=32)
    (optimizer, *_), (schedule, *_) = stage.configure_optimizers()
    rates = []
    for _ in range(1000):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates.index(max(rates)) < 60
    assert rates[-1] < 1e-3


def test_noise_is_a_function_of_the_update(micro, model):
    stage = BackboneStage(micro, micro.training.backbone, 0, model.denoiser.backbone)
    stage.train()
    first, again, other = (torch.randn(4, generator=stage.noise(k)) for k in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_narrow_feature_maps_are_trained_in_single_precision(micro, model):
    """Torch 2.13 on processors: gradients of bfloat16 convolutions over 2 voxels are random."""
    from dataclasses import replace

    from demist_app.model.demist import bfloat16_pays
    from demist_app.training.fit import Machine, precision

    machine = Machine(accelerator='cpu')
    stage = BackboneStage(micro, micro.training.backbone, 0, model.denoiser.backbone)
    assert stage.narrowest == 2  # 32 mm, 8 latent voxels, two levels below
    assert precision(stage, machine) == '32-true'
    wide = replace(micro.training.backbone, patch=64)
    stage = BackboneStage(micro, wide, 0, model.denoiser.backbone)
    expected = 'bf16-mixed' if bfloat16_pays(machine.device) else '32-true'
    assert precision(stage, machine) == expected
