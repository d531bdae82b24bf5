"""Indexing, and what is said where it cannot be done."""

import shutil
import time
from pathlib import Path

import pytest
from niworkflows.utils.testing import generate_bids_skeleton

from bids_layout.pairing import find_units
from bids_layout.query import DATABASE_FILE, QueryError, images, index

from .conftest import MakeDataset, scan

PAIR = (scan('T1w'), scan('FLAIR'))


def names(folder: Path, **options: object) -> list[str]:
    layout = index(folder, {}, **options)  # type: ignore[arg-type]
    return [image.path.name for image in images(layout)]


def test_only_images_that_are_used_are_indexed(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset(
        'bids',
        *PAIR,
        'sub-01/anat/sub-01_T1w.json',
        'sub-01/func/sub-01_task-rest_bold.nii.gz',
        'sourcedata/sub-01/anat/sub-01_T1w.nii.gz',
        'derivatives/x/sub-01/anat/sub-01_T1w.nii.gz',
        '.git/sub-01/anat/sub-01_T1w.nii.gz',
    )
    assert names(bids_dir) == ['sub-01_FLAIR.nii.gz', 'sub-01_T1w.nii.gz']


def test_validation_drops_names_that_are_not_bids(make_dataset: MakeDataset) -> None:
    odd = scan('T1w', entities='colour-blue')
    bids_dir = make_dataset('bids', *PAIR, odd)
    assert Path(odd).name not in names(bids_dir, validate=True)
    assert Path(odd).name in names(bids_dir, validate=False)


@pytest.mark.parametrize('parent', ['sub-x', 'func', 'ses-9/acq-old', 'sub-x/ses-y/anat'])
def test_folders_above_the_data_set_do_not_count(make_dataset: MakeDataset, parent: str) -> None:
    bids_dir = make_dataset(f'{parent}/bids', *PAIR)
    (unit,) = find_units(index(bids_dir, {})).units
    assert unit.label == 'sub-01'
    filtered = {'t1w': {'datatype': 'anat', 'acquisition': None, 'session': None}}
    assert len(find_units(index(bids_dir, {}), filters=filtered).units) == 1


def test_misfiled_scans_belong_to_nobody(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset(
        'bids',
        *PAIR,
        'sub-01/anat/sub-02_T1w.nii.gz',
        'sub-01-old/anat/sub-01_T1w.nii.gz',
        'sub-03/ses-A/anat/sub-03_ses-B_T1w.nii.gz',
    )
    assert names(bids_dir, validate=False) == ['sub-01_FLAIR.nii.gz', 'sub-01_T1w.nii.gz']


def test_refusals_name_file_fault_and_remedy(make_dataset: MakeDataset, tmp_path: Path) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    with pytest.raises(QueryError, match=r'nowhere does not exist: check'):
        index(tmp_path / 'nowhere', {})
    (tmp_path / 'a_file').touch()
    with pytest.raises(QueryError, match=r'a_file is a file: give the folder'):
        index(tmp_path / 'a_file', {})
    (tmp_path / 'hollow').mkdir()
    with pytest.raises(QueryError, match=r'hollow is an empty folder'):
        index(tmp_path / 'hollow', {})
    with pytest.raises(QueryError, match=r'has no dataset_description\.json.*\(bids\)'):
        index(tmp_path, {})
    with pytest.raises(
        QueryError, match=r'derivative data set "masks".*sub-01 has no dataset_desc'
    ):
        index(bids_dir, {'masks': bids_dir / 'sub-01'})


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'{"Name": "x",}', 'not readable as JSON'),
        (b'', 'not readable as JSON'),
        (b'\xff\xfe{\x00', 'not readable as JSON'),
        (b'["Name"]', 'does not hold a JSON object'),
        (b'{"Name": "x"}', 'lacks BIDSVersion.*--skip-bids-validation'),
    ],
)
def test_broken_descriptions(make_dataset: MakeDataset, content: bytes, message: str) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    (bids_dir / 'dataset_description.json').write_bytes(content)
    with pytest.raises(QueryError, match=rf'dataset_description\.json .*{message}'):
        index(bids_dir, {})


@pytest.mark.parametrize('generated_by', [{}, 'x', [], ['x'], [{}], [{'Name': None}]])
def test_derivatives_need_no_generator(make_dataset: MakeDataset, generated_by: object) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    mask = scan('mask', entities='desc-brain')
    masks = make_dataset('masks', mask, DatasetType='derivative', GeneratedBy=generated_by)
    (unit,) = find_units(index(bids_dir, {'masks': masks})).units
    assert unit.brain_mask == masks / mask


