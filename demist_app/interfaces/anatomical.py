"""From raw T1w and FLAIR to normalised images on the grid the models work on."""

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

FULL_COVERAGE = 0.98
"""Share of the brain the FLAIR must show for the report not to warn."""
LIKELY_SIMILARITY = 1.06
"""Normalised mutual information at 4 mm below which T1w and FLAIR may be of two people: 1.09 to
1.22 was seen within, 1.03 to 1.07 between heads."""


class CheckInputsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `CheckInputs`."""

    t1w = File(exists=True, mandatory=True, desc='T1w as found')
    flair = File(exists=True, mandatory=True, desc='FLAIR as found')
    t1w_metadata = traits.Dict(desc='sidecar of the T1w')
    flair_metadata = traits.Dict(desc='sidecar of the FLAIR')


class CheckInputsOutputSpec(TraitedSpec):
    """Outputs of `CheckInputs`."""

    t1w = File(desc='T1w, RAS, float32')
    flair = File(desc='FLAIR, RAS, float32')
    stripped = traits.Bool(desc='the T1w holds the brain only')
    warnings = traits.List(traits.Str, desc='what a reader of the maps should know')
    facts = traits.Dict(desc='geometry of both scans, for the report')


class CheckInputs(SimpleInterface):
    """Read both scans completely, refuse what cannot be used, reorient to RAS."""

    input_spec = CheckInputsInputSpec
    output_spec = CheckInputsOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import reorient_ras
        from demist_app.imaging.volumes import (
            field_strength,
            header_warnings,
            is_skull_stripped,
            load_volume,
            save_volume,
        )

        warnings: list[str] = []
        facts: dict[str, str] = {}
        for name in ('t1w', 'flair'):
            what = 'T1w' if name == 't1w' else 'FLAIR'
            metadata = getattr(self.inputs, f'{name}_metadata') or {}
            image = load_volume(getattr(self.inputs, name), what)
            warnings += [f'{what}: {text}' for text in header_warnings(image, metadata)]
            if name == 't1w':
                self._results['stripped'] = bool(is_skull_stripped(image, metadata))
            image = reorient_ras(image)
            path = Path(runtime.cwd) / f'{name}.nii'
            save_volume(image.get_fdata(dtype=np.float32), image.affine, path)
            self._results[name] = str(path)
            facts[f'{what} voxels'] = ' × '.join(map(str, image.shape))
            facts[f'{what} voxel size (mm)'] = ' × '.join(
                f'{size:.2f}' for size in image.header.get_zooms()[:3]
            )
            if strength := field_strength(metadata):
                facts[f'{what} field strength (T)'] = f'{strength:g}'
        self._results['warnings'] = warnings
        self._results['facts'] = facts
        return runtime


class BrainMaskInputSpec(BaseInterfaceInputSpec):
    """Inputs of `BrainMask`."""

    t1w = File(exists=True, mandatory=True, desc='T1w, RAS')
    source = traits.Str(mandatory=True, desc='the scan as the user knows it, for messages')
    stripped = traits.Bool(mandatory=True, desc='the T1w holds the brain only')
    given = File(exists=True, desc='mask from a derivative data set, on any grid')
    mode = traits.Enum('auto', 'skip', 'force', usedefault=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class BrainMaskOutputSpec(TraitedSpec):
    """Outputs of `BrainMask`."""

    mask = File(desc='brain mask on the grid of the T1w, uint8')
    origin = traits.Str(desc='where the mask comes from')
    warnings = traits.List(traits.Str)
    volume_ml = traits.Float()


class BrainMask(SimpleInterface):
    """Take the mask that is given, the brain that is left, or ask the network."""

    input_spec = BrainMaskInputSpec
    output_spec = BrainMaskOutputSpec

    def _run_interface(self, runtime):
        from nipype.interfaces.base import isdefined

        from demist_app.imaging.brain_extraction import extract_brain, mask_warnings
        from demist_app.imaging.conform import Grid, resample
        from demist_app.imaging.stripped import brain_of_stripped
        from demist_app.imaging.volumes import InputError, load_volume, save_volume

        t1w = nb.load(self.inputs.t1w)
        if self.inputs.mode != 'force' and isdefined(self.inputs.given):
            given = load_volume(self.inputs.given, 'brain mask')
            given = nb.Nifti1Image((given.get_fdata() > 0.5).astype(np.uint8), given.affine)
            mask = resample(given, Grid.of(t1w), interpolation='label')
            origin = 'derivative'
        elif self.inputs.mode == 'skip' or (self.inputs.mode == 'auto' and self.inputs.stripped):
            mask = brain_of_stripped(t1w)
            origin = 'already skull-stripped T1w'
        else:
            try:
                mask = extract_brain(t1w, threads=self.inputs.num_threads)
            except InputError as error:
                raise InputError(f'{self.inputs.source}: {error}') from error
            origin = 'brain extraction network'
        if not np.any(mask.dataobj):
            raise InputError(f'{self.inputs.source}: the brain mask ({origin}) is empty')
        path = save_volume(
            np.asarray(mask.dataobj, np.uint8), mask.affine, Path(runtime.cwd) / 'mask.nii'
        )
        voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        self._results['mask'] = str(path)
        self._results['origin'] = origin
        self._results['warnings'] = mask_warnings(mask)
        self._results['volume_ml'] = float(np.count_nonzero(mask.dataobj) * voxel_ml)
        return runtime


class CorrectBiasInputSpec(BaseInterfaceInputSpec):
    """Inputs of `CorrectBias`."""

    image = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True, desc='brain, on the same grid')
    spacing = traits.Float(4.0, usedefault=True, desc='mm between fitted voxels')
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class CorrectBiasOutputSpec(TraitedSpec):
    """Outputs of `CorrectBias`."""

    image = File(desc='without the receive field')


class CorrectBias(SimpleInterface):
    """N4 bias field correction."""

    input_spec = CorrectBiasInputSpec
    output_spec = CorrectBiasOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.bias import correct_bias
        from demist_app.imaging.volumes import save_volume

        corrected, _ = correct_bias(
            nb.load(self.inputs.image),
            nb.load(self.inputs.mask),
            threads=self.inputs.num_threads,
            spacing=self.inputs.spacing,
        )
        path = Path(runtime.cwd) / 'corrected.nii'
        save_volume(corrected.get_fdata(dtype=np.float32), corrected.affine, path)
        self._results['image'] = str(path)
        return runtime


class RegisterRigidInputSpec(BaseInterfaceInputSpec):
    """Inputs of `RegisterRigid`."""

    fixed = File(exists=True, mandatory=True, desc='T1w')
    moving = File(exists=True, mandatory=True, desc='FLAIR')
    fixed_mask = File(exists=True, mandatory=True, desc='brain on the grid of the T1w')


class RegisterRigidOutputSpec(TraitedSpec):
    """Outputs of `RegisterRigid`."""

    itk = File(desc='ITK text transform that resamples the moving image onto the fixed one')
    x5 = File(desc='the same in X5')
    mask = File(desc='brain on the grid of the moving image, uint8')
    rotation_deg = traits.Float()
    translation_mm = traits.Float(desc='displacement of the centre of the brain')
    warnings = traits.List(traits.Str)


class RegisterRigid(SimpleInterface):
    """Find the rigid motion between FLAIR and T1w."""

    input_spec = RegisterRigidInputSpec
    output_spec = RegisterRigidOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import Grid, resample
        from demist_app.imaging.registration import rigid
        from demist_app.imaging.transforms import write_itk, write_x5
        from demist_app.imaging.volumes import save_volume

        cwd = Path(runtime.cwd)
        fixed, moving = nb.load(self.inputs.fixed), nb.load(self.inputs.moving)
        mask = nb.load(self.inputs.fixed_mask)
        result = rigid(fixed, moving, mask)
        matrix = result.matrix
        runtime.stdout = result.log
        write_itk(matrix, cwd / 'flair_to_t1w.txt')
        write_x5(matrix, fixed, cwd / 'flair_to_t1w.x5')
        on_moving = resample(
            mask, Grid.of(moving), transform=np.linalg.inv(matrix), interpolation='nearest'
        )
        save_volume(
            np.asarray(on_moving.dataobj, np.uint8), on_moving.affine, cwd / 'moving_mask.nii'
        )
        voxels = np.argwhere(np.asarray(mask.dataobj) > 0).mean(0)
        centre = nb.affines.apply_affine(mask.affine, voxels)
        self._results |= {
            'itk': str(cwd / 'flair_to_t1w.txt'),
            'x5': str(cwd / 'flair_to_t1w.x5'),
            'mask': str(cwd / 'moving_mask.nii'),
            'warnings': _doubts(result.coverage, result.similarity),
            'rotation_deg': float(
                np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))
            ),
            'translation_mm': float(
                np.linalg.norm(nb.affines.apply_affine(matrix, centre) - centre)
            ),
        }
        return runtime


def _doubts(coverage: float, similarity: float) -> list[str]:
    warnings = []
    if coverage < FULL_COVERAGE:
        warnings.append(
            f'FLAIR: it covers {coverage:.0%} of the brain; the rest of the map rests on the T1w '
            'alone'
        )
    if similarity < LIKELY_SIMILARITY:
        warnings.append(
            f'FLAIR: it resembles the T1w little (similarity {similarity:.3f}); look at the '
            'alignment, and whether both scans are of one person'
        )
    return warnings


class ConformInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Conform`."""

    t1w = File(exists=True, mandatory=True, desc='bias-corrected T1w')
    flair = File(exists=True, mandatory=True, desc='bias-corrected FLAIR')
    mask = File(exists=True, mandatory=True, desc='brain on the grid of the T1w')
    itk = File(exists=True, mandatory=True, desc='FLAIR to T1w')
    lesions = File(exists=True, desc='lesion mask on any grid')
    lesion_space = traits.Enum('T1w', 'FLAIR', usedefault=True)


