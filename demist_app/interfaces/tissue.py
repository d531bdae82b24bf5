"""Tissue classes for the regional table."""

from pathlib import Path

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
)

DEEP_GREY = 'caudate|putamen|pallid|(?<!hypo)thalamus|accumbens'
"""Names of deep grey matter in the look-up tables of segmentations."""


class SegmentTissueInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SegmentTissue`."""

    t1w = File(exists=True, mandatory=True, desc='normalised')
    flair = File(exists=True, mandatory=True, desc='normalised')
    mask = File(exists=True, mandatory=True)
    lesions = File(exists=True)


class SegmentTissueOutputSpec(TraitedSpec):
    """Outputs of `SegmentTissue`."""

    labels = File(desc='1 CSF, 2 grey matter, 3 white matter; uint8')


class SegmentTissue(SimpleInterface):
    """Tissue classes for the regional table."""

    input_spec = SegmentTissueInputSpec
    output_spec = SegmentTissueOutputSpec

    def _run_interface(self, runtime):
        from nipype.interfaces.base import isdefined

        from demist_app.imaging.tissue import segment
        from demist_app.imaging.volumes import save_volume

        t1w = nb.load(self.inputs.t1w)
        mask = np.asarray(nb.load(self.inputs.mask).dataobj) > 0
        lesions = None
        if isdefined(self.inputs.lesions):
            lesions = np.asarray(nb.load(self.inputs.lesions).dataobj) > 0
        labels = segment(
            t1w.get_fdata(dtype=np.float32),
            nb.load(self.inputs.flair).get_fdata(dtype=np.float32),
            mask,
            lesions=lesions,
        )
        path = Path(runtime.cwd) / 'tissue.nii'
        save_volume(labels.astype(np.uint8), t1w.affine, path)
        self._results['labels'] = str(path)
        return runtime


def deep_grey_labels(lookup: Path) -> list[int]:
    """Find the labels of deep grey matter by their names.

    Parameters
    ----------
    lookup : Path
        TSV with the columns index and name.

    Raises
    ------
    InputError
        If the table cannot be understood.
    """
    import pandas as pd

    from demist_app.imaging.volumes import InputError

    try:
        table = pd.read_csv(lookup, sep='\t').astype({'index': 'int64', 'name': str})
        deep = table['name'].str.contains(DEEP_GREY, case=False, na=False)
        return [int(label) for label in table.loc[deep, 'index']]
    except (LookupError, ValueError, OverflowError) as error:
        raise InputError(
            f'{lookup} is no table of labels: it needs the columns index and name.'
        ) from error


class DeepGreyInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DeepGrey`."""

    dseg = File(exists=True, mandatory=True, desc='segmentation in the space of the T1w')
    lookup = File(exists=True, mandatory=True, desc='TSV with the columns index and name')
    reference = File(exists=True, mandatory=True, desc='brain mask on the 1 mm grid')


class DeepGreyOutputSpec(TraitedSpec):
    """Outputs of `DeepGrey`."""

    mask = File(desc='deep grey matter on the 1 mm grid; undefined if no label is named so')


class DeepGrey(SimpleInterface):
    """Deep grey matter from a segmentation made elsewhere."""

    input_spec = DeepGreyInputSpec
    output_spec = DeepGreyOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import Grid, resample
        from demist_app.imaging.volumes import load_volume, save_volume

        if deep := deep_grey_labels(Path(self.inputs.lookup)):
            dseg = load_volume(self.inputs.dseg, 'segmentation')
            labels = np.isin(np.rint(dseg.get_fdata()), deep).astype(np.uint8)
            grid = Grid.of(nb.load(self.inputs.reference))
            mask = resample(nb.Nifti1Image(labels, dseg.affine), grid, interpolation='label')
            path = Path(runtime.cwd) / 'deep_gm.nii'
            save_volume(np.asarray(mask.dataobj, np.uint8), grid.affine, path)
            self._results['mask'] = str(path)
        return runtime
