"""Latents of whole brains, encoded once and kept on disk under the hash of what made them."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from demist_app.model.demist import Demist, bfloat16_pays
from demist_app.training.augment import degrade
from demist_app.training.examples import Example

LOGGER = logging.getLogger('demist')
_KIND = 'latents-1'


def version_seed(example: Example, version: int, seed: int) -> list[int]:
    """Return the root of the randomness of one augmented version of an example."""
    return [seed, version, int(example.digest[:12], 16)]


def whole(example: Example, version: int, seed: int) -> tuple[Tensor, list[int]]:
    """Return one version of a whole brain.

    Returns
    -------
    images : Tensor, shape (2, X, Y, Z)
        Degraded and flipped.
    flips : list of int
        Axes (0-2) along which it was flipped.
    """
    rng = np.random.default_rng(version_seed(example, version, seed))
    flips = [axis for axis in range(3) if rng.random() < 0.5]
    stored = example.images
    t1w, flair = rng.integers(len(stored), size=2)
    pair = np.stack([stored[t1w, 0], stored[flair, 1]]).astype(np.float32)
    mask = torch.from_numpy(np.array(example.mask)).float()
    images = degrade(torch.from_numpy(pair), mask, rng)
    return images.flip([axis + 1 for axis in flips]), flips


class LatentCache:
    """Latents of examples in augmented versions.

    Parameters
    ----------
    folder : Path
        Shared by all runs; a file's name tells what made it.
    model : Demist
        Its autoencoders make the latents.
    versions : int
        Augmented versions per example.
    seed : int
    device : torch.device
    """

    def __init__(
        self, folder: Path, model: Demist, versions: int, seed: int, device: torch.device
    ) -> None:
        self.folder = folder
        self.model = model
        self.versions = versions
        self.seed = seed
        self.device = device
        digest = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            if name.startswith(('psr', 'cond')):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.encoders = digest.hexdigest()

    def path(self, example: Example, version: int) -> Path:
        """Where one version of an example is kept."""
        recipe = [_KIND, self.encoders, example.digest, version, self.seed]
        name = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]
        return self.folder / name[:2] / f'{name}.npz'

    @torch.no_grad()
    def fill(self, examples: Sequence[Example]) -> None:
        """Encode what is not there yet."""
        missing = [
            (example, version)
            for example in examples
            for version in range(self.versions)
            if not self.path(example, version).exists()
        ]
        if not missing:
            return
        LOGGER.warning('encoding %d brains for the latent cache', len(missing))
        self.model.to(self.device).eval()
        for example, version in missing:
            images, flips = whole(example, version, self.seed)
            scale = self.model.preset.psr_scale
            psr = torch.from_numpy(np.array(example.psr, np.float32)) / scale
            psr = psr.clamp(0, 1).flip(flips)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=bfloat16_pays(self.device)
            ):
                z_c = self.model.encode_cond(_batch(images, self.device))
                z_y = self.model.encode_psr(_batch(psr[None], self.device))
            path = self.path(example, version)
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=path.parent, suffix='.npz')
            with os.fdopen(handle, 'wb') as file:
                np.savez(
                    file,
                    z_c=z_c[0].float().cpu().numpy().astype(np.float16),
                    z_y=z_y[0].float().cpu().numpy().astype(np.float16),
                    flips=np.array(flips, dtype=np.int64),
                )
            Path(aside).replace(path)


class LatentPatches(Dataset[dict[str, Tensor]]):
    """Random crops of cached latents; a function of (seed, number).

    Parameters
    ----------
    cache : LatentCache
        Filled.
    examples : sequence of Example
    size : int
        Edge of the crop in voxels of the image.
    seed : int
    with_psr : bool
        Give the PSR map of the crop as well, for the edge term.
    """

    def __init__(
        self,
        cache: LatentCache,
        examples: Sequence[Example],
        size: int,
        seed: int,
        *,
        with_psr: bool,
    ) -> None:
        self.examples = examples
        self.versions = cache.versions
        self.paths = [[cache.path(e, v) for v in range(cache.versions)] for e in examples]
        self.factor = cache.model.preset.autoencoder.factor
        self.psr_scale = cache.model.preset.psr_scale
        self.size = size
        self.seed = seed
        self.with_psr = with_psr

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``z_c`` and ``z_y`` (L, p, p, p), ``origin`` (3,) in mm and ``psr``."""
        rng = np.random.default_rng([self.seed, index])
        chosen, version = int(rng.integers(len(self.examples))), int(rng.integers(self.versions))
        example = self.examples[chosen]
        with np.load(self.paths[chosen][version]) as stored:
            z_c, z_y, flips = stored['z_c'], stored['z_y'], stored['flips']
        shape = z_y.shape[1:]
        edges = [min(self.size // self.factor, n) for n in shape]
        start = [int(rng.integers(n - e + 1)) for n, e in zip(shape, edges, strict=True)]
        box = tuple(slice(s, s + e) for s, e in zip(start, edges, strict=True))
        origin = [self.factor * (s - n / 2) for s, n in zip(start, shape, strict=True)]
        item = {
            'z_c': torch.from_numpy(z_c[(slice(None), *box)].astype(np.float32)),
            'z_y': torch.from_numpy(z_y[(slice(None), *box)].astype(np.float32)),
            'origin': torch.tensor(origin, dtype=torch.float32),
        }
        if self.with_psr:
            voxels = tuple(slice(b.start * self.factor, b.stop * self.factor) for b in box)
            psr = np.flip(example.psr, tuple(flips))[voxels].astype(np.float32) / self.psr_scale
            item['psr'] = torch.from_numpy(psr).clamp(0, 1)[None]
        return item


def _batch(images: Tensor, device: torch.device) -> Tensor:
    return images[None].to(device).contiguous(memory_format=torch.channels_last_3d)
