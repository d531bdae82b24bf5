"""PSR maps in a standard space."""

from pathlib import Path

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class RegisterTemplateInputSpec(BaseInterfaceInputSpec):
    """Inputs of `RegisterTemplate`."""

    template = File(exists=True, mandatory=True)
    template_mask = File(exists=True, mandatory=True)
    t1w = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class RegisterTemplateOutputSpec(TraitedSpec):
    """Outputs of `RegisterTemplate`."""

    warp = File(desc='ITK displacement field that resamples the T1w onto the template')


class RegisterTemplate(SimpleInterface):
    """Affine and deformable registration of a T1w image to a template."""

    input_spec = RegisterTemplateInputSpec
    output_spec = RegisterTemplateOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.registration import to_template
        from demist_app.imaging.volumes import load_volume, save_volume

        result = to_template(
            load_volume(self.inputs.template, 'template'),
            load_volume(self.inputs.template_mask, 'brain mask of the template'),
            nb.load(self.inputs.t1w),
            nb.load(self.inputs.mask),
            threads=self.inputs.num_threads,
        )
        runtime.stdout = result.log
        path = Path(runtime.cwd) / 't1w_to_template.nii.gz'
        field = result.displacement
        save_volume(np.asarray(field.dataobj), field.affine, path)
        self._results['warp'] = str(path)
        return runtime


class ToTemplateInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ToTemplate`."""

    image = File(exists=True, mandatory=True, desc='on the native grid of the T1w')
    warp = File(exists=True, mandatory=True)
    template_mask = File(exists=True, mandatory=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class ToTemplateOutputSpec(TraitedSpec):
    """Outputs of `ToTemplate`."""

    image = File(desc='on the grid of the template, zero outside its brain')


class ToTemplate(SimpleInterface):
    """Resample a map onto a template."""

    input_spec = ToTemplateInputSpec
    output_spec = ToTemplateOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import Grid, resample
        from demist_app.imaging.volumes import save_volume

        mask = nb.load(self.inputs.template_mask)
        warped = resample(
            nb.load(self.inputs.image),
            Grid.of(mask),
            transform=nb.load(self.inputs.warp),
            threads=self.inputs.num_threads,
        )
        data = np.where(np.asarray(mask.dataobj) > 0, warped.get_fdata(dtype=np.float32), 0)
        path = Path(runtime.cwd) / Path(self.inputs.image).name
        save_volume(data.astype(np.float32), mask.affine, path)
        self._results['image'] = str(path)
        return runtime
