"""What the graphs of the group level are made of, by what is known of a unit."""

from pathlib import Path

import pytest

from bids_layout.pairing import Unit
from demist_app.model.bundle import find_bundle, load_bundle
from demist_app.settings import Execution, Inputs, Processing, Settings
from demist_app.workflows.examples import Prepared, init_examples_wf, init_out_of_fold_wf
from demist_app.workflows.participant import workflow_name


@pytest.fixture
def made(tmp_path):
    """Return a unit, with or without lesions, and its settings."""

    def made(suffixes, n_samples=2):
        folder = tmp_path / 'sub-01' / 'anat'
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'out').mkdir(exist_ok=True)
        scans = {}
        for key, name in suffixes.items():
            scans[key] = folder / f'sub-01_{name}.nii'
            scans[key].touch()
        settings = Settings(
            inputs=Inputs(bids_dir=tmp_path, out_dir=tmp_path / 'out'),
            processing=Processing(n_samples=n_samples),
            execution=Execution(tmp_path / 'work', nprocs=1, omp_nthreads=1, memory_gb=4.0),
            run_uuid='1',
        )
        return Unit(
            participant='01', session=None, metadata={'T1w': {}, 'FLAIR': {}}, **scans
        ), settings

    return made


SCANS = {'t1w': 'T1w', 'flair': 'FLAIR', 'psr': 'space-T1w_PSRmap'}


def test_lesions_are_paired_once_where_they_are_known(made):
    unit, settings = made(SCANS)
    graph = init_examples_wf(units=[unit], settings=settings, groups={'01': 'patient'})
    name = workflow_name(unit)
    assert graph.get_node(f'{name}.lesion_pairs') is None
    unit, settings = made(SCANS | {'lesion_mask': 'label-lesion_mask'})
    graph = init_examples_wf(units=[unit], settings=settings, groups={'01': 'patient'})
    unit_wf = graph.get_node(name)
    pairs, write = (unit_wf.get_node(node) for node in ('lesion_pairs', 'write_example'))
    assert ('pairs', 'pairs') in unit_wf._graph.get_edge_data(pairs, write)['connect']


@pytest.mark.parametrize('n', [1, 2])
def test_what_is_known_is_scored(made, tmp_path, n, untrained):
    """A diffusion model has an SD from two draws on."""
    unit, settings = made(SCANS, n)
    files = {}
    for name in ('t1w', 'flair', 'brain', 'psr', 'mask', 'native_brain', 'tissue', 'pairs'):
        files[name] = str(tmp_path / f'{name}.nii')
        Path(files[name]).touch()
    for bundle, stated in ((load_bundle(find_bundle('linear')), True), (untrained, n == 2)):
        graph = init_out_of_fold_wf(
            units={unit: Prepared(None, files, [])},
            settings=settings, bundle=bundle, method='linear', fold=1, device='cpu',
        )  # fmt: skip
        unit_wf = graph.get_node(workflow_name(unit))
        score = unit_wf.get_node('score')
        assert score.inputs.pairs == files['pairs']
        links = unit_wf._graph.get_edge_data(unit_wf.get_node('synthesise'), score)['connect']
        assert (('sd', 'sd') in links) is stated
