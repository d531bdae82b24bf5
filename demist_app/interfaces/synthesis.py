"""From normalised scans to PSR maps and their regional table."""

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

OUTLIER_DISTANCE = 4.0
"""Distance from the training intensities, in their SDs, beyond which the report warns where a model
has no better record of its training scans."""


class SynthesiseInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Synthesise`."""

    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    flair = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    mask = File(exists=True, mandatory=True)
    bundle = traits.Directory(exists=True, mandatory=True, desc='model bundle', nohash=True)
    bundle_sha256 = traits.Str(mandatory=True, desc='digest the bundle must have')
    n_samples = traits.Int(1, usedefault=True)
    seed = traits.Int(0, usedefault=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='takes a GPU slot')
    num_threads = traits.Int(1, usedefault=True, nohash=True)
    memory_gb = traits.Float(nohash=True, desc='what the process may fill, 10^9 bytes')


class SynthesiseOutputSpec(TraitedSpec):
    """Outputs of `Synthesise`."""

    mean = File(desc='synthetic PSR, percent, 1 mm')
    sd = File(desc='its standard deviation, percent, 1 mm; undefined for one draw')
    warnings = traits.List(traits.Str)
    facts = traits.Dict(desc='sampler, draws and more, as the sidecars tell them')
    distance = traits.Dict(desc='distance of the intensities from the training scans, in SDs')


class Synthesise(SimpleInterface):
    """Run the model of a bundle on one brain."""

    input_spec = SynthesiseInputSpec
    output_spec = SynthesiseOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.volumes import save_volume
        from demist_app.model.bundle import BundleError, load_bundle
        from demist_app.model.intensities import distance
        from demist_app.model.outliers import judge
        from demist_app.model.predictor import load_predictor
        from demist_app.model.signature import signature

        bundle = load_bundle(Path(self.inputs.bundle))
        if bundle.sha256 != self.inputs.bundle_sha256:
            raise BundleError(f'{bundle.path} was replaced while demist was running: run it again')
        t1w = nb.load(self.inputs.t1w)
        flair = nb.load(self.inputs.flair)
        mask = np.asarray(nb.load(self.inputs.mask).dataobj) > 0
        images = np.stack([image.get_fdata(dtype=np.float32) for image in (t1w, flair)])
        prediction = load_predictor(bundle).predict(
            images,
            mask,
            n_samples=self.inputs.n_samples,
            seed=self.inputs.seed,
            device=self.inputs.device,
            threads=self.inputs.num_threads,
            memory_gb=self.inputs.memory_gb if isdefined(self.inputs.memory_gb) else None,
        )
        for name, volume in (('mean', prediction.mean), ('sd', prediction.sd)):
            if volume is not None:
                path = Path(runtime.cwd) / f'{name}.nii'
                save_volume(volume, t1w.affine, path)
                self._results[name] = str(path)
        facts, warnings = dict(prediction.facts), list(prediction.warnings)
        distances = distance(images, mask, bundle.metadata['intensity_reference'])
        if known := bundle.metadata.get('outliers'):
            seen = signature(images, mask)
            if prediction.latent is not None:
                seen['latent'] = prediction.latent
            verdict = judge(seen, known)
            facts |= verdict.facts()
            if verdict.alarm:
                warnings.append(verdict.warning())
        else:
            warnings += [
                f'{channel}: the intensities lie {far:.1f} SD from those of the training scans, '
                'so the map may be far off'
                for channel, far in distances.items()
                if far > OUTLIER_DISTANCE
            ]
        self._results |= {
            'distance': distances,
            'warnings': warnings,
            'facts': facts,
        }
        return runtime


class ToNativeInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ToNative`."""

    image = File(exists=True, mandatory=True, desc='map on the 1 mm grid')
    mask = File(exists=True, mandatory=True, desc='brain on the 1 mm grid')
    reference = File(exists=True, mandatory=True, desc='brain on the native grid')


class ToNativeOutputSpec(TraitedSpec):
    """Outputs of `ToNative`."""

    image = File(desc='map on the native grid of the T1w, zero outside the brain')


class ToNative(SimpleInterface):
    """Bring a map back to the grid of the T1w."""

    input_spec = ToNativeInputSpec
    output_spec = ToNativeOutputSpec

    def _run_interface(self, runtime):
        from demist_app.imaging.conform import Grid, resample
        from demist_app.imaging.volumes import save_volume

        reference = nb.load(self.inputs.reference)
        grid = Grid.of(reference)
        values = resample(nb.load(self.inputs.image), grid).get_fdata(dtype=np.float32)
        mask = nb.load(self.inputs.mask)
        weight = nb.Nifti1Image(np.asarray(mask.dataobj, np.float32), mask.affine)
        weights = resample(weight, grid).get_fdata(dtype=np.float32)
        # the zeros around the brain must not darken its rim
        data = np.where(np.asarray(reference.dataobj) > 0, values / np.maximum(weights, 0.05), 0)
        path = Path(runtime.cwd) / Path(self.inputs.image).name
        save_volume(data.astype(np.float32), reference.affine, path)
        self._results['image'] = str(path)
        return runtime


class RegionalTableInputSpec(BaseInterfaceInputSpec):
    """Inputs of `RegionalTable`."""

    mean = File(exists=True, mandatory=True, desc='PSR, percent')
    sd = File(exists=True, desc='SD of the PSR, percent')
    tissue = File(exists=True, mandatory=True, desc='1 CSF, 2 grey matter, 3 white matter')
    lesions = File(exists=True)
    deep_gm = File(exists=True)


class RegionalTableOutputSpec(TraitedSpec):
    """Outputs of `RegionalTable`."""

    table = File(desc='TSV, one row per region')
    samples = File(desc='NPZ, PSR of up to 20,000 voxels per region, for the figure')


class RegionalTable(SimpleInterface):
    """Mean, SD, median and volume of the PSR per tissue, lesions and NAWM."""

    input_spec = RegionalTableInputSpec
    output_spec = RegionalTableOutputSpec

    def _run_interface(self, runtime):
        import pandas as pd

        from demist_app.imaging.tissue import regions

        mean_image = nb.load(self.inputs.mean)
        mean = mean_image.get_fdata(dtype=np.float32)
        sd = np.full_like(mean, np.nan)
        if isdefined(self.inputs.sd):
            sd = nb.load(self.inputs.sd).get_fdata(dtype=np.float32)

        def optional(name: str) -> np.ndarray | None:
            path = getattr(self.inputs, name)
            if not isdefined(path):
                return None
            return np.asarray(nb.Nifti1Image.from_filename(path).dataobj) > 0

        masks = regions(
            np.asarray(nb.load(self.inputs.tissue).dataobj),
            optional('lesions'),
            deep_gm=optional('deep_gm'),
        )
        voxel_ml = abs(np.linalg.det(mean_image.affine[:3, :3])) / 1000
        rows, samples = [], {}
        for region, mask in masks.items():
            values = mean[mask]
            empty = values.size == 0
            rows.append(
                {
                    'region': region,
                    'volume_ml': values.size * voxel_ml,
                    'psr_mean': np.nan if empty else values.mean(),
                    'psr_sd': np.nan if empty else values.std(),
                    'psr_median': np.nan if empty else np.median(values),
                    'synthsd_mean': np.nan if empty else sd[mask].mean(),
                }
            )
            samples[region] = values[:: max(1, values.size // 20_000)]
        cwd = Path(runtime.cwd)
        pd.DataFrame(rows).to_csv(
            cwd / 'psr.tsv', sep='\t', index=False, float_format='%.4f', na_rep='n/a'
        )
        np.savez(cwd / 'samples.npz', **samples)
        self._results |= {'table': str(cwd / 'psr.tsv'), 'samples': str(cwd / 'samples.npz')}
        return runtime
