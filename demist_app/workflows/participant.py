"""The participant level: one branch per unit, so that no unit can hurt another."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_layout.names import bids_uri, derivative_path, summary_path
from bids_layout.pairing import Unit
from demist_app import __version__
from demist_app.imaging.templates import Template
from demist_app.interfaces.metadata import AnatMetadata, Summarise
from demist_app.interfaces.report import WriteReport
from demist_app.model.bundle import Bundle
from demist_app.settings import Settings
from demist_app.workflows.anatomical import anatomical_reference, init_anat_preproc_wf
from demist_app.workflows.outputs import init_anat_outputs_wf, init_psr_outputs_wf
from demist_app.workflows.synthesis import init_psr_metadata_node, init_synthesis_wf, map_kinds
from demist_app.workflows.template import init_template_wf

PREAMBLE = """
Results included in this manuscript come from preprocessing and synthesis performed with *demist* \
{version}, a BIDS App [@bids; @bidsapps] based on *Nipype* [@nipype] and *niworkflows* \
[@niworkflows]. Scans were found with *PyBIDS* [@pybids]. """
POSTAMBLE = """
Images were read and written with *NiBabel* [@nibabel]; array work used *NumPy* [@numpy] and \
*SciPy* [@scipy]. """


def init_demist_wf(
    *, units: Sequence[Unit], settings: Settings, bundle: Bundle, device: str
) -> LiterateWorkflow:
    """Build the graph of a participant-level run.

    Parameters
    ----------
    units : sequence of Unit
    settings : Settings
    bundle : Bundle
        Verified model.
    device : str
        ``cpu`` or ``cuda[:N]``: ``auto`` is resolved by the caller.
    """
    workflow = LiterateWorkflow(name='demist_wf')
    workflow.base_dir = str(settings.execution.work_dir)
    for unit in units:
        workflow.add_nodes(
            [init_unit_wf(unit=unit, settings=settings, bundle=bundle, device=device)]
        )
    return workflow


def workflow_name(unit: Unit) -> str:
    """Return the name of a unit's branch: one component of its nodes' full names."""
    # BIDS labels are alphanumeric or "+", nipype names are not allowed the latter
    return re.sub(r'\W', '_', unit.label.replace('+', '_plus_')) + '_wf'


def unit_seed(unit: Unit, settings: Settings) -> int:
    """Return the seed of one unit: its own, and the same whatever else is in the cohort."""
    text = f'{settings.processing.random_seed}:{unit.label}'
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def init_unit_wf(
    *, unit: Unit, settings: Settings, bundle: Bundle, device: str
) -> LiterateWorkflow:
    """Build the branch of one participant and session; see `init_demist_wf`."""
    out_dir = settings.inputs.out_dir
    workflow = LiterateWorkflow(name=workflow_name(unit))
    workflow.__desc__ = PREAMBLE.format(version=__version__)
    workflow.__postdesc__ = POSTAMBLE

    def uri(path: Path) -> str:
        return bids_uri(path, settings.inputs.bids_dir, settings.inputs.derivatives)

    preprocessed = derivative_path(out_dir, unit, desc='preproc', suffix='T1w')
    sources = {
        't1w_source': uri(anatomical_reference(unit, settings)),
        'flair_source': uri(unit.flair),
        'spatial_reference': f'bids::{preprocessed.relative_to(out_dir)}',
    }
    anat = init_anat_preproc_wf(unit=unit, settings=settings)
    anat_outputs = init_anat_outputs_wf(unit=unit, settings=settings)
    anat_metadata = pe.Node(AnatMetadata(**sources), name='anat_metadata', mem_gb=0.2)
    if unit.brain_mask and settings.processing.skull_strip != 'force':
        anat_metadata.inputs.mask_source = uri(unit.brain_mask)
    summarise = pe.Node(
        Summarise(
            unit={
                'label': unit.label,
                'participant': unit.participant,
                'session': unit.session or '',
                'scans': {
                    'T1w': sources['t1w_source'],
                    'FLAIR': sources['flair_source'],
                    **({'Lesion mask': uri(unit.lesion_mask)} if unit.lesion_mask else {}),
                },
                'notes': list(unit.notes),
            },
            provenance=_provenance(settings, bundle),
            out_file=str(summary_path(out_dir, unit)),
        ),
        name='summarise',
        mem_gb=0.2,
    )
    report = pe.Node(WriteReport(out_dir=str(out_dir)), name='report', mem_gb=0.5)
    workflow.connect([
        (anat, anat_metadata, [
            ('outputnode.stripped', 'stripped'),
            ('outputnode.mask_origin', 'mask_origin'),
        ]),
        (anat_metadata, anat_outputs, [
            ('t1w', 'inputnode.meta_t1w'),
            ('flair', 'inputnode.meta_flair'),
            ('mask', 'inputnode.meta_mask'),
        ]),
        (anat, anat_outputs, [
            (f'outputnode.{field}', f'inputnode.{field}')
            for field in ('t1w', 'flair', 'mask', 'itk', 'x5', 'raw_flair')
        ]),
        (anat, summarise, [
            (f'outputnode.{field}', field)
            for field in (
                'facts', 'mask_origin', 'brain_volume_ml', 'rotation_deg', 'translation_mm',
                'input_warnings', 'mask_warnings', 'registration_warnings',
            )
        ]),
        (anat_outputs, summarise, [('outputnode.done', 'anat_done')]),
        (summarise, report, [('out_file', 'summary')]),
    ])  # fmt: skip
    if unit.lesion_mask:
        workflow.connect(anat, 'outputnode.grid_lesions', anat_outputs, 'inputnode.grid_lesions')
    if not settings.processing.anat_only:
        _connect_synthesis(
            workflow, anat, summarise, sources, unit=unit, settings=settings, bundle=bundle,
            device=device,
        )  # fmt: skip
    return workflow


def _connect_synthesis(
    workflow: LiterateWorkflow,
    anat: LiterateWorkflow,
    summarise: pe.Node,
    sources: dict[str, str],
    *,
    unit: Unit,
    settings: Settings,
    bundle: Bundle,
    device: str,
) -> None:
    seed = unit_seed(unit, settings)
    synthesis = init_synthesis_wf(
        bundle=bundle, settings=settings, seed=seed, device=device, lesions=bool(unit.lesion_mask)
    )
    kinds = map_kinds(bundle, settings)
    outputs = init_psr_outputs_wf(unit=unit, settings=settings, kinds=kinds)
    metadata = init_psr_metadata_node(sources, bundle=bundle, seed=seed, device=device)
    templates = [space for space in settings.processing.output_spaces if space != 'T1w']
    done = pe.Node(niu.Merge(1 + len(templates), ravel_inputs=True), name='psr_done', mem_gb=0.2)
    fields = ['grid_t1w', 'grid_flair', 'grid_mask', 'grid_tissue', 'mask']
    if unit.lesion_mask:
        fields.append('grid_lesions')
        workflow.connect(synthesis, 'outputnode.lesion_pairs', metadata, 'lesions')
    if unit.dseg and unit.dseg_lookup:
        fields.append('grid_deep_gm')
    workflow.connect([
        (anat, synthesis, [(f'outputnode.{field}', f'inputnode.{field}') for field in fields]),
        (synthesis, metadata, [
            (f'outputnode.{field}', field) for field in ('facts', 'distance', 'warnings')
        ]),
        (metadata, outputs, [(kind, f'inputnode.meta_{kind}') for kind in kinds]),
        (synthesis, outputs, [
            (f'outputnode.{field}', f'inputnode.{field}')
            for field in (*kinds, 'table', 'samples')
        ]),
        (anat, outputs, [
            (f'outputnode.{field}', f'inputnode.{field}')
            for field in ('mask', *(['grid_lesions'] if unit.lesion_mask else []))
        ]),
        (synthesis, summarise, [
            ('outputnode.facts', 'synthesis_facts'),
            ('outputnode.distance', 'distance'),
            ('outputnode.warnings', 'synthesis_warnings'),
        ]),
        (outputs, done, [('outputnode.done', 'in1')]),
        (done, summarise, [('out', 'psr_done')]),
    ])  # fmt: skip
    for number, space in enumerate(templates, 2):
        template_wf = init_template_wf(
            template=Template.find(space), unit=unit, settings=settings, kinds=kinds
        )
        workflow.connect([
            (anat, template_wf, [
                ('outputnode.t1w', 'inputnode.t1w'),
                ('outputnode.mask', 'inputnode.mask'),
            ]),
            (synthesis, template_wf, [
                (f'outputnode.{kind}', f'inputnode.{kind}') for kind in kinds
            ]),
            (metadata, template_wf, [(kind, f'inputnode.meta_{kind}') for kind in kinds]),
            (template_wf, done, [('outputnode.done', f'in{number}')]),
        ])  # fmt: skip


def _provenance(settings: Settings, bundle: Bundle) -> dict[str, str]:
    facts = {'demist': __version__, 'Run': settings.run_uuid}
    if not settings.processing.anat_only:
        facts |= {
            'Model': f'{bundle.name} {bundle.metadata["version"]}',
            'Model sha256': bundle.sha256,
            'Trained on': str(bundle.metadata['training_data']),
            'Random seed': str(settings.processing.random_seed),
        }
    return facts
