import json
from pathlib import Path

import pytest

from demist_app.cli.cohort import choose_preset, find_cohort, splits_path
from demist_app.model.presets import PresetError
from demist_app.settings import Execution, Inputs, Processing, Settings, SettingsError, Training
from demist_app.training.folds import read, write


def dataset(root: Path, generator: str, *files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    description = {'Name': root.name, 'BIDSVersion': '1.10.0', 'GeneratedBy': [{'Name': generator}]}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def anat(rest: str, labels='1234') -> list[str]:
    return [f'sub-0{n}/anat/sub-0{n}_{rest}.nii.gz' for n in labels]


@pytest.fixture
def bids(tmp_path):
    """Six participants, the last without a FLAIR, of whom four have measured maps."""
    root = dataset(
        tmp_path / 'bids', 'x', *anat('T1w', '123456'), *anat('FLAIR', '12345')
    )  # fmt: skip
    (root / 'participants.tsv').write_text('participant_id\tgroup\nsub-01\tpatient\nsub-02\tn/a\n')
    dataset(root / 'derivatives/qmt', 'qmt', *anat('space-T1w_desc-qmt_PSRmap'))
    dataset(
        root / 'derivatives/sim', 'sim',
        *anat('space-T1w_desc-truth_PSRmap'), *anat('space-T1w_desc-brain_mask'),
    )  # fmt: skip
    dataset(root / 'derivatives/demist', 'demist', *anat('space-T1w_desc-other_PSRmap', '5'))
    dataset(root / 'derivatives/smriprep', 'smriprep', *anat('desc-brain_mask'))
    return root


def settings_of(bids: Path, training=None, **inputs) -> Settings:
    return Settings(
        inputs=Inputs(bids, bids.parent / 'out', 'group', **inputs),
        processing=Processing(),
        execution=Execution(bids.parent / 'work', nprocs=1, omp_nthreads=1, memory_gb=4.0),
        run_uuid='x',
        training=training or Training(n_splits=2),
    )


def test_measured_maps_beside_the_scans_are_found_and_nothing_else_is_used(bids):
    cohort = find_cohort(settings_of(bids), keep_index=False)
    assert [unit.label for unit in cohort.units] == ['sub-01', 'sub-02', 'sub-03', 'sub-04']
    assert all(unit.psr.name.endswith('desc-qmt_PSRmap.nii.gz') for unit in cohort.units)
    assert not any(unit.brain_mask for unit in cohort.units)
    assert cohort.settings.inputs.derivatives == {'qmt': bids / 'derivatives/qmt'}
    reasons = {skip.label: skip.reason for skip in cohort.skipped}
    assert reasons == {'sub-05': 'no measured PSR map', 'sub-06': 'no FLAIR image'}
    assert cohort.groups == {'01': 'patient', '02': 'n/a', '03': 'n/a', '04': 'n/a'}
    assert not splits_path(cohort.settings).exists()


def test_what_was_given_is_used_beside_what_is_found(bids):
    given = {'masks': bids / 'derivatives/smriprep'}
    cohort = find_cohort(settings_of(bids, derivatives=given), keep_index=False)
    assert list(cohort.settings.inputs.derivatives) == ['qmt', 'masks']
    assert all(unit.brain_mask for unit in cohort.units)


def test_given_maps_win(bids):
    given = {'mine': dataset(bids.parent / 'mine', 'x', *anat('PSRmap', '2345'))}
    cohort = find_cohort(settings_of(bids, derivatives=given), keep_index=False)
    assert [unit.label for unit in cohort.units] == ['sub-02', 'sub-03', 'sub-04', 'sub-05']
    assert cohort.settings.inputs.derivatives == given


def test_a_data_set_without_maps_is_not_even_indexed(tmp_path):
    assert find_cohort(settings_of(tmp_path / 'no data set at all'), keep_index=False) is None


def test_folds_that_cannot_be_are_refused_before_anything_is_computed(bids):
    with pytest.raises(SettingsError, match='5 is more than the 4 participants'):
        find_cohort(settings_of(bids, Training(n_splits=5)), keep_index=False)
    cohort = find_cohort(settings_of(bids), keep_index=False)
    write(cohort.splits, splits_path(cohort.settings))
    with pytest.raises(SettingsError, match='has 2 folds, not the 3 of --n-splits'):
        find_cohort(settings_of(bids, Training(n_splits=3)), keep_index=False)


def test_a_unit_that_failed_when_the_folds_were_drawn_does_not_stop_a_rerun(bids):
    settings = settings_of(bids)
    drawn = find_cohort(settings, keep_index=False).splits
    write(drawn, splits_path(settings))
    dataset(bids / 'derivatives/qmt', 'qmt', *anat('space-T1w_desc-qmt_PSRmap', '5'))
    again = find_cohort(settings, keep_index=False)
    assert len(again.units) == 5
    assert again.splits == read(splits_path(settings)) == drawn


def test_streams_are_those_asked_for_in_the_order_of_the_preset():
    assert choose_preset(Training('tiny')).streams.active == ('semantic', 'spatial', 'adaptive')
    chosen = choose_preset(Training('tiny', streams=('adaptive', 'semantic')))
    assert chosen.streams.active == ('semantic', 'adaptive')
    with pytest.raises(PresetError, match='unknown stream psychic'):
        choose_preset(Training('tiny', streams=('psychic', 'spatial')))