@pytest.mark.parametrize('generated_by', [None, {'Name': 'x'}, 3])
def test_descriptions_that_pybids_cannot_take(
    make_dataset: MakeDataset, generated_by: object
) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    masks = make_dataset('masks', GeneratedBy=generated_by, DatasetType='derivative')
    with pytest.raises(QueryError, match=r'masks cannot be indexed: TypeError'):
        index(bids_dir, {'masks': masks})


def test_two_derivatives_in_folders_of_one_name(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    first = make_dataset('a/out', scan('mask', entities='desc-brain'))
    second = make_dataset('b/out', scan('PSRmap', entities='desc-qmt'))
    (unit,) = find_units(index(bids_dir, {'masks': first, 'qmt': second})).units
    assert unit.brain_mask == first / scan('mask', entities='desc-brain')
    assert unit.psr == second / scan('PSRmap', entities='desc-qmt')


def test_unreadable_folder_is_named(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids_dir = make_dataset('bids', *PAIR)

    def refuse(self: Path) -> None:
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'iterdir', refuse)
    with pytest.raises(QueryError, match=r'bids cannot be read: check its permissions'):
        index(bids_dir, {})


def test_database_is_kept_whole_and_used_again(make_dataset: MakeDataset, tmp_path: Path) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    masks = make_dataset('masks', scan('mask', entities='desc-brain'))
    database = tmp_path / 'index'
    first = find_units(index(bids_dir, {'masks': masks}, database))
    files = sorted(str(path.relative_to(database)) for path in database.rglob('*'))
    assert files == [DATABASE_FILE, 'masks', f'masks/{DATABASE_FILE}']

    shutil.copytree(bids_dir / 'sub-01', bids_dir / 'sub-02')
    (bids_dir / scan('FLAIR')).unlink()
    again = find_units(index(bids_dir, {'masks': masks}, database))
    assert first.units[0].brain_mask is not None
    assert again.units == ()
    deleted, added = again.skipped
    assert 'deleted since the data set was indexed' in deleted.reason
    assert f'newer than the index in {database}' in added.reason


def test_database_of_another_data_set_is_refused(make_dataset: MakeDataset, tmp_path: Path) -> None:
    index(make_dataset('one', *PAIR), {}, tmp_path / 'index')
    other = make_dataset('two', *PAIR)
    with pytest.raises(QueryError, match=r'was made for .*one, not for .*two'):
        index(other, {}, tmp_path / 'index')


@pytest.mark.parametrize('content', [b'', b'SQLite format 3\x00 cut short', b'noise'])
def test_broken_database_is_named(
    make_dataset: MakeDataset, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / 'index').mkdir()
    (tmp_path / 'index' / DATABASE_FILE).write_bytes(content)
    with pytest.raises(QueryError, match=r'if the index in .*index is broken, delete it'):
        index(make_dataset('bids', *PAIR), {}, tmp_path / 'index')


def test_input_is_not_written(make_dataset: MakeDataset) -> None:
    bids_dir = make_dataset('bids', *PAIR)
    before = sorted(bids_dir.rglob('*'))
    find_units(index(bids_dir, {}))
    assert sorted(bids_dir.rglob('*')) == before


@pytest.mark.slow
def test_a_thousand_participants_take_seconds(tmp_path: Path) -> None:
    def session(label: str) -> dict[str, object]:
        sidecar = {'MagneticFieldStrength': 3}
        anat = [{'suffix': suffix, 'metadata': sidecar} for suffix in ('T1w', 'FLAIR', 'T2w')]
        func = [{'task': 'rest', 'run': run, 'suffix': 'bold', 'metadata': {}} for run in (1, 2)]
        return {'session': label, 'anat': anat, 'func': func}

    skeleton = {f'{number:04d}': [session('1'), session('2')] for number in range(1000)}
    generate_bids_skeleton(tmp_path / 'bids', skeleton)
    start = time.process_time()
    pairing = find_units(index(tmp_path / 'bids', {}))
    assert time.process_time() - start < 30
    assert len(pairing.units) == 2000
    assert pairing.skipped == ()
    assert pairing.units[-1].metadata['FLAIR'] == {'MagneticFieldStrength': 3}
