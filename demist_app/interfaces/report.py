"""From what a unit left on disk to its report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_layout.names import derivative_path, figure_path, report_path, summary_path
from bids_layout.pairing import Unit
from boilerplate import captions
from boilerplate.report import Figure, Headline, NodeError, Region, UnitReport, render
from demist_app import __version__
from demist_app.interfaces.metadata import SD_FACTOR, SD_OF_ERRORS

FIGURES: dict[str, dict[str, Any]] = {
    'mask': {'desc': 'brain', 'suffix': 'T1w'},
    'alignment': {'desc': 'alignment', 'suffix': 'FLAIR'},
    'mean': {'desc': 'synth', 'suffix': 'PSRmap'},
    'sd': {'desc': 'synthsd', 'suffix': 'PSRmap'},
    'distribution': {'desc': 'distribution', 'suffix': 'PSRmap'},
}
"""Name of each figure's file, by what it shows."""

_HEADLINES = {'WM': 'White matter', 'cortical GM': 'Cortical grey matter', 'GM': 'Grey matter'}
_RESULTS: tuple[tuple[dict[str, str], str], ...] = (
    ({'desc': 'synth', 'space': 'T1w', 'suffix': 'PSRmap'}, 'synthetic PSR, percent'),
    ({'desc': 'synthsd', 'space': 'T1w', 'suffix': 'PSRmap'}, 'its standard deviation, percent'),
    ({'desc': 'synth', 'suffix': 'psr'}, 'regional table'),
    ({'desc': 'preproc', 'suffix': 'T1w'}, 'T1w, bias-corrected'),
    ({'desc': 'preproc', 'space': 'T1w', 'suffix': 'FLAIR'}, 'FLAIR on the T1w'),
    ({'desc': 'brain', 'suffix': 'mask'}, 'brain mask'),
    ({'from': 'FLAIR', 'to': 'T1w', 'suffix': 'xfm', 'extension': '.txt'}, 'FLAIR to T1w, ITK'),
    ({'from': 'FLAIR', 'to': 'T1w', 'suffix': 'xfm', 'extension': '.x5'}, 'the same, X5'),
)


def write_unit_report(
    out_dir: Path, unit: Unit, failures: Sequence[tuple[str, str, str]] = ()
) -> Path:
    """Write the report of a unit from the files it left.

    Parameters
    ----------
    out_dir : Path
        Output folder.
    unit : Unit
        Only its labels are used.
    failures : sequence of (step, sentence, traceback)
        What went wrong.

    Returns
    -------
    Path
        The HTML file.
    """
    path = summary_path(out_dir, unit)
    summary: dict[str, Any] = json.loads(path.read_text('utf-8')) if path.exists() else {}
    regions = (
        () if failures else _regions(derivative_path(out_dir, unit, desc='synth', suffix='psr'))
    )
    methods = out_dir / 'logs' / 'CITATION.md'
    facts = summary.get('facts', {})
    scans = summary.get('unit', {}).get('scans', {})
    report = UnitReport(
        label=unit.label,
        participant=unit.participant,
        session=unit.session,
        version=__version__,
        headline=_headlines(regions, facts),
        summary=(*scans.items(), *facts.items()),
        notes=tuple(summary.get('unit', {}).get('notes', unit.notes)),
        warnings=tuple(summary.get('warnings', ())),
        figures=_figures(out_dir, unit, facts, lesions='Lesion mask' in scans),
        regions=regions,
        methods=methods.read_text('utf-8') if methods.exists() else '',
        provenance=summary.get('provenance', {'demist': __version__}),
        outputs=tuple(
            (str(result.relative_to(out_dir)), description)
            for entities, description in _RESULTS
            if (result := derivative_path(out_dir, unit, **entities)).exists() and not failures
        ),
        errors=tuple(NodeError(*failure) for failure in failures),
    )
    return render(report, report_path(out_dir, unit))


def _figures(
    out_dir: Path, unit: Unit, facts: dict[str, str], *, lesions: bool
) -> tuple[Figure, ...]:
    of_errors = SD_OF_ERRORS[0] in facts
    draws = 1 if of_errors else int(facts.get('Draws', 1))
    paths = {key: figure_path(out_dir, unit, **names) for key, names in FIGURES.items()}
    captioned = {
        'mask': captions.brain_mask(paths['mask'], lesions=lesions),
        'alignment': captions.alignment(paths['alignment']),
        'mean': captions.psr(paths['mean'], lesions=lesions),
        'sd': captions.spread(paths['sd'], draws, learned=SD_FACTOR in facts),
        'distribution': captions.distribution(paths['distribution']),
    }
    figures = [figure for key, figure in captioned.items() if paths[key].exists()]
    for path in sorted(paths['mask'].parent.glob('*_desc-template_T1w.svg')):
        template = path.name.split('_space-')[1].split('_')[0]
        figures.append(
            Figure(
                'Standard space',
                f'T1w in {template}',
                f'The teal line is the brain mask of {template}: the surface of the brain and its '
                'ventricles should be where the template has them.',
                path,
            )
        )
    return tuple(figures)


def _regions(table: Path) -> tuple[Region, ...]:
    if not table.exists():
        return ()
    rows = pd.read_csv(table, sep='\t').to_dict('records')
    return tuple(
        Region(row['region'], row['volume_ml'], row['psr_mean'], row['psr_sd'], row['psr_median'])
        for row in rows
    )


def _headlines(regions: Sequence[Region], facts: dict[str, str]) -> tuple[Headline, ...]:
    by_name = {region.name: region for region in regions}
    shown = [
        Headline(label, f'{by_name[name].median:.1f}', '%', 'median synthetic PSR')
        for name, label in _HEADLINES.items()
        if name in by_name
    ]
    if lesions := by_name.get('lesions'):
        shown.append(
            Headline('Lesions', f'{lesions.median:.1f}', '%', f'{lesions.volume_ml:.1f} mL')
        )
    if volume := facts.get('Brain volume (mL)'):
        shown.append(Headline('Brain volume', volume, 'mL', 'inside the mask'))
    return tuple(shown)


class WriteReportInputSpec(BaseInterfaceInputSpec):
    """Inputs of `WriteReport`."""

    out_dir = traits.Directory(exists=True, mandatory=True)
    summary = File(exists=True, mandatory=True, desc='what `Summarise` wrote')


class WriteReportOutputSpec(TraitedSpec):
    """Outputs of `WriteReport`."""

    report = File()


class WriteReport(SimpleInterface):
    """Write the report of a unit that finished."""

    input_spec = WriteReportInputSpec
    output_spec = WriteReportOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        summary = json.loads(Path(self.inputs.summary).read_text('utf-8'))
        unit = Unit(
            participant=summary['unit']['participant'],
            session=summary['unit']['session'] or None,
            t1w=Path(),
            flair=Path(),
        )
        self._results['report'] = str(write_unit_report(Path(self.inputs.out_dir), unit))
        return runtime
