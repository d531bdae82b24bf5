"""From a lesion mask to lesions and the normal-appearing white matter they are compared with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from numpy.typing import ArrayLike, NDArray

from demist_app.evaluation.lesions import Pair

DIGITS = 4
"""Of what sidecars say of PSR: a map of one value has means that differ beyond, and would be
ranked."""


class FindLesionPairsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `FindLesionPairs`."""

    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    brain = File(exists=True, mandatory=True, desc='1 mm')
    measured = File(exists=True, desc='where PSR was measured, 1 mm; everywhere if not given')
    tissue = File(exists=True, mandatory=True, desc='1 CSF, 2 grey, 3 white matter, 1 mm')
    lesions = File(exists=True, mandatory=True, desc='1 mm')


class FindLesionPairsOutputSpec(TraitedSpec):
    """Outputs of `FindLesionPairs`."""

    pairs = File(desc='NPZ, for `load_pairs`')


class FindLesionPairs(SimpleInterface):
    """Find proximal and distal NAWM of every lesion, where PSR is known."""

    input_spec = FindLesionPairsInputSpec
    output_spec = FindLesionPairsOutputSpec

    def _run_interface(self, runtime):
        from demist_app.evaluation.lesions import inner_white, lesion_pairs, midsagittal
        from demist_app.imaging.tissue import WM

        t1w = nb.load(self.inputs.t1w)
        where = self.inputs.measured if isdefined(self.inputs.measured) else self.inputs.brain
        brain, known, lesions = (
            np.asarray(nb.Nifti1Image.from_filename(path).dataobj) > 0
            for path in (self.inputs.brain, where, self.inputs.lesions)
        )
        spacing = t1w.header.get_zooms()[:3]
        pairs = lesion_pairs(
            lesions & known,
            inner_white(np.asarray(nb.load(self.inputs.tissue).dataobj) == WM, lesions) & known,
            spacing,
            midsagittal(t1w.get_fdata(dtype=np.float32), brain, spacing),
        )
        path = Path(runtime.cwd) / 'pairs.npz'
        # a partner that is not there has no voxels
        np.savez(
            path,
            **{
                f'{part}-{number}': [] if voxels is None else voxels
                for number, pair in enumerate(pairs)
                for part, voxels in vars(pair).items()
            },
        )
        self._results['pairs'] = str(path)
        return runtime


def load_pairs(path: str) -> list[Pair]:
    """Read what `FindLesionPairs` wrote."""
    with np.load(path) as arrays:
        return [
            Pair(
                arrays[f'lesion-{number}'],
                *(
                    arrays[f'{part}-{number}'] if arrays[f'{part}-{number}'].size else None
                    for part in ('proximal', 'distal')
                ),
            )
            for number in range(len(arrays) // 3)
        ]


class DescribeLesionsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DescribeLesions`."""

    pairs = File(exists=True, mandatory=True, desc='of `FindLesionPairs`')
    synthetic = File(exists=True, mandatory=True, desc='percent, 1 mm')
    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    flair = File(exists=True, mandatory=True, desc='normalised, 1 mm')


class DescribeLesionsOutputSpec(TraitedSpec):
    """Outputs of `DescribeLesions`."""

    lesions = traits.Dict(desc='for the sidecar, as `describe_pairs` makes it')


class DescribeLesions(SimpleInterface):
    """Say what a synthetic map and the scans it comes from show in lesions and in NAWM."""

    input_spec = DescribeLesionsInputSpec
    output_spec = DescribeLesionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        synthetic = nb.Nifti1Image.from_filename(inputs.synthetic)
        maps = {'Synthetic': inputs.synthetic, 'FLAIR': inputs.flair, 'T1w': inputs.t1w}
        self._results['lesions'] = describe_pairs(
            load_pairs(inputs.pairs),
            {
                name: nb.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)
                for name, path in maps.items()
            },
            float(abs(np.linalg.det(synthetic.affine[:3, :3]))) / 1000,
        )
        return runtime


def describe_pairs(
    pairs: Sequence[Pair], maps: Mapping[str, NDArray[np.float32]], voxel_ml: float
) -> dict[str, Any]:
    """Return volume and means of every lesion and its NAWM, and areas for all their voxels.

    Parameters
    ----------
    pairs : sequence of Pair
    maps : mapping of str to ndarray, shape (X, Y, Z)
        By their names in sidecars; lesions are bright on the FLAIR, and dark elsewhere.
    voxel_ml : float
        Volume of a voxel.

    Returns
    -------
    dict
        ``Volume``, mL; the name of each map, to the means that
        `demist_app.evaluation.lesions.means` gives; ``VoxelAUC``, name to comparator to area. What
        there is not is None.
    """
    from demist_app.evaluation.lesions import BRIGHT, PARTNERS, means, voxel_auc

    volumes = {'Volume': [round(len(pair.lesion) * voxel_ml, 6) for pair in pairs]}
    areas = {
        name: {
            partner: voxel_auc(image, pairs, partner, bright=name == BRIGHT) for partner in PARTNERS
        }
        for name, image in maps.items()
    }
    listed = {name: _listed(means(image, pairs)) for name, image in maps.items()}
    return volumes | listed | {'VoxelAUC': areas}


def _listed(table: ArrayLike) -> list[list[float | None]]:
    """Turn means into what JSON knows: a partner that is not there is null."""
    return [
        [round(float(value), DIGITS) if np.isfinite(value) else None for value in row]
        for row in np.asarray(table)
    ]
