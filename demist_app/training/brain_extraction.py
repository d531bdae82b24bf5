"""Train the brain extraction network: ``python -m demist_app.training.brain_extraction``.

Heads of the phantom are labelled once into a working folder; every training step paints one of
them anew (`demist_app.training.random_heads`). No scan of a person is used. A run that was stopped
goes on from its last checkpoint; head, image and order depend on the seed alone.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from nibabel.nifti1 import Nifti1Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from demist_app import __version__
from demist_app.evaluation.metrics import dice
from demist_app.imaging.brain_extraction import (
    DISTANCE_SCALE,
    SPACING,
    BrainNet,
    brain_distance,
    extract_brain,
)
from demist_app.model.bundle import write_bundle
from demist_app.phantom.anatomy import pose, sample_anatomy
from demist_app.phantom.head import default_shape, grid_affine, render_head, sample_soft
from demist_app.training.random_heads import LabelledHead, labelled_head, random_sample

FEATURES = (16, 32, 48, 64, 96, 16)
HEAD_SPACING = 1.5
HELD_OUT = 8
IMAGES_PER_HELD_OUT = 3
LEARNING_RATE = 1.5e-3
WARM_UP = 100
DECAY_FROM = 0.7
AVERAGING = 0.998
CHECKPOINT_EVERY = 200


def make_heads(folder: Path, count: int, seed: int) -> list[Path]:
    """Sample and label `count` heads into `folder`; those that are there already are kept.

    Every other head is a patient's; half have up to 6 mm more fluid between brain and skull, as
    shrunken brains do. Head k depends on the seed and k alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = default_shape(HEAD_SPACING)
    affine = grid_affine(shape, HEAD_SPACING)
    paths = [folder / f'seed-{seed}_head-{k:03d}.npz' for k in range(count)]
    for k, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng([seed, k])
        anatomy, soft = sample_anatomy(rng, patient=bool(k % 2)), sample_soft(rng)
        soft = replace(soft, csf=soft.csf + rng.integers(2) * rng.uniform(0, 6))
        head = render_head(anatomy, soft, shape, affine, pose(rng, 4.0, 4.0))
        labelled = labelled_head(head.labels, HEAD_SPACING)
        aside = path.with_suffix('.part')
        with aside.open('wb') as file:
            np.savez(file, labels=labelled.labels.numpy(), distance=labelled.distance.numpy())
        aside.replace(path)
    return paths


def load_head(path: Path) -> LabelledHead:
    """Read a head that `make_heads` wrote."""
    with np.load(path) as arrays:
        labels, distance = torch.from_numpy(arrays['labels']), torch.from_numpy(arrays['distance'])
    return LabelledHead(labels, distance, HEAD_SPACING)


