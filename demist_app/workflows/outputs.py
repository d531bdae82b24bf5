"""What a unit leaves in the output folder, and under which names (design: names on disk)."""

from collections.abc import Sequence
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_layout.pairing import Unit
from demist_app.interfaces.derivatives import DerivativesDataSink
from demist_app.interfaces.figures import PlotAlignment, PlotDistribution, PlotMap, PlotMask
from demist_app.interfaces.report import FIGURES
from demist_app.settings import Settings

# Entities of the scan that do not tell one unit from another
DISMISSED = ('acquisition', 'ceagent', 'echo', 'inv', 'part', 'reconstruction', 'run')
MAPS = {'mean': 'synth', 'sd': 'synthsd'}
"""Kind of map to its ``desc`` in names."""
TABLE_COLUMNS = {
    'region': {'Description': 'Tissue or region; lesions and NAWM where a lesion mask is known'},
    'volume_ml': {'Description': 'Volume of the region', 'Units': 'mL'},
    'psr_mean': {'Description': 'Mean synthetic PSR over voxels', 'Units': 'percent'},
    'psr_sd': {'Description': 'SD of the synthetic PSR over voxels', 'Units': 'percent'},
    'psr_median': {'Description': 'Median synthetic PSR over voxels', 'Units': 'percent'},
    'synthsd_mean': {
        'Description': 'Mean over voxels of the SD of the synthetic PSR of one voxel '
        '(not the SD of the mean: errors of neighbouring voxels are correlated)',
        'Units': 'percentage points',
    },
}


class Sinks:
    """Adds sinks to a workflow, all with the same source, folder and staging area.

    Parameters
    ----------
    workflow : LiterateWorkflow
    unit : Unit
    settings : Settings
    """

    def __init__(self, workflow: LiterateWorkflow, unit: Unit, settings: Settings) -> None:
        self.workflow = workflow
        self.unit = unit
        self.settings = settings

    def add(
        self,
        name: str,
        source: pe.Node,
        field: str,
        metadata: tuple[pe.Node, str] | None = None,
        **entities: Any,
    ) -> pe.Node:
        """Write the file in `field` of `source` under a name of the given entities."""
        sink = pe.Node(
            DerivativesDataSink(
                base_directory=str(self.settings.inputs.out_dir),
                staging_dir=str(self.settings.log_dir / 'staging'),
                source_file=str(self.unit.t1w),
                dismiss_entities=list(DISMISSED),
                **entities,
            ),
            name=f'ds_{name}',
            mem_gb=0.3,
        )
        self.workflow.connect(source, field, sink, 'in_file')
        if metadata:
            self.workflow.connect(*metadata, sink, 'meta_dict')
        return sink

    def gather(self, sinks: list[pe.Node]) -> None:
        """Give the workflow one output, ``done``, that waits for all sinks."""
        gather = pe.Node(niu.Merge(len(sinks), ravel_inputs=True), name='gather')
        outputnode = pe.Node(niu.IdentityInterface(fields=['done']), name='outputnode')
        for index, sink in enumerate(sinks, 1):
            self.workflow.connect(sink, 'out_file', gather, f'in{index}')
        self.workflow.connect(gather, 'out', outputnode, 'done')


def init_anat_outputs_wf(
    *, unit: Unit, settings: Settings, name: str = 'anat_outputs_wf'
) -> LiterateWorkflow:
    """Write the preprocessed scans, mask, transforms and their figures.

    Inputs are the outputs of `init_anat_preproc_wf` and ``meta``: sidecar fields by kind.
    ``done`` becomes defined when all files are in place.
    """
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                't1w', 'flair', 'mask', 'itk', 'x5', 'raw_flair', 'grid_lesions',
                'meta_t1w', 'meta_flair', 'meta_mask',
            ]
        ),
        name='inputnode',
    )  # fmt: skip
    sinks = Sinks(workflow, unit, settings)
    image: dict[str, Any] = {'compress': True}
    xfm: dict[str, Any] = {'from': 'FLAIR', 'to': 'T1w', 'mode': 'image', 'suffix': 'xfm'}
    done = [
        sinks.add('t1w', inputnode, 't1w', (inputnode, 'meta_t1w'), desc='preproc', **image),
        sinks.add(
            'flair', inputnode, 'flair', (inputnode, 'meta_flair'),
            desc='preproc', space='T1w', suffix='FLAIR', **image,
        ),
        sinks.add(
            'mask', inputnode, 'mask', (inputnode, 'meta_mask'),
            desc='brain', suffix='mask', data_dtype='uint8', **image,
        ),
        sinks.add('itk', inputnode, 'itk', **xfm),
        sinks.add('x5', inputnode, 'x5', **xfm),
    ]  # fmt: skip
    plot_mask = pe.Node(PlotMask(title='Brain mask on the T1w image'), name='plot_mask', mem_gb=1)
    plot_alignment = pe.Node(PlotAlignment(), name='plot_alignment', mem_gb=1)
    workflow.connect([
        (inputnode, plot_mask, [('t1w', 'background'), ('mask', 'mask')]),
        (inputnode, plot_alignment, [
            ('t1w', 'fixed'),
            ('raw_flair', 'before'),
            ('flair', 'after'),
            ('mask', 'mask'),
        ]),
    ])  # fmt: skip
    if unit.lesion_mask:
        workflow.connect(inputnode, 'grid_lesions', plot_mask, 'lesions')
    for key, plot in (('mask', plot_mask), ('alignment', plot_alignment)):
        done.append(sinks.add(f'{key}_figure', plot, 'figure', datatype='figures', **FIGURES[key]))
    sinks.gather(done)
    return workflow


def init_psr_outputs_wf(
    *, unit: Unit, settings: Settings, kinds: Sequence[str], name: str = 'psr_outputs_wf'
) -> LiterateWorkflow:
    """Write the maps, the regional table and their figures.

    Inputs are the outputs of `init_synthesis_wf` and ``meta_mean``, ``meta_sd``: sidecars; of both
    maps or, by `kinds`, of the mean alone. ``done`` becomes defined when all files are in place.
    """
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                'mean',
                'sd',
                'mask',
                'grid_lesions',
                'table',
                'samples',
                'meta_mean',
                'meta_sd',
            ]
        ),
        name='inputnode',
    )
    sinks = Sinks(workflow, unit, settings)
    psr: dict[str, Any] = {'space': 'T1w', 'suffix': 'PSRmap', 'compress': True}
    done = [
        sinks.add(kind, inputnode, kind, (inputnode, f'meta_{kind}'), desc=MAPS[kind], **psr)
        for kind in kinds
    ]
    table = sinks.add('table', inputnode, 'table', desc='synth', suffix='psr')
    table.inputs.meta_dict = TABLE_COLUMNS
    done.append(table)
    for kind in kinds:
        plot = pe.Node(PlotMap(kind=kind), name=f'plot_{kind}', mem_gb=1)
        workflow.connect([(inputnode, plot, [(kind, 'image'), ('mask', 'mask')])])
        if unit.lesion_mask and kind == 'mean':
            workflow.connect(inputnode, 'grid_lesions', plot, 'lesions')
        done.append(
            sinks.add(f'{kind}_figure', plot, 'figure', datatype='figures', **FIGURES[kind])
        )
    plot = pe.Node(PlotDistribution(), name='plot_distribution', mem_gb=1)
    workflow.connect(inputnode, 'samples', plot, 'samples')
    done.append(
        sinks.add(
            'distribution_figure', plot, 'figure', datatype='figures', **FIGURES['distribution']
        )
    )
    sinks.gather(done)
    return workflow
