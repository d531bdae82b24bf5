"""Graphs of the group level: scans to training examples, and to maps of participants unseen."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_layout.names import bids_uri
from bids_layout.pairing import Unit
from demist_app.interfaces.examples import MeasuredToGrid, WriteExample
from demist_app.interfaces.figures import PlotComparison
from demist_app.interfaces.lesions import FindLesionPairs
from demist_app.interfaces.scoring import ScoreOutOfFold
from demist_app.interfaces.synthesis import ToNative
from demist_app.model.bundle import Bundle
from demist_app.settings import DEFAULT_METHOD, Settings
from demist_app.training.examples import Example, read_examples
from demist_app.workflows.anatomical import anatomical_reference, init_anat_preproc_wf
from demist_app.workflows.outputs import Sinks
from demist_app.workflows.participant import unit_seed, workflow_name
from demist_app.workflows.synthesis import (
    init_psr_metadata_node,
    init_synthesise_node,
    map_kinds,
)

_SPACES = {'T1w': 'T1w', 't1w': 'T1w', 'orig': 'T1w', 'FLAIR': 'FLAIR', 'flair': 'FLAIR'}


def out_of_fold(method: str) -> dict[str, Any]:
    """Return the entities of a map that a model made of a participant it was not trained on.

    Examples
    --------
    >>> out_of_fold('demist')['desc'], out_of_fold('ftldm+controlnet')['desc']
    ('outoffold', 'outoffoldFtldmControlnet')
    """
    return {'desc': f'outoffold{_label(method)}', 'space': 'T1w', 'suffix': 'PSRmap'}


def init_examples_wf(
    *, units: Sequence[Unit], settings: Settings, groups: Mapping[str, str]
) -> LiterateWorkflow:
    """Build the graph that makes a training example of every unit.

    It shares its name, and so its finished steps, with the graph of the participant level.

    Parameters
    ----------
    units : sequence of Unit
        Each with a measured map.
    settings : Settings
    groups : mapping of str to str
        Participant to group.
    """
    workflow = LiterateWorkflow(name='demist_wf')
    workflow.base_dir = str(settings.execution.work_dir)
    for unit in units:
        workflow.add_nodes([_init_example_wf(unit, settings, groups[unit.participant])])
    return workflow


@dataclass(frozen=True)
class Prepared:
    """What the graph of `init_examples_wf` made of a unit.

    Attributes
    ----------
    example : Example
    files : dict of str to str
        ``t1w``, ``flair`` and ``brain`` on the 1 mm grid; ``psr``, measured, and ``mask``, where it
        was, on the same; ``native_brain`` on the grid of the T1w; ``tissue`` and, where known,
        ``lesions`` and ``deep_gm`` on the 1 mm grid, and ``pairs`` of lesions and NAWM.
    warnings : list of str
    """

    example: Example
    files: dict[str, str]
    warnings: list[str]

    @classmethod
    def find(cls, unit: Unit, settings: Settings) -> Self:
        """Read what the graph left in the work folder."""
        node = settings.execution.work_dir / 'demist_wf' / workflow_name(unit) / 'write_example'
        (example,) = read_examples(node / 'store')
        prepared = json.loads((node / 'prepared.json').read_text('utf-8'))
        files = {name: str((node / path).resolve()) for name, path in prepared['files'].items()}
        return cls(example, files, prepared['warnings'])


def init_out_of_fold_wf(
    *,
    units: Mapping[Unit, Prepared],
    settings: Settings,
    bundle: Bundle,
    method: str,
    fold: int,
    device: str,
) -> LiterateWorkflow:
    """Build the graph that synthesises and scores the units a fold is tested on.

    Parameters
    ----------
    units : mapping of Unit to Prepared
    settings : Settings
    bundle : Bundle
        Model of the fold.
    method : str
        How it was trained.
    fold : int
        From 1.
    device : str
        ``cpu`` or ``cuda[:N]``.
    """
    label = _label(method)
    workflow = LiterateWorkflow(name=f'fold_{fold}_{label}_wf' if label else f'fold_{fold}_wf')
    workflow.base_dir = str(settings.execution.work_dir / 'demist_group')
    for unit, prepared in units.items():
        unit_wf = _init_out_of_fold_unit_wf(
            unit, prepared.files, settings, bundle=bundle, method=method, fold=fold, device=device
        )
        workflow.add_nodes([unit_wf])
    return workflow


def _label(method: str) -> str:
    """Make an alphanumeric label of a method; the default has none."""
    words = [] if method == DEFAULT_METHOD else re.findall('[a-z0-9]+', method)
    return ''.join(word.capitalize() for word in words)


def _init_example_wf(unit: Unit, settings: Settings, group: str) -> LiterateWorkflow:
    assert unit.psr, 'only units with a measured map become examples'
    named = {part.partition('-')[0]: part.partition('-')[2] for part in unit.psr.name.split('_')}
    workflow = LiterateWorkflow(name=workflow_name(unit))
    anat = init_anat_preproc_wf(unit=unit, settings=settings)
    measured = pe.Node(
        MeasuredToGrid(psr=str(unit.psr), space=_SPACES.get(named.get('space', ''), 'own')),
        name='measured_psr',
        mem_gb=2.0,
    )
    write = pe.Node(
        WriteExample(name=unit.label, participant=f'sub-{unit.participant}', group=group),
        name='write_example',
        mem_gb=1.0,
    )
    workflow.connect([
        (anat, measured, [
            ('outputnode.t1w', 't1w'),
            ('outputnode.mask', 'mask'),
            ('outputnode.itk', 'itk'),
            ('outputnode.grid_mask', 'grid_mask'),
        ]),
        (anat, write, [('outputnode.grid_t1w', 't1w'), ('outputnode.grid_flair', 'flair')]),
        (anat, write, [('outputnode.grid_mask', 'brain'), ('outputnode.mask', 'native_brain')]),
        (anat, write, [('outputnode.grid_tissue', 'tissue')]),
        (measured, write, [('psr', 'psr'), ('mask', 'mask'), ('warnings', 'warnings')]),
    ])  # fmt: skip
    if unit.lesion_mask:
        pairs = pe.Node(FindLesionPairs(), name='lesion_pairs', mem_gb=1.5)
        workflow.connect([
            (anat, pairs, [
                ('outputnode.grid_t1w', 't1w'),
                ('outputnode.grid_mask', 'brain'),
                ('outputnode.grid_tissue', 'tissue'),
                ('outputnode.grid_lesions', 'lesions'),
            ]),
            (measured, pairs, [('mask', 'measured')]),
            (anat, write, [('outputnode.grid_lesions', 'lesions')]),
            (pairs, write, [('pairs', 'pairs')]),
        ])  # fmt: skip
    if unit.dseg and unit.dseg_lookup:
        workflow.connect(anat, 'outputnode.grid_deep_gm', write, 'deep_gm')
    return workflow


def _init_out_of_fold_unit_wf(
    unit: Unit,
    files: Mapping[str, str],
    settings: Settings,
    *,
    bundle: Bundle,
    method: str,
    fold: int,
    device: str,
) -> LiterateWorkflow:
    def uri(path: Path) -> str:
        return bids_uri(path, settings.inputs.bids_dir, settings.inputs.derivatives)

    assert unit.psr, 'only units with a measured map can be scored'
    seed = unit_seed(unit, settings)
    reference = uri(anatomical_reference(unit, settings))
    workflow = LiterateWorkflow(name=workflow_name(unit))
    synthesise = init_synthesise_node(bundle=bundle, settings=settings, seed=seed, device=device)
    synthesise.inputs.trait_set(t1w=files['t1w'], flair=files['flair'], mask=files['brain'])
    native = pe.Node(
        ToNative(mask=files['brain'], reference=files['native_brain']),
        name='mean_to_native',
        mem_gb=1.0,
    )
    sources = {
        't1w_source': reference,
        'flair_source': uri(unit.flair),
        'spatial_reference': reference,
    }
    metadata = init_psr_metadata_node(sources, bundle=bundle, seed=seed, device=device)
    score = pe.Node(
        ScoreOutOfFold(
            measured=files['psr'],
            mask=files['mask'],
            measured_source=uri(unit.psr),
            method=method,
            fold=fold,
            n_splits=settings.training.n_splits,
        ),
        name='score',
        mem_gb=1.5,
    )
    named = ('t1w', 'flair', 'tissue', 'lesions', 'deep_gm', 'pairs')
    score.inputs.trait_set(**{name: files[name] for name in named if name in files})
    plot = pe.Node(
        PlotComparison(measured=files['psr'], mask=files['mask'], label=f'{unit.label}_{method}'),
        name='plot',
        mem_gb=1.0,
    )
    workflow.connect([
        (synthesise, native, [('mean', 'image')]),
        (synthesise, metadata, [
            ('facts', 'facts'),
            ('distance', 'distance'),
            ('warnings', 'warnings'),
        ]),
        (synthesise, score, [('mean', 'synthetic')]),
        (synthesise, plot, [('mean', 'synthetic')]),
        (metadata, score, [('mean', 'meta')]),
    ])  # fmt: skip
    if 'sd' in map_kinds(bundle, settings):
        workflow.connect(synthesise, 'sd', score, 'sd')
    sinks = Sinks(workflow, unit, settings)
    sinks.add('out_of_fold', native, 'image', (score, 'meta'), compress=True, **out_of_fold(method))
    figure = {key: value for key, value in out_of_fold(method).items() if key != 'space'}
    sinks.add('comparison_figure', plot, 'figure', datatype='figures', **figure)
    return workflow
