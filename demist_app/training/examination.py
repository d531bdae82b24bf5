"""What a trained model is told about its own limits before it is given away."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demist_app.evaluation.calibration import fit_scale
from demist_app.imaging.conform import brain_box
from demist_app.model.bundle import write_bundle
from demist_app.model.memory import ShortOfMemoryError
from demist_app.model.predictor import Predictor, draws_of, load_predictor, sampling
from demist_app.model.residuals import PSR_MAX, Residuals
from demist_app.model.signature import Signature, signature
from demist_app.model.synthesis import DiffusionPredictor
from demist_app.training.examples import Example
from demist_app.training.fit import Machine, TrainingError
from demist_app.training.latents import whole
from demist_app.training.outliers import enough, learn_outliers

DRAWS = 4
"""At most, of one scan."""
ALL_DRAWS = 12
"""Of all scans together: what the calibration costs has a bound."""
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

    def scans(self, count: int) -> Iterator[Scan]:
        """Yield what the SD is learned from: one scan each of at most so many participants."""
        first = {example.participant: example for example in reversed(self.validation)}
        for participant in sorted(first)[:count]:
            yield scan(first[participant], self.degraded_as, self.seed)

    def signatures(self) -> list[Signature]:
        """Return what can be seen of each training scan, in the first version of its training."""
        version = None if self.degraded_as is None else 0
        return [_signature(example, version, self.seed) for example in self.training]

    def latents(self, predictor: DiffusionPredictor) -> Iterator[NDArray[np.float64] | None]:
        """Yield what z_c of each of the same scans is like."""
        version = None if self.degraded_as is None else 0
        device, threads = str(self.machine.device), self.machine.threads
        for example in self.training:
            images, _, mask = scan(example, version, self.seed)
            yield predictor.describe(images, mask, device=device, threads=threads)


def scan(example: Example, version: int | None, seed: int) -> Scan:
    """Return an example as a model meets it in use; see `Examination.degraded_as`."""
    psr, mask = np.asarray(example.psr, np.float32), np.asarray(example.mask) > 0
    images = np.asarray(example.images[0], np.float32)
    if version is not None:
        degraded, flips = whole(example, version, seed)
        images = degraded.numpy()
        psr, mask = np.flip(psr, tuple(flips)), np.flip(mask, tuple(flips))
        mask = mask & (images > 0).any(axis=0)  # its mask was perturbed too
    box = brain_box(mask)  # as demist makes its grid
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
        ``uncertainty``, see `learn_uncertainty`, if the model samples and scans were kept from it.
    """
    facts = dict(metadata)
    if not examination:
        return facts
    people = [example.participant for example in examination.training]
    seen = examination.signatures() if enough(people) else []
    if sampling(facts):
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as folder:
            # the weights are used as they will be read: rounded
            predictor = load_predictor(write_bundle(Path(folder) / out.name, facts, tensors, ''))
            try:
                if seen and isinstance(predictor, DiffusionPredictor):
                    seen = _with_latents(seen, predictor, examination)
                if examination.validation:
                    draws = draws_of(facts)
                    facts['uncertainty'] = learn_uncertainty(predictor, examination, draws)
            except ShortOfMemoryError as error:
                raise TrainingError(f'{out.name} was trained, but not examined: {error}') from error
    if seen and (found := learn_outliers(seen, people)):
        facts['outliers'] = found
    return facts


def _with_latents(
    seen: Sequence[Signature], predictor: DiffusionPredictor, examination: Examination
) -> list[Signature]:
    latents = zip(seen, examination.latents(predictor), strict=True)
    return [one if its is None else one | {'latent': its} for one, its in latents]


def learn_uncertainty(predictor: Predictor, examination: Examination, draws: int) -> dict[str, Any]:
    """Learn the SD of a sampling model from scans it was not trained on.

    Their PSR counts as it is: where it was measured, its noise is among the errors, and the SD
    tells how far a measurement may lie from the map.

    Parameters
    ----------
    predictor : Predictor
        Whose bundle states no ``uncertainty`` yet.
    examination : Examination
    draws : int
        Of its maps. Maps of a single draw have an SD by a table, others by a factor on that over
        draws, whose number is accounted for (`demist_app.model.spread`).

    Returns
    -------
    dict
        ``residual_sd`` or ``sd_scale``, the ``draws`` and ``units`` it was learned from, and the
        number of ``voxels`` of all units together.
    """
    taken = min(draws, DRAWS)
    scans = examination.scans(ALL_DRAWS // taken)
    found = [compare(predictor, scan, examination, taken) for scan in scans]
    facts = {'draws': taken, 'units': len(found), 'voxels': VOXELS * len(found)}
    if taken == 1:
        residuals = Residuals()
        for sample in found:
            residuals.add(sample.mean, sample.psr)
        return {'residual_sd': [round(float(sd), 4) for sd in residuals.table()], **facts}
    errors = np.concatenate([sample.psr - sample.mean for sample in found])
    stated = np.concatenate([sample.sd for sample in found])
    return {'sd_scale': round(fit_scale(errors, stated), 4), **facts}


class Sample(NamedTuple):
    """PSR, map and stated SD (0 if there is none) in some voxels of a scan, percent."""

    psr: Image
    mean: Image
    sd: Image


def compare(predictor: Predictor, scan: Scan, examination: Examination, draws: int) -> Sample:
    """Look at equally many voxels of each scan."""
    images, psr, mask = scan
    found = predictor.predict(
        images,
        mask,
        n_samples=draws,
        seed=examination.seed,
        device=str(examination.machine.device),
        threads=examination.machine.threads,
    )
    inside, rng = np.flatnonzero(mask), np.random.default_rng(examination.seed)
    voxels = rng.choice(inside, VOXELS, replace=len(inside) < VOXELS)
    sd = np.zeros_like(psr) if found.sd is None else found.sd
    return Sample(*(volume.ravel()[voxels] for volume in (psr, found.mean, sd)))
