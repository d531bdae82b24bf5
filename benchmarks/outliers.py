"""Which scans raise an alarm: held-out phantoms, real scans, and scans spoilt on purpose.

The threshold comes from the training scans of a diffusion model, as its latents were cached during
training (after augmentation), each judged without those of its participant. Prints Markdown.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import Map, Mask, load
from numpy.typing import NDArray
from scipy import ndimage

from demist_app.imaging.normalise import normalise
from demist_app.model.bundle import load_bundle
from demist_app.model.demist import Demist
from demist_app.model.intensities import CHANNELS, deviation, profile
from demist_app.model.outliers import (
    LATENT,
    alarm,
    distances,
    latent_profile,
    left_out,
    outlyingness,
)
from demist_app.model.presets import Preset
from demist_app.training.examples import MULTIPLE, Example, read_examples
from demist_app.training.latents import LatentCache, whole
from demist_app.training.run import assemble

VERSION = 0
NOISE = 0.15  # of the brain's brightest
SLICE = 8  # mm

Profile = NDArray[np.float64]
Profiles = tuple[Profile, Profile]


def of_training(example: Example, cache: LatentCache, seed: int, factor: int) -> Profiles:
    """Return the profiles of a training scan: intensities, latent."""
    images, flips = whole(example, VERSION, seed)
    mask = np.flip(np.array(example.mask) > 0, flips)
    with np.load(cache.path(example, VERSION)) as stored:
        z_c = stored['z_c'].astype(np.float32)
    return profile(images.numpy(), mask), latent_profile(z_c, mask, factor)


@torch.inference_mode()
def of_scan(images: Map, mask: Mask, model: Demist, factor: int) -> Profiles:
    """Return the profiles of a scan: intensities, latent."""
    pads = [((-n % MULTIPLE) // 2, (-n % MULTIPLE + 1) // 2) for n in mask.shape]
    inside = np.pad(mask, pads)
    padded = torch.from_numpy(np.pad(images * mask, [(0, 0), *pads]))[None]
    z_c = model.encode_cond(padded.contiguous(memory_format=torch.channels_last_3d))[0].numpy()
    return profile(images, mask), latent_profile(z_c, inside, factor)


def spoilt(images: Map) -> Iterator[tuple[str, Map]]:
    """Yield a pair of scans, as it is and in ways that no training scan was."""
    yield 'as it is', images
    yield 'FLAIR and T1w exchanged', images[::-1].copy()
    yield 'FLAIR is a second T1w', images[[0, 0]]
    yield 'T1w inverted', np.stack([1 - images[0], images[1]])
    rng = np.random.default_rng(0)
    noise = NOISE * rng.standard_normal(images.shape).astype(np.float32)
    yield f'noise of {NOISE:.0%} of the brightest', np.clip(images + noise, 0, 1)
    slices = ndimage.uniform_filter1d(images, SLICE, axis=3)
    yield f'slices of {SLICE} mm', slices
    tilt = np.linspace(0.2, 1, images.shape[3], dtype=np.float32)
    yield 'coil without its upper half', images * tilt


def scans(folder: Path) -> Iterator[tuple[str, Map, Mask]]:
    """Yield the normalised scans that demist wrote, cut to the brain."""
    for path in sorted(folder.glob('sub-*/**/*_desc-brain_mask.nii.gz')):
        stem = str(path).removesuffix('_desc-brain_mask.nii.gz')
        mask = load(path) > 0
        files = (f'{stem}_desc-preproc_T1w.nii.gz', f'{stem}_space-T1w_desc-preproc_FLAIR.nii.gz')
        images = np.stack([normalise(load(Path(file)), mask)[0] for file in files])
        box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
        yield Path(stem).name, images[:, *box], mask[box]


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/outliers.py')
    parser.add_argument('store', type=Path, help='training examples')
    parser.add_argument('work', type=Path, help='of demist_app.training.shipped, with its latents')
    parser.add_argument('bundle', type=Path, help='the model trained there')
    parser.add_argument('outputs', nargs='+', type=Path, help='demist’s output folders')
    parser.add_argument('--rate', type=float, default=0.01, help='of false alarms')
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    preset, seed = Preset.from_dict(bundle.metadata['preset']), bundle.metadata['seed']
    factor = preset.autoencoder.factor
    model = assemble(preset, options.work).requires_grad_(False)
    versions = preset.training.latent_versions
    cache = LatentCache(options.work / 'latents', model, versions, seed, torch.device('cpu'))
    trained = {unit['name'] for unit in bundle.metadata['training_units']}
    known = [e for e in read_examples(options.store) if e.name in trained]
    both = [of_training(example, cache, seed, factor) for example in known]
    people = [example.participant for example in known]
    stacks = [[pair[k] for pair in both] for k in (0, 1)]
    of_known = distances(*(left_out(profiles, people) for profiles in stacks))
    threshold = alarm(of_known, options.rate)
    print(
        f'Alarm above {threshold["threshold"]:.2f}, which {threshold["false_alarm_rate"]:.1%} of '
        f'units like the {threshold["units"]} training units pass.\n'
    )
    columns = ('outputs', 'unit', 'scans', *CHANNELS, LATENT, 'score', 'alarm')
    print('| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|')
    summaries = [(np.mean(profiles, axis=0), np.std(profiles, axis=0)) for profiles in stacks]
    for folder in options.outputs:
        for number, (name, images, mask) in enumerate(scans(folder)):
            for title, pair in spoilt(images):
                own = of_scan(np.ascontiguousarray(pair), mask, model, factor)
                found = distances(
                    *(deviation(p, *s)[None] for p, s in zip(own, summaries, strict=True))
                )
                one = {channel: float(value[0]) for channel, value in found.items()}
                score = outlyingness(one, threshold)
                cells = [*(f'{value:.2f}' for value in one.values()), f'{score:.2f}']
                verdict = 'yes' if score > threshold['threshold'] else 'no'
                print(
                    f'| {folder.name} | {name} | {title} | {" | ".join(cells)} | {verdict} |',
                    flush=True,
                )
                if number:  # one unit of each folder is enough to spoil
                    break


if __name__ == '__main__':
    main()
