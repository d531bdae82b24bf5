"""What the graph asks for and what it makes, by model and number of draws."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from bids_layout.pairing import Unit
from demist_app.model.bundle import find_bundle, load_bundle
from demist_app.model.memory import predicted_gb
from demist_app.model.presets import load_preset
from demist_app.settings import Execution, Inputs, Processing, Settings
from demist_app.workflows.participant import init_unit_wf
from demist_app.workflows.synthesis import init_synthesis_wf, map_kinds


@pytest.fixture
def settings(tmp_path):
    def settings(n_samples=8, memory_gb=16.0):
        return Settings(
            inputs=Inputs(bids_dir=tmp_path, out_dir=tmp_path / 'out'),
            processing=Processing(n_samples=n_samples),
            execution=Execution(tmp_path, nprocs=4, omp_nthreads=3, memory_gb=memory_gb),
            run_uuid='1',
        )

    return settings


def node(untrained, settings):
    workflow = init_synthesis_wf(bundle=untrained, settings=settings, seed=1, device='cpu')
    return workflow.get_node('synthesise')


def test_the_step_gets_what_it_asks_for(untrained, settings):
    step = node(untrained, settings())
    assert step.mem_gb == predicted_gb(untrained)
    assert step.inputs.memory_gb == 16
    assert step.n_procs == step.inputs.num_threads == 3
    assert node(untrained, settings(memory_gb=1.5)).mem_gb == 1.5


def test_without_a_wish_there_are_as_many_draws_as_the_model_is_made_for(untrained, settings):
    assert node(untrained, settings(None)).inputs.n_samples == 8
    assert node(untrained, settings(3)).inputs.n_samples == 3


def test_a_distilled_model_gives_one_map_whatever_was_wished(untrained, settings):
    known = deepcopy(untrained.metadata)
    known['preset'] = load_preset('tiny').distilled().as_dict()
    single = replace(untrained, metadata=known)
    assert node(single, settings(5)).inputs.n_samples == 1
    assert map_kinds(single, settings(5)) == ('mean',)
    known['uncertainty'] = {'residual_sd': [1.0] * 25}
    assert map_kinds(single, settings()) == ('mean', 'sd')
    workflow = init_synthesis_wf(bundle=single, settings=settings(), seed=1, device='cpu')
    assert 'one evaluation of the denoiser' in workflow.visit_desc()
    assert 'draws' not in workflow.visit_desc()


@pytest.mark.parametrize(
    ('model', 'n', 'there'), [('', 1, False), ('', 2, True), ('linear', 1, True)]
)
def test_only_a_single_draw_has_no_map_of_the_sd(untrained, settings, model, n, there):
    chosen = load_bundle(find_bundle('linear')) if model else untrained
    asked = settings(n)
    asked.inputs.out_dir.mkdir()
    stem = asked.inputs.bids_dir / 'sub-01' / 'anat' / 'sub-01'
    scans = {
        key: Path(f'{stem}_{suffix}.nii') for key, suffix in (('t1w', 'T1w'), ('flair', 'FLAIR'))
    }
    for path in scans.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    unit = Unit(participant='01', session=None, metadata={'T1w': {}, 'FLAIR': {}}, **scans)
    workflow = init_unit_wf(unit=unit, settings=asked, bundle=chosen, device='cpu')
    names = set(workflow.list_node_names())
    assert {'psr_outputs_wf.ds_mean', 'synthesis_wf.mean_to_native'} <= names
    spread = {
        'psr_outputs_wf.ds_sd', 'psr_outputs_wf.plot_sd', 'psr_outputs_wf.ds_sd_figure',
        'synthesis_wf.sd_to_native',
    }  # fmt: skip
    assert names & spread == (spread if there else set())


def test_the_methods_say_how_it_was_sampled(untrained, settings):
    def words(chosen, n):
        workflow = init_synthesis_wf(bundle=chosen, settings=settings(n), seed=1, device='cpu')
        return workflow.visit_desc()

    assert 'the mean of 8 draws, sampled by dpmpp_2m in 4 steps.' in words(untrained, 8)
    assert 'It is a single draw, sampled' in words(untrained, 1)
    assert 'draw' not in words(load_bundle(find_bundle('linear')), 8)
