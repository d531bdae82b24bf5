"""Sidecars of the results and the summary a report is made from."""

import json
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

NOT_MEASURED = 'This map is synthetic, not measured.'
SD_FACTOR = 'Learned factor on the SD'
"""Fact of a unit, in its summary; absent where no factor was learned."""
SD_OF_ERRORS = 'Standard deviation', 'of errors on scans kept from training'
"""Fact of a unit, and its value, where the SD is not that over draws."""


class AnatMetadataInputSpec(BaseInterfaceInputSpec):
    """Inputs of `AnatMetadata`."""

    t1w_source = traits.Str(mandatory=True, desc='BIDS URI')
    flair_source = traits.Str(mandatory=True, desc='BIDS URI')
    mask_source = traits.Str(desc='BIDS URI or path of a mask that was given')
    spatial_reference = traits.Str(mandatory=True, desc='BIDS URI of the preprocessed T1w')
    stripped = traits.Bool(mandatory=True)
    mask_origin = traits.Str(mandatory=True)


class AnatMetadataOutputSpec(TraitedSpec):
    """Outputs of `AnatMetadata`."""

    t1w = traits.Dict()
    flair = traits.Dict()
    mask = traits.Dict()


class AnatMetadata(SimpleInterface):
    """Sidecars of the preprocessed scans and the brain mask."""

    input_spec = AnatMetadataInputSpec
    output_spec = AnatMetadataOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        reference = {'SpatialReference': inputs.spatial_reference}
        mask_sources = [inputs.mask_source] if isdefined(inputs.mask_source) else []
        self._results |= {
            't1w': {
                'Description': 'T1w in RAS orientation, N4-corrected inside the brain',
                'Sources': [inputs.t1w_source],
                'SkullStripped': inputs.stripped,
            },
            'flair': {
                'Description': 'FLAIR, N4-corrected inside the brain, rigidly aligned with the T1w',
                'Sources': [inputs.flair_source, inputs.t1w_source],
                'SkullStripped': inputs.stripped,
                **reference,
            },
            'mask': {
                'Description': f'Brain mask; origin: {inputs.mask_origin}',
                'Type': 'Brain',
                'Sources': mask_sources or [inputs.t1w_source],
                **reference,
            },
        }
        return runtime


class PSRMetadataInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PSRMetadata`."""

    t1w_source = traits.Str(mandatory=True)
    flair_source = traits.Str(mandatory=True)
    spatial_reference = traits.Str(mandatory=True)
    model = traits.Dict(mandatory=True, desc='Name, Version, SHA256')
    seed = traits.Int(mandatory=True)
    device = traits.Str(mandatory=True)
    facts = traits.Dict(mandatory=True, desc='of the synthesis')
    distance = traits.Dict(mandatory=True)
    warnings = traits.List(traits.Str)
    lesions = traits.Dict(desc='of `DescribeLesions`, where a lesion mask was given')


class PSRMetadataOutputSpec(TraitedSpec):
    """Outputs of `PSRMetadata`."""

    mean = traits.Dict()
    sd = traits.Dict()


class PSRMetadata(SimpleInterface):
    """Sidecars of the PSR map and of its standard deviation."""

    input_spec = PSRMetadataInputSpec
    output_spec = PSRMetadataOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        common = {
            'Units': 'percent',
            'Quantity': 'Macromolecular-to-free pool size ratio, PSR = M0r / M0f (not the pool '
            'fraction M0r / (M0r + M0f))',
            'Synthetic': True,
            'Sources': [inputs.t1w_source, inputs.flair_source],
            'SkullStripped': True,
            'SpatialReference': inputs.spatial_reference,
            'Model': inputs.model,
            'RandomSeed': inputs.seed,
            'Device': inputs.device,
            'IntensityDistance': {
                channel: round(score, 2) for channel, score in inputs.distance.items()
            },
            **inputs.facts,
        }
        if inputs.warnings:
            common['Warnings'] = list(inputs.warnings)
        self._results |= {
            'mean': {
                'Description': f'PSR synthesised from T1w and FLAIR. {NOT_MEASURED}',
                **common,
                **({'LesionPairs': inputs.lesions} if isdefined(inputs.lesions) else {}),
            },
            'sd': {
                'Description': 'Standard deviation per voxel of the PSR synthesised from T1w and '
                f'FLAIR, as the model estimates it. {NOT_MEASURED}',
                **common,
            },
        }
        return runtime


class SummariseInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Summarise`."""

    unit = traits.Dict(mandatory=True, desc='label, participant, session, scans, notes')
    provenance = traits.Dict(mandatory=True)
    facts = traits.Dict(mandatory=True, desc='geometry of the scans')
    mask_origin = traits.Str(mandatory=True)
    brain_volume_ml = traits.Float(mandatory=True)
    rotation_deg = traits.Float(mandatory=True)
    translation_mm = traits.Float(mandatory=True)
    input_warnings = traits.List(traits.Str)
    mask_warnings = traits.List(traits.Str)
    registration_warnings = traits.List(traits.Str)
    synthesis_warnings = traits.List(traits.Str)
    synthesis_facts = traits.Dict()
    distance = traits.Dict()
    anat_done = traits.Any(desc='only its arrival matters')
    psr_done = traits.Any(desc='only its arrival matters')
    out_file = traits.Str(mandatory=True, desc='where the report will look for it')


class SummariseOutputSpec(TraitedSpec):
    """Outputs of `Summarise`."""

    out_file = File()


class Summarise(SimpleInterface):
    """Put what the steps of a unit found into one JSON file beside its figures."""

    input_spec = SummariseInputSpec
    output_spec = SummariseOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        from bids_layout.dataset import write_whole
        from demist_app.model.presets import BRIDGE
        from demist_app.model.spread import draws_stated

        inputs = self.inputs
        facts = {
            **inputs.facts,
            'Brain mask': inputs.mask_origin,
            'Brain volume (mL)': f'{inputs.brain_volume_ml:.0f}',
            'FLAIR to T1w': f'{inputs.rotation_deg:.2f}°, {inputs.translation_mm:.2f} mm',
        }
        if isdefined(inputs.distance):
            facts['Distance from the training intensities (SD)'] = ', '.join(
                f'{channel} {score:.1f}' for channel, score in inputs.distance.items()
            )
        if isdefined(inputs.synthesis_facts):
            found = inputs.synthesis_facts
            if found['Draws'] > 1:
                facts['Draws'] = str(found['Draws'])
            if found.get('SDCalibrated'):
                name, value = SD_OF_ERRORS
                if draws_stated(found) > 1:
                    name, value = SD_FACTOR, f'{found["SDScale"]:.2f}'
                facts[name] = value
            if 'OutlierScore' in found:
                facts['Unlike the training scans'] = (
                    f'{found["OutlierScore"]:.2f}, alarm above {found["OutlierThreshold"]:.2f} '
                    f'(false alarms: {100 * found["OutlierFalseAlarmRate"]:.1f} %)'
                )
            if 'Window' in found:
                how = f'{found["Sampler"]}, {found["SamplingSteps"]} steps from '
                how += f'{found["SamplingStrength"]:.0%} noise'
                if found['Sampler'] == BRIDGE:
                    how = f'evaluations of the denoiser: {found["SamplingSteps"]}, without noise'
                facts['Sampling'] = f'{how}, {found["Window"]}, on {found["Device"]}'
        warnings = [
            text
            for group in (
                inputs.input_warnings,
                inputs.mask_warnings,
                inputs.registration_warnings,
                inputs.synthesis_warnings,
            )
            if isdefined(group)
            for text in group
        ]
        summary = {
            'unit': inputs.unit,
            'facts': facts,
            # the same for the group level, which computes with them
            'measures': {
                'brain_volume_ml': inputs.brain_volume_ml,
                'rotation_deg': inputs.rotation_deg,
                'translation_mm': inputs.translation_mm,
            },
            'warnings': warnings,
            'provenance': inputs.provenance,
        }
        path = Path(inputs.out_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(summary, indent=2, ensure_ascii=False) + '\n')
        self._results['out_file'] = str(path)
        return runtime
