"""Fit the linear model: ``python -m demist_app.training.linear DEMIST_DIR PSR_DIR OUT``.

The scans are taken as ``demist BIDS_DIR DEMIST_DIR participant --anat-only`` left them, so that
the model is trained on what it will be given.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from demist_app import __version__
from demist_app.imaging.conform import Grid, resample
from demist_app.imaging.normalise import normalise
from demist_app.model.bundle import Bundle, write_bundle
from demist_app.model.intensities import profile, reference
from demist_app.model.linear import LinearFit

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One unit with a measured map, on the native grid of its T1w.

    Attributes
    ----------
    name : str
        Prefix of the unit's files.
    images : ndarray of float32, shape (2, X, Y, Z)
        T1w and FLAIR in [0, 1].
    psr : ndarray of float32, shape (X, Y, Z)
        Percent.
    mask : ndarray of bool, shape (X, Y, Z)
    """

    name: str
    images: Image
    psr: Image
    mask: NDArray[np.bool_]


def examples(demist_dir: Path, psr_dir: Path) -> Iterator[Example]:
    """Yield every unit that has preprocessed scans and a measured map.

    Parameters
    ----------
    demist_dir : Path
        Output of demist's participant level.
    psr_dir : Path
        Derivative data set with ``*_space-T1w_desc-qmt_PSRmap.nii.gz``.
    """
    for path in sorted(psr_dir.glob('sub-*/**/*_space-T1w_desc-qmt_PSRmap.nii.gz')):
        name = path.name.split('_space-')[0]
        folder = demist_dir / path.parent.relative_to(psr_dir)
        files = [
            folder / f'{name}_{rest}.nii.gz'
            for rest in ('desc-preproc_T1w', 'space-T1w_desc-preproc_FLAIR', 'desc-brain_mask')
        ]
        if not all(file.exists() for file in files):
            continue
        t1w, flair, mask_image = (Nifti1Image.from_filename(file) for file in files)
        mask = np.asarray(mask_image.dataobj) > 0
        images = [normalise(i.get_fdata(dtype=np.float32), mask)[0] for i in (t1w, flair)]
        psr = resample(Nifti1Image.from_filename(path), Grid.of(t1w)).get_fdata(dtype=np.float32)
        yield Example(name, np.stack(images), psr, mask)


def fit(demist_dir: Path, psr_dir: Path, out: Path, training_data: str) -> Bundle:
    """Fit the model and write its bundle.

    Parameters
    ----------
    demist_dir, psr_dir : Path
        As for `examples`.
    out : Path
        Folder of the bundle; its name becomes the model's.
    training_data : str
        What the scans are, for the model card.

    Raises
    ------
    ValueError
        If no unit has both scans and a map.
    """
    model, profiles, names, means = LinearFit(), [], [], []
    for example in examples(demist_dir, psr_dir):
        model.add(example.images, example.psr, example.mask)
        profiles.append(profile(example.images, example.mask))
        names.append(example.name)
        means.append(float(example.psr[example.mask].mean()))
    if not names:
        raise ValueError(f'no unit has scans in {demist_dir} and a measured map in {psr_dir}')
    fitted = model.solve()
    constant, t1w, flair = fitted.coefficients
    equation = f'PSR (%) = {constant:.2f} {t1w:+.2f} · T1w {flair:+.2f} · FLAIR'
    metadata = {
        'name': out.name,
        'version': __version__,
        'network': 'linear',
        'description': 'a voxelwise linear regression of PSR on both normalised intensities '
        '[@sisco2022], whose standard deviation is that of the training residuals.',
        'equation': equation,
        'psr_unit': 'percent',
        'grid': {'spacing_mm': 1.0, 'orientation': 'RAS', 'multiple': 16},
        'training_data': training_data,
        'training_units': names,
        'training_mean_psr': round(float(np.mean(means)), 4),
        'intensity_reference': reference(profiles),
    }
    card = _CARD.format(
        name=out.name,
        equation=equation,
        data=training_data,
        n=len(names),
        sd=float(np.mean(fitted.residual_sd)),
    )
    return write_bundle(out, metadata, fitted.tensors(), card)


_CARD = """\
# Model card: {name}

Voxelwise linear regression of the pool size ratio (PSR) on T1w and FLAIR, after Sisco, Bagnato,
Stokes and Dortch (ISMRM 2022, abstract 3917).

    {equation}

T1w and FLAIR are N4-corrected and scaled so that the 99.5th percentile
inside the brain becomes 1 (brighter voxels are clipped); the result is clipped to 0–25 %.

- **Trained on**: {data} ({n} units). No scan of a person was used.
- **Standard deviation**: that of the training residuals where the same PSR was predicted
  (mean over the range {sd:.2f} percentage points). It describes single voxels.
- **What it is for**: a published, simple baseline, and a stand-in until a model trained on
  measured PSR maps is at hand.
- **What it is not for**: diagnosis, treatment, or any conclusion on the myelin of one person. It
  knows nothing but two intensities of one voxel: whatever changes T1w or FLAIR is read as myelin,
  and lesions that look alike get the same PSR whatever their myelin.
"""


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python -m demist_app.training.linear')
    parser.add_argument('demist_dir', type=Path, help='output of demist … --anat-only')
    parser.add_argument('psr_dir', type=Path, help='derivative data set with measured PSR maps')
    parser.add_argument('out', type=Path, help='bundle to write')
    parser.add_argument('--training-data', required=True, help='what the scans are, in words')
    options = parser.parse_args()
    bundle = fit(options.demist_dir, options.psr_dir, options.out, options.training_data)
    print(f'{bundle.path}: {bundle.metadata["equation"]}, sha256 {bundle.sha256}')


if __name__ == '__main__':
    main()
