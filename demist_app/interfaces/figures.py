"""Nipype nodes around the figures of `boilerplate`."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _FigureOutputSpec(TraitedSpec):
    figure = File(desc='self-contained SVG')


class PlotMaskInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PlotMask`."""

    background = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    lesions = File(exists=True)
    title = traits.Str(mandatory=True)


class PlotMask(SimpleInterface):
    """Outline of brain and lesions on a scan."""

    input_spec = PlotMaskInputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime):
        from boilerplate.figures import plot_contours

        lesions = self.inputs.lesions
        self._results['figure'] = str(
            plot_contours(
                Path(self.inputs.background),
                Path(self.inputs.mask),
                Path(runtime.cwd) / 'mask.svg',
                title=self.inputs.title,
                lesions=Path(lesions) if isdefined(lesions) else None,
            )
        )
        return runtime


class PlotAlignmentInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PlotAlignment`."""

    fixed = File(exists=True, mandatory=True, desc='T1w')
    before = File(exists=True, mandatory=True, desc='FLAIR where its header puts it')
    after = File(exists=True, mandatory=True, desc='FLAIR where the registration put it')
    mask = File(exists=True, mandatory=True)


class PlotAlignment(SimpleInterface):
    """FLAIR on T1w before and after registration."""

    input_spec = PlotAlignmentInputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime):
        from boilerplate.figures import plot_alignment

        self._results['figure'] = str(
            plot_alignment(
                Path(self.inputs.fixed),
                Path(self.inputs.before),
                Path(self.inputs.after),
                Path(self.inputs.mask),
                Path(runtime.cwd) / 'alignment.svg',
            )
        )
        return runtime


class PlotMapInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PlotMap`."""

    image = File(exists=True, mandatory=True, desc='PSR or its SD, percent')
    mask = File(exists=True, mandatory=True)
    lesions = File(exists=True)
    kind = traits.Enum('mean', 'sd', mandatory=True)


class PlotMap(SimpleInterface):
    """Mosaic of a map with its colour bar."""

    input_spec = PlotMapInputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime):
        from boilerplate.figures import plot_psr

        out = Path(runtime.cwd) / f'{self.inputs.kind}.svg'
        image, mask = Path(self.inputs.image), Path(self.inputs.mask)
        lesions = Path(self.inputs.lesions) if isdefined(self.inputs.lesions) else None
        if self.inputs.kind == 'mean':
            plot_psr(image, mask, out, lesions=lesions)
        else:
            plot_psr(
                image,
                mask,
                out,
                vmax=None,
                label='SD of the synthetic PSR (percentage points)',
                cmap='magma',
                title='Standard deviation of the synthetic pool size ratio',
            )
        self._results['figure'] = str(out)
        return runtime


class PlotDistributionInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PlotDistribution`."""

    samples = File(exists=True, mandatory=True, desc='NPZ, values by region')


class PlotDistribution(SimpleInterface):
    """PSR by tissue."""

    input_spec = PlotDistributionInputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime):
        from boilerplate.distribution import plot_distribution

        with np.load(self.inputs.samples) as samples:
            values = {region: samples[region] for region in samples.files}
        self._results['figure'] = str(
            plot_distribution(values, Path(runtime.cwd) / 'distribution.svg')
        )
        return runtime


class PlotComparisonInputSpec(BaseInterfaceInputSpec):
    """Inputs of `PlotComparison`."""

    measured = File(exists=True, mandatory=True, desc='PSR, percent')
    synthetic = File(exists=True, mandatory=True, desc='PSR, percent, same grid')
    mask = File(exists=True, mandatory=True, desc='where it was measured, same grid')
    label = traits.Str(mandatory=True, desc='name of the file: unlike those on the same page')


class PlotComparison(SimpleInterface):
    """A measured map, a synthetic one, and their difference."""

    input_spec = PlotComparisonInputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime):
        from boilerplate.comparison import plot_comparison

        self._results['figure'] = str(
            plot_comparison(
                Path(self.inputs.measured),
                Path(self.inputs.synthetic),
                Path(self.inputs.mask),
                Path(runtime.cwd) / f'{self.inputs.label}.svg',
            )
        )
        return runtime
