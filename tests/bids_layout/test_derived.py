"""What is taken from derivative data sets."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bids_layout.pairing import Unit, find_units
from bids_layout.query import index

from .conftest import MakeDataset, scan

SESSION = ('01', 'A')
RAW = (scan('T1w', *SESSION, 'acq-x_run-1'), scan('FLAIR', *SESSION, 'acq-y'))


def units_with(
    make_dataset: MakeDataset,
    *files: str,
    raw: tuple[str, ...] = RAW,
    more: Mapping[str, tuple[str, ...]] | None = None,
    psr: Mapping[str, object] | None = None,
) -> tuple[Unit, ...]:
    sets = {'d': files, **(more or {})}
    derivatives = {name: make_dataset(name, *content) for name, content in sets.items()}
    layout = index(make_dataset('bids', *raw), derivatives)
    return find_units(layout, filters={'psr': psr} if psr else None).units


def unit_with(make_dataset: MakeDataset, *files: str, **kwargs: object) -> Unit:
    (unit,) = units_with(make_dataset, *files, **kwargs)  # type: ignore[arg-type]
    return unit


def name_of(path: Path | None) -> str | None:
    return path and path.name.removeprefix('sub-01_ses-A_').removesuffix('.nii.gz')


def derived(*names: str) -> list[str]:
    """Name images of the session by what follows ``sub-01_ses-A_``."""
    return [f'sub-01/ses-A/anat/sub-01_ses-A_{name}.nii.gz' for name in names]


def test_smriprep(make_dataset: MakeDataset) -> None:
    files = derived(
        'desc-brain_mask',
        'space-MNI152NLin2009cAsym_desc-brain_mask',
        'desc-preproc_T1w',
        'space-MNI152NLin2009cAsym_desc-preproc_T1w',
        'dseg',
        'desc-aseg_dseg',
        'label-GM_probseg',
    )
    unit = unit_with(make_dataset, *files, 'desc-aseg_dseg.tsv', 'dseg.tsv')
    assert name_of(unit.brain_mask) == 'desc-brain_mask'
    assert name_of(unit.preproc_t1w) == 'desc-preproc_T1w'
    assert unit.brain_mask_reference == unit.preproc_t1w
    assert name_of(unit.dseg) == 'dseg'
    assert unit.dseg_lookup is not None
    assert unit.dseg_lookup.name == 'dseg.tsv'
    assert unit.lesion_mask is None
    assert unit.psr is None


def test_mask_of_another_data_set_lies_on_the_raw_t1w(make_dataset: MakeDataset) -> None:
    unit = unit_with(
        make_dataset,
        *derived('desc-brain_mask'),
        more={'other': (*derived('desc-preproc_T1w', 'desc-brain_mask'),)},
    )
    assert unit.brain_mask is not None
    assert unit.brain_mask.parts[-5] == 'd'
    assert unit.preproc_t1w is not None
    assert unit.brain_mask_reference == unit.t1w
    assert unit.notes == ('brain mask taken from "d" (also in other)',)


def test_preprocessed_t1w_comes_with_its_mask(make_dataset: MakeDataset) -> None:
    unit = unit_with(
        make_dataset,
        *derived('desc-preproc_T1w'),
        more={'other': (*derived('desc-preproc_T1w', 'desc-brain_mask'),)},
    )
    assert unit.preproc_t1w is not None
    assert unit.preproc_t1w.parts[-5] == 'other'
    assert unit.brain_mask_reference == unit.preproc_t1w


def test_derivatives_of_other_scans_are_left_alone(make_dataset: MakeDataset) -> None:
    unit = unit_with(
        make_dataset,
        *derived('acq-x_run-2_desc-brain_mask', 'acq-z_dseg', 'space-FLAIR_desc-brain_mask'),
        scan('mask', '01', 'B', 'desc-brain'),
        scan('mask', '02', 'A', 'desc-brain'),
    )
    assert (unit.brain_mask, unit.dseg) == (None, None)


@pytest.mark.parametrize('sessions', [('A',), ('A', 'B')])
def test_results_without_session_serve_an_only_session(
    make_dataset: MakeDataset, sessions: tuple[str, ...]
) -> None:
    raw = tuple(scan(suffix, '01', s) for s in sessions for suffix in ('T1w', 'FLAIR'))
    found = units_with(make_dataset, scan('mask', entities='desc-brain'), raw=raw)
    only = len(sessions) == 1
    assert [unit.brain_mask is not None for unit in found] == [only] * len(sessions)


@pytest.mark.parametrize(
    ('files', 'chosen', 'space'),
    [
        (['label-lesion_mask'], 'label-lesion_mask', 'T1w'),
        (['space-T1w_label-lesion_mask', 'space-FLAIR_label-lesion_mask'],
         'space-T1w_label-lesion_mask', 'T1w'),
        (['acq-y_space-FLAIR_label-lesion_mask', 'acq-x_space-FLAIR_label-lesion_mask'],
         'acq-y_space-FLAIR_label-lesion_mask', 'FLAIR'),
        (['space-flair_seg-lst', 'space-flair_desc-annotated_seg-lst', 'space-mni_seg-lst'],
         'space-flair_seg-lst', 'FLAIR'),
        (['space-t1w_seg-lst'], 'space-t1w_seg-lst', 'T1w'),
        (['space-MNI152NLin6Asym_label-lesion_mask', 'desc-brain_mask'], None, None),
    ],
)  # fmt: skip
def test_lesion_masks(
    make_dataset: MakeDataset, files: list[str], chosen: str | None, space: str | None
) -> None:
    unit = unit_with(make_dataset, *derived(*files))
    assert (name_of(unit.lesion_mask), unit.lesion_space) == (chosen, space)


def test_lst_ai_writes_names_without_participant(make_dataset: MakeDataset) -> None:
    unit = unit_with(make_dataset, 'sub-01/ses-A/space-flair_seg-lst.nii.gz')
    assert name_of(unit.lesion_mask) == 'space-flair_seg-lst'
    assert unit.lesion_space == 'FLAIR'


@pytest.mark.parametrize(
    ('files', 'wanted', 'chosen'),
    [
        (['space-T1w_desc-qmt_PSRmap', 'space-T1w_desc-zzz_PSRmap'], None,
         'space-T1w_desc-qmt_PSRmap'),
        (['PSRmap'], None, 'PSRmap'),
        (['space-qmt_PSRmap', 'space-T1w_PSRmap'], None, 'space-T1w_PSRmap'),
        (['space-MNI152NLin6Asym_PSRmap'], None, None),
        (['space-MNI152NLin6Asym_PSRmap'], {'space': '*'}, 'space-MNI152NLin6Asym_PSRmap'),
        (['desc-truth_PSRmap', 'desc-fit_PSRmap', 'desc-retest_PSRmap'], None, None),
        (['desc-truth_PSRmap', 'desc-fit_PSRmap'], {'desc': 'truth'}, 'desc-truth_PSRmap'),
        (['desc-synth_PSRmap', 'desc-synthsd_PSRmap', 'desc-outoffold_PSRmap'], None, None),
        (['desc-synth_PSRmap', 'desc-outoffoldFtldmLora_PSRmap'], None, None),
        (['desc-synth_PSRmap'], {'desc': 'synth'}, None),
    ],
)  # fmt: skip
def test_measured_psr(
    make_dataset: MakeDataset,
    files: list[str],
    wanted: dict[str, object] | None,
    chosen: str | None,
) -> None:
    unit = unit_with(make_dataset, *derived(*files), psr=wanted)
    assert name_of(unit.psr) == chosen
    left_out = [note for note in unit.notes if 'PSR maps left out' in note]
    assert bool(left_out) == (chosen is None and 'synth' not in files[0])


def test_links_that_were_not_fetched_are_mentioned(make_dataset: MakeDataset) -> None:
    masks = make_dataset('masks', *derived('label-lesion_mask'))
    (masks / derived('desc-brain_mask')[0]).symlink_to('absent')
    layout = index(make_dataset('bids', *RAW), {'masks': masks})
    (unit,) = find_units(layout).units
    assert unit.brain_mask is None
    assert unit.lesion_mask is not None
    (note,) = unit.notes
    assert note.startswith('1 files of "masks" cannot be read')
