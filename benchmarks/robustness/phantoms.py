"""The phantoms, as they are and with damaged scans, as BIDS data sets; what is there stays."""

import shutil
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nb
import numpy as np
from common import TISSUES, Case, cases
from lesions import on_grid
from nibabel.nifti1 import Nifti1Image
from robustness.cells import Cell
from robustness.damage import Raw

from demist_app.evaluation.lesions import Pair, inner_white, lesion_pairs, midsagittal
from demist_app.imaging.conform import Grid, resample
from demist_app.imaging.transforms import read_itk
from demist_app.imaging.volumes import save_volume
from demist_app.phantom.cohort import Cohort, simulate
from demist_app.phantom.writing import write_dataset, write_session, write_years

SESSION = '01'


def write(out: Path, cohort: Cohort, numbers: range) -> None:
    """Write participants of a cohort, and all that is known of them."""
    people = [cohort.describe(number) for number in numbers]
    write_dataset(out, people, f'{cohort}')
    for number, who in zip(numbers, people, strict=True):
        if not (out / f'sub-{who.label}' / f'sub-{who.label}_sessions.json').exists():
            (session,) = simulate(cohort, number)
            write_session(out, who.label, SESSION, cohort.site(number), session)
            write_years(out, who.label, [SESSION])  # last, so that it says that the rest is there


@dataclass(frozen=True)
class Unit:
    """One phantom as it is.

    Attributes
    ----------
    bids : Path
        Its data set.
    label : str
        Of the participant.
    snr : float
        Of its scans.
    """

    bids: Path
    label: str
    snr: float

    @property
    def name(self) -> str:
        return f'sub-{self.label}_ses-{SESSION}'

    @property
    def below(self) -> Path:
        """Where its files are in every data set."""
        return Path(f'sub-{self.label}', f'ses-{SESSION}', 'anat')

    def known(self, ending: str) -> Path:
        """Path of what only the phantom knows."""
        return self.bids / 'derivatives' / 'phantom' / self.below / f'{self.name}_{ending}'

    @property
    def reference(self) -> Nifti1Image:
        """The measured map; all maps are compared on its grid."""
        home = self.bids / 'derivatives' / 'qmt' / self.below
        found = nb.load(home / f'{self.name}_space-T1w_desc-qmt_PSRmap.nii.gz')
        return nb.as_closest_canonical(found)

    @cached_property
    def case(self) -> Case:
        (case,) = cases(self.bids, f'sub-{self.label}')
        return case

    @cached_property
    def pairs(self) -> list[Pair]:
        """Lesions and their NAWM, of the true white matter: the same whatever the scans show."""
        case, reference = self.case, self.reference
        t1w = on_grid(self.bids / self.below / f'{self.name}_T1w.nii.gz', reference)
        spacing = reference.header.get_zooms()[:3]
        lesions = case.labels > 0
        white = np.isin(case.tissues, TISSUES['white matter']) & case.mask
        sure = inner_white(white, lesions)
        return lesion_pairs(lesions, sure, spacing, midsagittal(t1w, case.mask, spacing))

    def raw(self, kind: str) -> Raw:
        """Read a scan, ``T1w`` or ``FLAIR``."""
        image = Nifti1Image.from_filename(self.bids / self.below / f'{self.name}_{kind}.nii.gz')
        labels = Nifti1Image.from_filename(self.known('space-T1w_dseg.nii.gz'))
        brain = Nifti1Image.from_filename(self.known('space-T1w_desc-brain_mask.nii.gz'))
        matrix = np.eye(4)
        if kind == 'FLAIR':
            name = 'from-FLAIR_to-T1w_mode-image_desc-truth_xfm.txt'
            matrix = np.linalg.inv(read_itk(self.known(name)))
        there, tissues = (
            np.asarray(resample(mask, Grid.of(image), matrix, 'nearest').dataobj)
            for mask in (brain, labels)
        )
        return Raw(image, there > 0, np.isin(tissues, TISSUES['white matter']), self.snr)


def spoil(out: Path, unit: Unit, cell: Cell) -> None:
    """Write the scans of a unit as this cell has them."""
    assert cell.damage, 'other cells have nothing to do to scans'
    home = out / unit.below
    home.mkdir(parents=True, exist_ok=True)
    for path in unit.bids.iterdir():
        if path.is_file():
            shutil.copy(path, out)
    for kind in ('T1w', 'FLAIR'):
        stem = f'{unit.name}_{kind}'
        if (home / f'{stem}.json').exists():
            continue
        if kind in cell.kinds:
            # the same at every level, so that levels differ by nothing else
            seed = zlib.crc32(f'{cell.panel} {stem}'.encode())
            image = cell.damage(unit.raw(kind), np.random.default_rng(seed))
            save_volume(np.round(image.get_fdata()), image.affine, home / f'{stem}.nii.gz')
        else:
            shutil.copy(unit.bids / unit.below / f'{stem}.nii.gz', home)
        shutil.copy(unit.bids / unit.below / f'{stem}.json', home)
