"""What the benchmarks share: reading maps, phantoms with all that is known of them, and draws."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from numpy.typing import NDArray

from demist_app.evaluation.lesions import separate
from demist_app.model.predictor import Predictor
from demist_app.phantom.labels import Label
from demist_app.training.linear import Example

SYNTHETIC = '_space-T1w_desc-synth_PSRmap.nii.gz'

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

TISSUES = {
    'CSF': (Label.CSF_VENTRICLE, Label.CSF_SULCAL),
    'grey matter': (
        Label.CORTICAL_GM, Label.CAUDATE, Label.PUTAMEN, Label.PALLIDUM, Label.THALAMUS,
        Label.CEREBELLAR_GM,
    ),
    'white matter': (Label.WM, Label.CORPUS_CALLOSUM, Label.CEREBELLAR_WM, Label.BRAINSTEM),
}  # fmt: skip


def load(path: Path) -> Map:
    """Read an image, its axes in the order of RAS."""
    return nb.as_closest_canonical(nb.load(path)).get_fdata(dtype=np.float32)


def add_facts(path: Path, **facts: Any) -> None:
    """Add to what a model card will tell, JSON."""
    known = json.loads(path.read_text('utf-8')) if path.exists() else {}
    path.write_text(json.dumps(known | facts, indent=2) + '\n', 'utf-8')


@dataclass(frozen=True)
class Case:
    """One phantom: its maps, brain, tissues, and the labels and numbers of its lesions."""

    name: str
    folder: Path
    measured: Map
    truth: Map
    fit: Map
    retest: Map
    mask: Mask
    tissues: Map
    labels: NDArray[np.int32]
    lesions: NDArray[np.intp]

    def regions(self) -> dict[str, Mask]:
        """Return the brain, its tissues (white matter without lesions) and the lesions."""
        drawn = self.labels > 0
        found = {'brain': self.mask}
        for name, labels in TISSUES.items():
            found[name] = np.isin(self.tissues, labels) & ~drawn & self.mask
        return found | {'lesions': drawn}


def cases(bids: Path, participant: str = 'sub-*') -> Iterator[Case]:
    """Yield the phantoms of a cohort that ``demist-phantom`` made."""
    pattern = f'{participant}/**/*_desc-qmt_PSRmap.nii.gz'
    for path in sorted((bids / 'derivatives' / 'qmt').glob(pattern)):
        name = path.name.split('_space-')[0]
        below = path.parent.relative_to(bids / 'derivatives' / 'qmt')
        stem = f'{bids}/derivatives/phantom/{below}/{name}_space-T1w'
        maps = [load(Path(f'{stem}_desc-{k}_PSRmap.nii.gz')) for k in ('truth', 'fit', 'retest')]
        mask = load(Path(f'{stem}_desc-brain_mask.nii.gz')) > 0
        tissues = load(Path(f'{stem}_dseg.nii.gz'))
        found = Path(f'{stem}_label-lesion_mask.nii.gz')
        lesions = load(found) > 0 if found.exists() else np.zeros_like(mask)
        yield Case(name, below, load(path), *maps, mask, tissues, *separate(lesions))


def draws(
    predictor: Predictor, example: Example, n: int, kept: Path, threads: int
) -> NDArray[np.float16]:
    """Return single draws inside the brain, percent, (n, voxels of `example.mask`).

    Draw k has seed k. They are kept as ``<kept>/<name>.npy``: the same again reads them.
    """
    path = kept / f'{example.name}.npy'
    if not path.exists():
        rows = [
            predictor.predict(
                example.images, example.mask, n_samples=1, seed=k, device='cpu', threads=threads
            ).mean[example.mask]
            for k in range(n)
        ]
        kept.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix('.part')
        with aside.open('wb') as file:
            np.save(file, np.array(rows, np.float16))
        aside.replace(path)
    return np.load(path)[:n]
