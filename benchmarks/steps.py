"""What one update costs, beside the plain loop of a tutorial: ``make steps``.

Both arms train the same networks with the same losses on the same patches. The plain loop is what
MONAI's tutorials of latent diffusion do: single precision; stage 2 encodes both images at every
step and, for the edge term, decodes the patch of every sample. Ours: bfloat16 where the processor
has it, channels last, small convolutions by oneDNN, latents from the cache, the edge term of crops
of samples with little noise.
Each arm runs in a process of its own, in turn with the other. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from stock import stock
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from demist_app.memory import largest_resident
from demist_app.model.autoencoder import Autoencoder
from demist_app.model.demist import Demist, bfloat16_pays
from demist_app.model.diffusion import add_noise, convert, scaled_linear, target
from demist_app.model.losses import autoencoder_loss, edge_loss
from demist_app.model.presets import Preset, load_preset
from demist_app.training.examples import read_examples
from demist_app.training.patches import Patches
from demist_app.training.stage import CLIP
from demist_app.training.stages import AutoencoderStage, ConditionalStage

ARMS = ('loop', 'ours')
STAGES = {'1a': 'autoencoder of PSR', '2': 'conditioning streams'}
WARM_UP, STEPS, TURNS = 2, 8, 2
Batch = dict[str, Tensor]


def batch_of(preset: Preset, store: Path, patch: int, size: int) -> Batch:
    """Return the first patches of a store."""
    budget = replace(preset.training.psr_autoencoder, batch=size, patch=patch)
    patches = Patches(read_examples(store)[:2], budget, preset.psr_scale, 0)
    items = [patches[index] for index in range(size)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def plain_autoencoder(model: Demist, batch: Batch) -> Callable[[], Tensor]:
    """Return the loss of stage 1a as a tutorial takes it."""
    network: Autoencoder = model.psr

    def loss() -> Tensor:
        mu, sigma = network.encode(batch['psr'])
        made = network.decode(mu + sigma * torch.randn_like(mu))
        return autoencoder_loss(batch['psr'], made, mu, sigma, model.preset.losses)['loss']

    return loss


def plain_diffusion(model: Demist, batch: Batch) -> Callable[[], Tensor]:
    """Return the loss of stage 2 as a tutorial takes it."""
    diffusion, weights = model.preset.diffusion, model.preset.losses
    schedule = scaled_linear(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
    origin = torch.zeros(len(batch['psr']), 3)

    def loss() -> Tensor:
        with torch.no_grad():
            clean, z_c = model.encode_psr(batch['psr']), model.encode_cond(batch['images'])
        t = torch.randint(diffusion.steps, (len(clean),))
        noise, alpha_bar = torch.randn_like(clean), schedule.per_sample(t, clean)
        noisy = add_noise(schedule, clean, noise, t)
        made = model.denoiser(noisy, t, model.denoiser.condition(z_c, origin))
        wanted = target(clean, noise, alpha_bar, diffusion.prediction)
        estimate = convert(made, noisy, alpha_bar, diffusion.prediction).clean
        edges = edge_loss(model.decode(estimate), batch['psr']).mean()
        return torch.nn.functional.mse_loss(made, wanted) + weights.diffusion_edge * edges

    return loss


def our_loss(stage: str, model: Demist, batch: Batch) -> Callable[[], Tensor]:
    """Return the loss of a stage as demist takes it."""
    preset, generator = model.preset, torch.Generator().manual_seed(0)
    module: AutoencoderStage | ConditionalStage
    if stage == '1a':
        module = AutoencoderStage(preset, preset.training.psr_autoencoder, 0, model.psr, 'psr')
        ready = batch
    else:
        module = ConditionalStage(preset, preset.training.conditional, 0, model)
        with torch.no_grad():  # what the cache holds
            ready = {
                'z_y': model.encode_psr(batch['psr']),
                'z_c': model.encode_cond(batch['images']),
                'origin': torch.zeros(len(batch['psr']), 3),
                'psr': batch['psr'],
            }

    def loss() -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=bfloat16_pays(torch.device('cpu'))):
            return module.terms(ready, generator)['loss']

    return loss


def measure(stage: str, arm: str, store: Path, threads: int) -> dict[str, float]:
    """Return seconds per update and the largest resident set, GB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    preset = load_preset('small')
    training = preset.training
    budget = training.psr_autoencoder if stage == '1a' else training.conditional
    batch = batch_of(preset, store, budget.patch, budget.batch)
    model = Demist(preset)
    if stage == '2':
        model.requires_grad_(False)
        for _, parameter in model.denoiser.trainable():
            parameter.requires_grad_(True)
    if arm == 'ours':
        model = model.to(memory_format=torch.channels_last_3d)
        loss = our_loss(stage, model, batch)
    else:
        stock(model)
        loss = (plain_autoencoder if stage == '1a' else plain_diffusion)(model, batch)
    trained = [p for p in (model.psr if stage == '1a' else model).parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()
        clip_grad_norm_(trained, CLIP)
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    return {'seconds': statistics.mean(seconds[WARM_UP:]), 'peak_gb': largest_resident()}


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('store', type=Path, help='training examples, as of make small')
    parser.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--one', nargs=2, help='measure one arm here')
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.store, options.threads)))
        return
    print('| stage | plain loop (s) | ours (s) | times faster | plain loop (GB) | ours (GB) |')
    print('|---|---|---|---|---|---|')
    for stage, title in STAGES.items():
        found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for arm in ARMS * TURNS:
            command = [sys.executable, __file__, str(options.store), '--one', stage, arm]
            command += ['--threads', str(options.threads)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found[arm].append(json.loads(run.stdout.splitlines()[-1]))
        loop, ours = (statistics.median(one['seconds'] for one in found[arm]) for arm in ARMS)
        peaks = [max(one['peak_gb'] for one in found[arm]) for arm in ARMS]
        print(
            f'| {stage}, {title} | {loop:.2f} | {ours:.2f} | {loop / ours:.1f} '
            f'| {peaks[0]:.2f} | {peaks[1]:.2f} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
