"""Training examples on disk: arrays that are mapped, not read, so that a cohort fits any memory.

::

    <store>/<name>/images.npy    float16 (K, 2, X, Y, Z), T1w and FLAIR of K protocols, in [0, 1]
    <store>/<name>/psr.npy       float16 (X, Y, Z), percent
    <store>/<name>/mask.npy      uint8 (X, Y, Z), brain
    <store>/<name>/example.json  who it is, and the sha256 of the three
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MULTIPLE = 16
HEADROOM = 4.0
"""Brightest value kept, where the 99.5th percentile of the brain is 1: what a fat scalp reaches."""


@dataclass(frozen=True)
class Example:
    """One scan with its PSR map on the 1 mm grid.

    Attributes
    ----------
    name : str
        Unit, e.g. ``sub-01_ses-A``.
    participant, group : str
        Folds keep participants whole and groups balanced.
    path : Path
        Folder of the arrays.
    digest : str
        sha256 over the three arrays: two examples that share it are the same image.
    """

    name: str
    participant: str
    group: str
    path: Path
    digest: str

    @property
    def images(self) -> NDArray[np.float16]:
        """T1w and FLAIR, mapped; shape (K, 2, X, Y, Z)."""
        return np.load(self.path / 'images.npy', mmap_mode='r')

    @property
    def psr(self) -> NDArray[np.float16]:
        """Percent, mapped; shape (X, Y, Z)."""
        return np.load(self.path / 'psr.npy', mmap_mode='r')

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Brain, mapped; shape (X, Y, Z)."""
        return np.load(self.path / 'mask.npy', mmap_mode='r')


def write_example(
    store: Path,
    name: str,
    images: NDArray[np.floating[Any]],
    psr: NDArray[np.floating[Any]],
    mask: NDArray[Any],
    *,
    participant: str,
    group: str,
) -> Example:
    """Write one example, whole or not at all; the arrays are padded to multiples of 16.

    Parameters
    ----------
    store : Path
    name : str
    images : ndarray, shape (K, 2, X, Y, Z)
        Scaled to [0, 1] inside the brain.
    psr : ndarray, shape (X, Y, Z)
        Percent.
    mask : ndarray, shape (X, Y, Z)
    participant, group : str
    """
    pads = [((-n % MULTIPLE) // 2, (-n % MULTIPLE + 1) // 2) for n in mask.shape]
    arrays: dict[str, NDArray[Any]] = {
        'images': np.pad(np.clip(images, 0, HEADROOM), [(0, 0), (0, 0), *pads]).astype(np.float16),
        'psr': np.pad(psr, pads).astype(np.float16),
        'mask': np.pad(mask > 0, pads).astype(np.uint8),
    }
    store.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f'.{name}-', dir=store))
    digest = hashlib.sha256()
    for key, array in arrays.items():
        np.save(aside / f'{key}.npy', array)
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    facts = {
        'name': name,
        'participant': participant,
        'group': group,
        'digest': digest.hexdigest(),
    }
    (aside / 'example.json').write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')
    aside.chmod(0o755)
    if (store / name).exists():
        shutil.rmtree(store / name)
    aside.replace(store / name)
    return Example(path=store / name, **facts)


def read_examples(store: Path) -> list[Example]:
    """List the examples of a store, in the order of their names.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = [
        Example(path=file.parent, **json.loads(file.read_text(encoding='utf-8')))
        for file in sorted(store.glob('[!.]*/example.json'))
    ]
    if not found:
        raise FileNotFoundError(f'{store} holds no training examples')
    return found


def facts(example: Example) -> dict[str, Any]:
    """Return what identifies an example, JSON-able, without its place on this machine."""
    return {k: v for k, v in asdict(example).items() if k != 'path'}