class RandomHeads(Dataset[dict[str, Tensor]]):
    """Item k is the image of training step k."""

    def __init__(self, heads: list[Path], steps: range, seed: int) -> None:
        self.heads, self.steps, self.seed = heads, steps, seed

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Paint the image of one step."""
        which, seed = np.random.SeedSequence([self.seed, self.steps[index]]).generate_state(2)
        return vars(random_sample(load_head(self.heads[which % len(self.heads)]), int(seed)))


def surface_loss(predicted: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
    """L1 of the distance clipped at 10 mm, voxels within 6 mm five times, plus a soft Dice loss.

    Parameters
    ----------
    predicted : Tensor
        Network output, in units of 5 mm.
    distance : Tensor
        True signed distance, mm.
    seen : Tensor
        1 inside the field of view.
    """
    target = (distance / DISTANCE_SCALE).clamp(-2, 2)
    weight = seen * (1 + 4 * (distance.abs() < 6))
    error = (weight * (predicted - target).abs()).sum() / weight.sum()
    inside = torch.sigmoid(-DISTANCE_SCALE * predicted) * seen
    brain = (distance < 0) * seen
    overlap = 2 * (inside * brain).sum() / (inside.sum() + brain.sum())
    return error + 1 - overlap


def train(heads: list[Path], steps: int, seed: int, checkpoint: Path) -> BrainNet:
    """Train, or go on training, and return the network with averaged weights.

    One image a step; AdamW with warm-up, a constant rate, and a linear decay to zero over the last
    30 % of `steps`; bfloat16 convolutions.

    Parameters
    ----------
    heads : list of Path
        From `make_heads`.
    steps : int
        Length of the whole training.
    seed : int
    checkpoint : Path
        Written every 200 steps and at the end; read when it exists.
    """
    torch.manual_seed(seed)
    network, average = BrainNet(FEATURES), BrainNet(FEATURES)
    _in_float32(network.unet.down_4)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    start, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state['network'])
        average.load_state_dict(state['average'])
        optimiser.load_state_dict(state['optimiser'])
        start, seconds = state['step'], state['cpu_seconds']
    images = DataLoader(
        RandomHeads(heads, range(start, steps), seed), num_workers=1, prefetch_factor=4
    )
    began, losses = time.process_time() - seconds, []
    for step, batch in enumerate(images, start + 1):
        rate = min(1, step / WARM_UP, (1 - step / steps) / (1 - DECAY_FROM))
        for group in optimiser.param_groups:
            group['lr'] = LEARNING_RATE * rate
        with torch.autocast('cpu', dtype=torch.bfloat16):
            predicted = network(batch['image'])
        loss = surface_loss(predicted.float(), batch['distance'], batch['seen'])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(AVERAGING, step / (step + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        losses.append(loss.item())
        if step % CHECKPOINT_EVERY == 0 or step == steps:
            seconds = time.process_time() - began
            state = {
                'network': network.state_dict(),
                'average': average.state_dict(),
                'optimiser': optimiser.state_dict(),
                'step': step,
                'cpu_seconds': seconds,
            }
            aside = checkpoint.with_suffix('.part')
            torch.save(state, aside)
            aside.replace(checkpoint)
            print(f'step {step}: loss {np.mean(losses):.3f}, {seconds:.0f} CPU-s', flush=True)
            losses = []
    return average.eval()


def _in_float32(block: nn.Module) -> None:
    """Exempt a block from autocast.

    The bfloat16 weight gradient of torch 2.13's CPU convolutions differs from call to call, NaN
    included, where a volume is only a few voxels wide, as it is at the bottom of the network.
    """
    forward = block.forward

    def exact(values: Tensor) -> Tensor:
        with torch.autocast('cpu', enabled=False):
            return cast(Tensor, forward(values.float()))

    block.forward = exact


@torch.inference_mode()
def judge_heads(network: nn.Module, heads: list[Path]) -> list[float]:
    """Dice on random images of heads, inside their fields of view."""
    scores = []
    for number, path in enumerate(heads):
        head = load_head(path)
        for image in range(IMAGES_PER_HELD_OUT):
            sample = random_sample(head, seed=IMAGES_PER_HELD_OUT * number + image)
            found = (brain_distance(network, sample.image[None])[0] < 0) & (sample.seen > 0)
            truth = (sample.distance < 0) & (sample.seen > 0)
            scores.append(dice(found.numpy(), truth.numpy()))
    return scores


def judge_scans(network: nn.Module, bids: Path, masks: Path) -> dict[str, float]:
    """Dice of every T1w of a BIDS folder that has a ``desc-brain_mask`` under `masks`."""
    scores = {}
    for mask in sorted(masks.glob('sub-*/**/*_desc-brain_mask.nii.gz')):
        name = mask.name.removesuffix('_desc-brain_mask.nii.gz').removesuffix('_space-T1w')
        scan = bids / mask.relative_to(masks).parent / f'{name}_T1w.nii.gz'
        found = extract_brain(cast(Nifti1Image, nib.load(scan)), threads=1, network=network)
        truth = cast(Nifti1Image, nib.load(mask))
        scores[name] = dice(np.asarray(found.dataobj) > 0, np.asarray(truth.dataobj) > 0)
    return scores


_CARD = """\
# Brain extraction network of demist

A 3D UNet ({parameters:,} parameters) that predicts the signed distance to the brain's surface on a
{spacing:g} mm grid, for head scans of any contrast. Brain means parenchyma, ventricles and the
cerebrospinal fluid inside the hull of the sulci.

