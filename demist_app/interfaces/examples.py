"""From a measured PSR map to a training example."""

import json
import os
from pathlib import Path

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

FULL_COVERAGE = 0.98
"""Share of the brain the measured map must show for the log not to warn."""
HIGHEST_PSR = 25.0
"""Percent; what a fit finds above it is no myelin."""


class MeasuredToGridInputSpec(BaseInterfaceInputSpec):
    """Inputs of `MeasuredToGrid`."""

    psr = File(exists=True, mandatory=True, desc='measured map as found')
    space = traits.Enum(
        'T1w', 'FLAIR', 'own', usedefault=True, desc='whose coordinates the map has'
    )
    t1w = File(exists=True, mandatory=True, desc='bias-corrected, native')
    mask = File(exists=True, mandatory=True, desc='brain on the grid of the T1w')
    itk = File(exists=True, mandatory=True, desc='FLAIR to T1w')
    grid_mask = File(exists=True, mandatory=True, desc='brain on the 1 mm grid')


class MeasuredToGridOutputSpec(TraitedSpec):
    """Outputs of `MeasuredToGrid`."""

    psr = File(desc='measured PSR, percent, 1 mm grid')
    mask = File(desc='the part of the brain that the map shows, 1 mm grid')
    warnings = traits.List(traits.Str)


class MeasuredToGrid(SimpleInterface):
    """Bring a measured PSR map to percent and to the 1 mm grid of the T1w.

    A map that has neither the coordinates of the T1w nor those of the FLAIR is registered rigidly
    to the T1w.
    """

    input_spec = MeasuredToGridInputSpec
    output_spec = MeasuredToGridOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import Grid, reorient_ras, resample
        from demist_app.imaging.registration import rigid
        from demist_app.imaging.transforms import read_itk
        from demist_app.imaging.volumes import InputError, load_volume, save_volume

        cwd, source = Path(runtime.cwd), self.inputs.psr
        found = reorient_ras(load_volume(source, 'measured PSR map'))
        values = np.maximum(found.get_fdata(dtype=np.float32), 0)
        warnings: list[str] = []
        if not values.any():
            raise InputError(f'{source}: the measured PSR map has no value above 0; check it.')
        if (top := np.percentile(values[values > 0], 99)) < 1:
            warnings.append(
                f'{source}: 99 % of the map lie below {top:.2g}, so it was taken for a fraction '
                'and multiplied by 100'
            )
            values = values * np.float32(100)
        measured = nb.Nifti1Image(np.minimum(values, HIGHEST_PSR), found.affine)
        matrix = None
        if self.inputs.space == 'FLAIR':
            matrix = read_itk(self.inputs.itk)
        elif self.inputs.space == 'own':
            try:
                result = rigid(nb.load(self.inputs.t1w), measured, nb.load(self.inputs.mask))
            except InputError as error:
                raise InputError(f'{source}: {error}') from error
            matrix, runtime.stdout = result.matrix, result.log
        brain_image = nb.load(self.inputs.grid_mask)
        brain, grid = np.asarray(brain_image.dataobj) > 0, Grid.of(brain_image)
        field = nb.Nifti1Image(np.ones(measured.shape, np.uint8), measured.affine)
        seen = np.asarray(resample(field, grid, matrix, 'nearest').dataobj) > 0
        if (coverage := (seen & brain).sum() / brain.sum()) < FULL_COVERAGE:
            warnings.append(
                f'{source}: the map covers {coverage:.0%} of the brain; only that part was used'
            )
        psr = resample(measured, grid, matrix).get_fdata(dtype=np.float32)
        save_volume(np.where(brain & seen, psr, np.float32(0)), grid.affine, cwd / 'psr.nii')
        save_volume((brain & seen).astype(np.uint8), grid.affine, cwd / 'mask.nii')
        self._results |= {
            'psr': str(cwd / 'psr.nii'),
            'mask': str(cwd / 'mask.nii'),
            'warnings': warnings,
        }
        return runtime


class WriteExampleInputSpec(BaseInterfaceInputSpec):
    """Inputs of `WriteExample`."""

    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    flair = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    psr = File(exists=True, mandatory=True, desc='measured, percent, 1 mm')
    mask = File(exists=True, mandatory=True, desc='where it was measured')
    brain = File(exists=True, mandatory=True, desc='brain on the 1 mm grid')
    native_brain = File(exists=True, mandatory=True, desc='brain on the grid of the T1w')
    name = traits.Str(mandatory=True, desc='label of the unit')
    participant = traits.Str(mandatory=True)
    group = traits.Str(mandatory=True, desc='of participants.tsv')
    warnings = traits.List(traits.Str)
    tissue = File(exists=True, mandatory=True, desc='1 CSF, 2 grey, 3 white matter, 1 mm')
    lesions = File(exists=True, desc='1 mm')
    deep_gm = File(exists=True, desc='deep grey matter, 1 mm')
    pairs = File(exists=True, desc='lesions and NAWM, of `FindLesionPairs`')


class WriteExampleOutputSpec(TraitedSpec):
    """Outputs of `WriteExample`."""

    prepared = File(desc='JSON: warnings, and where the images of this unit lie')


_FILES = (
    't1w', 'flair', 'psr', 'mask', 'brain', 'native_brain', 'tissue', 'lesions', 'deep_gm',
    'pairs',
)  # fmt: skip


class WriteExample(SimpleInterface):
    """Write one training example into this node's folder, and what else is known of the unit."""

    input_spec = WriteExampleInputSpec
    output_spec = WriteExampleOutputSpec

    def _run_interface(self, runtime):
        from demist_app.training.examples import write_example

        cwd, inputs = Path(runtime.cwd), self.inputs
        t1w, flair, psr = (
            nb.load(path).get_fdata(dtype=np.float32)
            for path in (inputs.t1w, inputs.flair, inputs.psr)
        )
        mask = np.asarray(nb.load(inputs.mask).dataobj) > 0
        write_example(
            cwd / 'store',
            inputs.name,
            np.stack([t1w, flair])[None],
            psr,
            mask,
            participant=inputs.participant,
            group=inputs.group,
        )
        prepared = {
            'warnings': list(inputs.warnings) if isdefined(inputs.warnings) else [],
            'files': {
                name: os.path.relpath(getattr(inputs, name), cwd)  # the work folder may be moved
                for name in _FILES
                if isdefined(getattr(inputs, name))
            },
        }
        (cwd / 'prepared.json').write_text(json.dumps(prepared, indent=2), encoding='utf-8')
        self._results['prepared'] = str(cwd / 'prepared.json')
        return runtime
