"""What a trained model is told about its own limits before it is given away."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demist_app.evaluation.calibration import fit_scale
from demist_app.model.bundle import write_bundle
from demist_app.model.predictor import Predictor, load_predictor, sampling
from demist_app.model.residuals import PSR_MAX
from demist_app.model.signature import Signature, signature
from demist_app.training.examples import Example
from demist_app.training.fit import Machine
from demist_app.training.latents import whole
from demist_app.training.outliers import learn_outliers

DRAWS = 4
"""Their finite number is accounted for (`demist_app.model.spread`)."""
UNITS = 3
"""Of those kept for early stopping, at most: what the calibration costs has a bound."""
VOXELS = 20_000

Image = NDArray[np.float32]
Scan = tuple[Image, Image, NDArray[np.bool_]]
"""Images, (2, X, Y, Z), as predictors get them; PSR in percent; brain."""


@dataclass(frozen=True)
class Examination:
    """Scans, and what to make a model look at them with.

    Attributes
    ----------
    training : sequence of Example
    validation : sequence of Example
        Kept for early stopping.
    seed : int
    machine : Machine
    degraded_as : int or None
        The scans are phantoms without noise: they are degraded as in training, those of
        `validation` in the version of this number, which is best none of the training's own.
        None for scans of a scanner.
    """

    training: Sequence[Example]
    validation: Sequence[Example]
    seed: int
    machine: Machine
    degraded_as: int | None = None

    def scans(self) -> Iterator[Scan]:
        """Yield what the SD is learned from: one scan each of so many participants."""
        first = {example.participant: example for example in reversed(self.validation)}
        for participant in sorted(first)[:UNITS]:
            yield scan(first[participant], self.degraded_as, self.seed)

    def signatures(self) -> list[Signature]:
        """Return what can be seen of each training scan, in the first version of its training."""
        version = None if self.degraded_as is None else 0
        return [_signature(example, version, self.seed) for example in self.training]


def scan(example: Example, version: int | None, seed: int) -> Scan:
    """Return an example as a model meets it in use; see `Examination.degraded_as`."""
    psr, mask = np.asarray(example.psr, np.float32), np.asarray(example.mask) > 0
    images = np.asarray(example.images[0], np.float32)
    if version is not None:
        degraded, flips = whole(example, version, seed)
        images = degraded.numpy()
        psr, mask = np.flip(psr, tuple(flips)), np.flip(mask, tuple(flips))
        mask = mask & (images > 0).any(axis=0)  # its mask was perturbed too
    # a grid as wide as the brain, as demist makes it
    box = tuple(slice(found.min(), found.max() + 1) for found in np.nonzero(mask))
    return np.clip(images[:, *box], 0, 1), np.clip(psr[box], 0, PSR_MAX), mask[box]


@cache  # all methods of a fold look at the same scans
def _signature(example: Example, version: int | None, seed: int) -> Signature:
    images, _, mask = scan(example, version, seed)
    return signature(images, mask)


def examined(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    out: Path,
    examination: Examination | None,
) -> dict[str, Any]:
    """Complete the metadata of a bundle.

    Parameters
    ----------
    metadata, tensors
        Of the bundle.
    out : Path
        Where it will be written: its folder holds, for a while, another.
    examination : Examination or None
        None leaves the metadata as they are.

    Returns
    -------
    dict
        With ``outliers``, see `learn_outliers`, if there are participants enough, and
        ``uncertainty``, see `learn_scale`, if the model samples and scans were kept from it.
    """
    facts = dict(metadata)
    if not examination:
        return facts
    people = [example.participant for example in examination.training]
    if found := learn_outliers(examination.signatures(), people):
        facts['outliers'] = found
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as folder:
        # the weights are used as they will be read: rounded
        bundle = write_bundle(Path(folder) / out.name, facts, tensors, '')
        if sampling(bundle) and examination.validation:
            facts['uncertainty'] = learn_scale(load_predictor(bundle), examination)
    return facts


def learn_scale(predictor: Predictor, examination: Examination) -> dict[str, Any]:
    """Learn the factor on the SD of a sampling model from scans it was not trained on.

    Their PSR counts as it is: where it was measured, its noise is among the errors, and the SD
    tells how far a measurement may lie from the map.

    Parameters
    ----------
    predictor : Predictor
        Whose bundle states no ``uncertainty`` yet.
    examination : Examination

    Returns
    -------
    dict
        ``sd_scale``, ``draws`` and ``units`` it was learned from, ``voxels`` of all units together.
    """
    found = [compare(predictor, scan, examination) for scan in examination.scans()]
    errors, stated = (np.concatenate(values) for values in zip(*found, strict=True))
    return {
        'sd_scale': round(fit_scale(errors, stated), 4),
        'draws': DRAWS,
        'units': len(found),
        'voxels': len(errors),
    }


def compare(
    predictor: Predictor, scan: Scan, examination: Examination
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return error and stated SD in some voxels of one scan, equally many of each."""
    images, psr, mask = scan
    found = predictor.predict(
        images,
        mask,
        n_samples=DRAWS,
        seed=examination.seed,
        device=str(examination.machine.device),
        threads=examination.machine.threads,
    )
    assert found.sd is not None
    inside, rng = np.flatnonzero(mask), np.random.default_rng(examination.seed)
    voxels = rng.choice(inside, VOXELS, replace=len(inside) < VOXELS)
    return (psr - found.mean).ravel()[voxels], found.sd.ravel()[voxels]