class ConformOutputSpec(TraitedSpec):
    """Outputs of `Conform`."""

    t1w = File(desc='1 mm, RAS, [0, 1] inside the brain')
    flair = File(desc='likewise')
    mask = File(desc='brain on the 1 mm grid')
    lesions = File(desc='lesions on the 1 mm grid, where a mask was given')
    flair_in_t1w = File(desc='bias-corrected FLAIR on the native grid of the T1w')


class Conform(SimpleInterface):
    """Resample once from the native grids, crop to the brain and normalise."""

    input_spec = ConformInputSpec
    output_spec = ConformOutputSpec

    def _run_interface(self, runtime):
        from nipype.interfaces.base import isdefined

        from demist_app.imaging.conform import Grid, brain_grid, rearranged, resample
        from demist_app.imaging.normalise import normalise
        from demist_app.imaging.transforms import read_itk
        from demist_app.imaging.volumes import load_volume, save_volume

        cwd = Path(runtime.cwd)
        t1w, flair = nb.load(self.inputs.t1w), nb.load(self.inputs.flair)
        native_mask = nb.load(self.inputs.mask)
        flair_to_t1w = read_itk(self.inputs.itk)
        grid = brain_grid(native_mask)
        mask = resample(native_mask, grid, interpolation='label')
        brain = np.asarray(mask.dataobj) > 0
        save_volume(brain.astype(np.uint8), grid.affine, cwd / 'mask.nii')
        native = resample(flair, Grid.of(t1w), flair_to_t1w, 'bspline')
        # a T1w of 1 mm has the voxels of the grid
        flair_on_grid = rearranged(native, grid)
        if flair_on_grid is None:
            flair_on_grid = resample(flair, grid, flair_to_t1w, 'bspline')
        for name, resampled in (
            ('t1w', resample(t1w, grid, interpolation='bspline')),
            ('flair', flair_on_grid),
        ):
            data, _ = normalise(resampled.get_fdata(dtype=np.float32), brain)
            save_volume(data, grid.affine, cwd / f'{name}.nii')
            self._results[name] = str(cwd / f'{name}.nii')
        save_volume(native.get_fdata(dtype=np.float32), native.affine, cwd / 'flair_in_t1w.nii')
        if isdefined(self.inputs.lesions):
            matrix = flair_to_t1w if self.inputs.lesion_space == 'FLAIR' else None
            lesions = load_volume(self.inputs.lesions, 'lesion mask', blank=True)
            binary = (lesions.get_fdata(dtype=np.float32) > 0.5).astype(np.uint8)
            on_grid = resample(
                nb.Nifti1Image(binary, lesions.affine),
                grid,
                transform=matrix,
                interpolation='label',
            )
            inside = (np.asarray(on_grid.dataobj) > 0) & brain
            save_volume(inside.astype(np.uint8), grid.affine, cwd / 'lesions.nii')
            self._results['lesions'] = str(cwd / 'lesions.nii')
        self._results |= {
            'mask': str(cwd / 'mask.nii'),
            'flair_in_t1w': str(cwd / 'flair_in_t1w.nii'),
        }
        return runtime