## Training
{steps:,} images, each painted anew from one of {heads} synthetic heads of `demist_app.phantom`
(two in five with random grey values, the others roughly T1w, FLAIR or T2w), with random pose,
deformation, slices of 1 to 5 mm, receive field, noise and field of view. No scan of a person was
used. It took {minutes:.0f} CPU-minutes and those of a second process that paints. The command:

    {command}

## Measured
| scans | n | Dice, mean | lowest |
|---|---|---|---|
{rows}

Phantom heads: {held_out} heads that were not trained on, {images} random images each. Scans were
segmented by the whole path (`demist_app.imaging.brain_extraction.extract_brain`).

## Limits
Trained on synthetic anatomy of adults: children, large tumours, surgical cavities and animals were
never seen. A mask outside 900 to 1,900 ml, or one that reaches the edge of the scan, is reported.
A given brain mask is always preferred to this network's.
"""


def publish(
    network: BrainNet,
    folder: Path,
    facts: dict[str, Any],
    scores: dict[str, list[float]],
) -> None:
    """Write the network, half precision, with its facts and model card as a bundle.

    Parameters
    ----------
    network : BrainNet
    folder : Path
    facts : dict
        ``heads``, ``steps``, ``seed``, ``cpu_seconds``, ``command``.
    scores : dict
        Dice values by the name of what was segmented.
    """
    summary = {
        name: {'n': len(values), 'mean': round(float(np.mean(values)), 4), 'min': min(values)}
        for name, values in scores.items()
    }
    parameters = sum(values.numel() for values in network.parameters())
    metadata = {
        'name': 'brainmask',
        'network': 'brainmask',
        'version': __version__,
        'features': FEATURES,
        'spacing_mm': SPACING,
        'parameters': parameters,
        'output': 'signed distance to the surface of the brain, negative inside, units of 5 mm',
        'training': facts | {'held_out_heads': HELD_OUT, 'torch': torch.__version__},
        'dice': summary,
    }
    card = _CARD.format(
        parameters=parameters,
        spacing=SPACING,
        held_out=HELD_OUT,
        images=IMAGES_PER_HELD_OUT,
        minutes=facts['cpu_seconds'] / 60,
        rows='\n'.join(
            f'| {name} | {row["n"]} | {row["mean"]:.3f} | {row["min"]:.3f} |'
            for name, row in summary.items()
        ),
        **{key: facts[key] for key in ('heads', 'steps', 'command')},
    )
    tensors = {key: value.half().numpy() for key, value in network.state_dict().items()}
    write_bundle(folder, metadata, tensors, card)


def main(arguments: list[str] | None = None) -> None:
    """Train, judge and publish."""
    parser = argparse.ArgumentParser(
        prog='python -m demist_app.training.brain_extraction', description=__doc__
    )
    parser.add_argument('out', type=Path, help='folder of the bundle to write')
    parser.add_argument('work', type=Path, help='folder for heads and checkpoint')
    parser.add_argument('--heads', type=int, default=96, help='heads to train on (%(default)s)')
    parser.add_argument('--steps', type=int, default=3000, help='training steps (%(default)s)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--judge',
        nargs=3,
        action='append',
        default=[],
        metavar=('NAME', 'BIDS', 'MASKS'),
        help='segment the T1w scans of a BIDS folder and compare with the brain masks of another',
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    heads = make_heads(options.work / 'heads', options.heads + HELD_OUT, options.seed)
    checkpoint = options.work / 'checkpoint.pt'
    network = train(heads[: options.heads], options.steps, options.seed, checkpoint)
    scores = {'phantom heads': judge_heads(network, heads[options.heads :])}
    for name, bids, masks in options.judge:
        scores[name] = list(judge_scans(network, Path(bids), Path(masks)).values())
    facts = {
        'heads': options.heads,
        'steps': options.steps,
        'seed': options.seed,
        'cpu_seconds': round(torch.load(checkpoint, weights_only=True)['cpu_seconds']),
        'command': f'{parser.prog} OUT WORK --heads {options.heads} --steps {options.steps} '
        f'--seed {options.seed}',
    }
    publish(network, options.out, facts, scores)
    for name, values in scores.items():
        print(f'{name}: Dice {np.mean(values):.4f} (lowest {min(values):.4f}, n = {len(values)})')


if __name__ == '__main__':
    main()
