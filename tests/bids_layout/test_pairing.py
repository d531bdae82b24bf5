"""Pairing T1w with FLAIR."""

import dataclasses
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_layout.pairing import Pairing, find_units
from bids_layout.query import QueryError, index

from .conftest import MakeDataset, scan, write_dataset


def pair(bids_dir: Path, *args: object, **kwargs: object) -> Pairing:
    return find_units(index(bids_dir, {}, validate=False), *args, **kwargs)  # type: ignore[arg-type]


def labels(pairing: Pairing) -> list[str]:
    return [unit.label for unit in pairing.units]


def test_units_come_in_natural_order(make_dataset: MakeDataset) -> None:
    units = [('10', None), ('2', None), ('3', 'b'), ('3', '10'), ('3', '9')]
    files = [scan(suffix, *unit) for unit in units for suffix in ('T1w', 'FLAIR')]
    pairing = pair(make_dataset('bids', *files))
    assert labels(pairing) == ['sub-2', 'sub-3_ses-9', 'sub-3_ses-10', 'sub-3_ses-b', 'sub-10']
    assert pairing.skipped == ()
    assert pairing.units[1].entities == {'subject': '3', 'session': '9'}
    assert pairing.units[0].entities == {'subject': '2'}


def test_unit_can_be_written_as_json(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', scan('T1w'), scan('FLAIR'))
    (bids_dir / 'FLAIR.json').write_text('{"EchoTime": 0.1}')
    (unit,) = pair(bids_dir).units
    text = json.loads(json.dumps(dataclasses.asdict(unit), default=str))
    assert text['t1w'] == str(bids_dir / scan('T1w'))
    assert text['metadata'] == {'T1w': {}, 'FLAIR': {'EchoTime': 0.1}}
    assert hash(unit) == hash(dataclasses.replace(unit))


@pytest.mark.parametrize(
    ('runs', 'chosen', 'said'),
    [
        ([''], '', None),
        (['run-1', 'run-2', 'run-10'], 'run-10', '3 T1w images.*run-10.*last by name'),
        (['', 'ce-gadolinium'], '', 'without contrast agent'),
        (['acq-b_ce-gd', 'acq-a'], 'acq-a', 'without contrast agent'),
        (['run-1', 'run-2_ce-gd', 'run-2'], 'run-2', 'without contrast agent, the last by name'),
        (['echo-1', 'echo-2'], 'echo-1', 'the first echo'),
        (['echo-1', 'echo-2', 'rec-rms'], 'rec-rms', 'not a single echo'),
        (['part-mag', 'part-phase'], 'part-mag', None),
        (['chunk-1', 'chunk-2', 'acq-whole'], 'acq-whole', 'the whole volume'),
        (['ce-gd'], 'ce-gd', r'acquired with a contrast agent \(ce-gd\)'),
    ],
)
def test_choice_among_several(
    make_dataset: MakeDataset, runs: list[str], chosen: str, said: str | None
) -> None:
    files = [scan('T1w', entities=run) for run in runs]
    (unit,) = pair(make_dataset('bids', scan('FLAIR'), *files)).units
    assert unit.t1w.name == Path(scan('T1w', entities=chosen)).name
    if said is None:
        assert unit.notes == ()
    else:
        (note,) = unit.notes
        assert re.search(said, note)


def test_phase_images_are_no_t1w(make_dataset: MakeDataset) -> None:
    pairing = pair(make_dataset('bids', scan('FLAIR'), scan('T1w', entities='part-phase')))
    assert [skipped.reason for skipped in pairing.skipped] == ['no T1w image']


def test_compressed_twin_is_preferred(make_dataset: MakeDataset) -> None:
    twin = scan('T1w').removesuffix('.gz')
    (unit,) = pair(make_dataset('bids', scan('T1w'), twin, scan('FLAIR'))).units
    assert unit.t1w.name == 'sub-01_T1w.nii.gz'


def test_pairs_stay_within_the_session(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset(
        'bids',
        scan('T1w', '01', 'A'),
        scan('FLAIR', '01', 'B'),
        scan('T1w', '02'),
        scan('FLAIR', '02', 'A'),
        'sub-03/ses-A/func/',
        'sub-04/',
        scan('T2w', '05'),
    )
    pairing = pair(bids_dir)
    assert pairing.units == ()
    assert {skipped.label: skipped.reason for skipped in pairing.skipped} == {
        'sub-01_ses-A': 'no FLAIR image (there is one in ses-B)',
        'sub-01_ses-B': 'no T1w image (there is one in ses-A)',
        'sub-02': 'no FLAIR image (there is one in ses-A)',
        'sub-02_ses-A': 'no T1w image (there is one in no session)',
        'sub-03_ses-A': 'no T1w image and no FLAIR image',
        'sub-04': 'no T1w image and no FLAIR image',
        'sub-05': 'no T1w image and no FLAIR image',
    }


@pytest.fixture
def cohort(make_dataset: MakeDataset) -> Path:
    units = [('01', 'A'), ('01', 'B'), ('02', 'A'), ('11', None)]
    return make_dataset(
        'bids', *(scan(suffix, *unit) for unit in units for suffix in ('T1w', 'FLAIR'))
    )


def test_labels_with_and_without_prefix(cohort: Path) -> None:
    assert labels(pair(cohort, ['sub-02', '11', '02'])) == ['sub-02_ses-A', 'sub-11']
    assert labels(pair(cohort, ['sub-01'], ['ses-B'])) == ['sub-01_ses-B']


def test_participant_without_the_wanted_session_is_mentioned(cohort: Path) -> None:
    pairing = pair(cohort, None, ['B'])
    assert labels(pairing) == ['sub-01_ses-B']
    assert [skipped.label for skipped in pairing.skipped] == ['sub-02_ses-B', 'sub-11_ses-B']
    assert pairing.skipped[0].reason == 'the participant has no session B'


def test_unknown_labels_are_named_with_those_that_exist(cohort: Path) -> None:
    with pytest.raises(QueryError, match=r'no participant 1, 7: it has 11, 01, 02\.'):
        pair(cohort, ['7', 'sub-1', '01'])
    with pytest.raises(QueryError, match=r'no session C: it has A, B\.'):
        pair(cohort, None, ['C'])


def test_long_lists_of_labels_are_cut(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', *(scan('T1w', f'{number:03d}') for number in range(50)))
    with pytest.raises(QueryError, match=r'no participant 49: it has 049, .* and 30 more\.'):
        pair(bids_dir, ['49'])


@pytest.mark.parametrize(
    ('wanted', 'chosen'),
    [
        ({'run': 1}, 'acq-x_run-01'),
        ({'run': '01'}, 'acq-x_run-01'),
        ({'run': [1, 2], 'acquisition': 'x'}, 'acq-x_run-02'),
        ({'acquisition': '*'}, 'acq-y_run-03'),
        ({'acquisition': None}, 'ce-gd_run-04'),
        ({'acquisition': [None, 'x'], 'ceagent': None}, 'acq-x_run-02'),
        ({'subject': 'sub-01', 'datatype': 'anat', 'suffix': 'T1w', 'run': 3}, 'acq-y_run-03'),
        ({'extension': 'nii.gz', 'run': 1}, 'acq-x_run-01'),
        ({'part': 'phase'}, 'acq-x_part-phase'),
    ],
)
def test_filter_decides(make_dataset: MakeDataset, wanted: dict[str, object], chosen: str) -> None:
    runs = ('acq-x_run-01', 'acq-x_run-02', 'acq-y_run-03', 'ce-gd_run-04', 'acq-x_part-phase')
    bids_dir = make_dataset('bids', scan('FLAIR'), *(scan('T1w', entities=run) for run in runs))
    (unit,) = pair(bids_dir, filters={'t1w': wanted}).units
    assert unit.t1w.name == f'sub-01_{chosen}_T1w.nii.gz'


def test_filter_can_name_another_suffix(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', scan('FLAIR'), scan('UNIT1'))
    assert pair(bids_dir).units == ()
    assert (
        pair(bids_dir, filters={'t1w': {'suffix': 'UNIT1'}})
        .units[0]
        .t1w.name.endswith('UNIT1.nii.gz')
    )


def test_filter_that_admits_nothing_is_the_reason(cohort: Path) -> None:
    pairing = pair(cohort, filters={'t1w': {'session': 'ses-B'}, 'bold': {'task': 'rest'}})
    assert labels(pairing) == ['sub-01_ses-B']
    assert {skipped.reason for skipped in pairing.skipped} == {
        'no T1w image that the filter admits'
    }


@pytest.mark.parametrize(
    ('filters', 'message'),
    [
        ({'T1w': {'run': 1}}, 'section "T1w": demist knows t1w, flair, psr'),
        ({'t1w': {'acq': 'x'}}, 'unknown entity "acq" in section "t1w": use one of acquisition'),
        ({'flair': 'x'}, 'Section "flair" of the filter file is not an object'),
    ],
)
def test_filters_that_make_no_sense(cohort: Path, filters: dict[str, object], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        pair(cohort, filters=filters)


def test_link_to_a_file_that_was_not_fetched(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', scan('T1w'), scan('FLAIR', '02'), scan('T1w', '02'))
    (bids_dir / scan('FLAIR')).symlink_to('.git/annex/objects/absent')
    pairing = pair(bids_dir)
    assert labels(pairing) == ['sub-02']
    assert pairing.skipped[0].label == 'sub-01'
    assert 'datalad get' in pairing.skipped[0].reason


def test_folder_without_permission_is_the_reason(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, whom no permission stops.
    bids_dir = make_dataset('bids', scan('T1w', '02'), scan('FLAIR', '02'), 'sub-01/ses-A/')
    access = 'bids_layout.pairing.os.access'
    monkeypatch.setattr(access, lambda path, mode: 'sub-01' not in str(path))
    pairing = pair(bids_dir)
    assert labels(pairing) == ['sub-02']
    assert (
        pairing.skipped[0].reason == f'{bids_dir / "sub-01"} cannot be read: check its permissions'
    )


def test_sidecars_are_inherited_and_broken_ones_cost_a_note(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', scan('T1w', '01', 'A', 'acq-x_run-1'), scan('FLAIR', '01', 'A'))
    anat = bids_dir / 'sub-01/ses-A/anat'
    for path, text in {
        bids_dir / 'T1w.json': '\ufeff{"a": 0, "b": 0, "c": 0, "d": 0}',
        bids_dir / 'acq-x_T1w.json': '{"b": 1, "c": 1, "d": 1}',
        bids_dir / 'acq-y_T1w.json': '{"a": "of another acquisition"}',
        bids_dir / 'sub-01/sub-01_T1w.json': '{"c": 2, "d": 2}',
        anat / 'sub-01_ses-A_acq-x_run-1_T1w.json': '{"d": 3}',
        anat / 'sub-01_ses-A_FLAIR.json': '{"d": ',
        bids_dir / 'FLAIR.json': '[1]',
    }.items():
        path.write_text(text)
    (unit,) = pair(bids_dir).units
    assert unit.metadata == {'T1w': {'a': 0, 'b': 1, 'c': 2, 'd': 3}, 'FLAIR': {}}
    first, second = unit.notes
    assert first == 'FLAIR.json does not hold a JSON object; it was left out'
    assert second.startswith('sub-01_ses-A_FLAIR.json is not readable as JSON')


NAMES = st.builds(
    scan,
    st.sampled_from(['T1w', 'FLAIR', 'T2w', 'UNIT1', 'defacemask']),
    st.sampled_from(['01', '1', 'Ä', 'a+b', '']),
    st.sampled_from([None, 'A', '01', 'a_b']),
    st.sampled_from(['', 'run-1', 'run-x', 'ce-gd', 'echo-2', 'part-phase', 'acq-', 'space-MNI']),
)


@settings(deadline=None, max_examples=25)
@given(st.sets(NAMES, max_size=12))
def test_everybody_is_accounted_for_once(files: set[str]) -> None:
    with TemporaryDirectory() as folder:
        bids_dir = write_dataset(Path(folder) / 'bids', *files)
        layout = index(bids_dir, {}, validate=False)
        pairing = find_units(layout)
        assert pairing == find_units(layout)
        mentioned = [*labels(pairing), *(skipped.label for skipped in pairing.skipped)]
        assert len(mentioned) == len(set(mentioned))
        for participant in bids_dir.glob('sub-?*/'):
            assert any(label.split('_')[0] == participant.name for label in mentioned)
        for unit in pairing.units:
            assert unit.t1w.parent == unit.flair.parent
            assert unit.t1w.name.endswith('_T1w.nii.gz')
            assert unit.flair.name.endswith('_FLAIR.nii.gz')
            assert unit.t1w.name.startswith(unit.label + '_')
