"""From a lesion mask to lesions and the normal-appearing white matter they are compared with."""

from pathlib import Path

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
)

from demist_app.evaluation.lesions import Pair


class FindLesionPairsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `FindLesionPairs`."""

    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    brain = File(exists=True, mandatory=True, desc='1 mm')
    measured = File(exists=True, mandatory=True, desc='where PSR was measured, 1 mm')
    tissue = File(exists=True, mandatory=True, desc='1 CSF, 2 grey, 3 white matter, 1 mm')
    lesions = File(exists=True, mandatory=True, desc='1 mm')


class FindLesionPairsOutputSpec(TraitedSpec):
    """Outputs of `FindLesionPairs`."""

    pairs = File(desc='NPZ, for `load_pairs`')


class FindLesionPairs(SimpleInterface):
    """Find proximal and distal NAWM of every lesion, where PSR was measured."""

    input_spec = FindLesionPairsInputSpec
    output_spec = FindLesionPairsOutputSpec

    def _run_interface(self, runtime):
        from demist_app.evaluation.lesions import inner_white, lesion_pairs, midsagittal
        from demist_app.imaging.tissue import WM

        t1w = nb.load(self.inputs.t1w)
        brain, measured, lesions = (
            np.asarray(nb.Nifti1Image.from_filename(path).dataobj) > 0
            for path in (self.inputs.brain, self.inputs.measured, self.inputs.lesions)
        )
        spacing = t1w.header.get_zooms()[:3]
        pairs = lesion_pairs(
            lesions & measured,
            inner_white(np.asarray(nb.load(self.inputs.tissue).dataobj) == WM, lesions) & measured,
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
