"""Names on disk, as design section 4 gives them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_layout.names import (
    bids_uri,
    dataset_links,
    derivative_path,
    figure_path,
    report_path,
)
from bids_layout.pairing import Unit

OUT = Path('/out')


def make_unit(participant: str, session: str | None) -> Unit:
    return Unit(participant=participant, session=session, t1w=Path('t1w'), flair=Path('flair'))


@pytest.mark.parametrize(
    ('entities', 'name'),
    [
        ({'suffix': 'T1w', 'desc': 'preproc'}, 'desc-preproc_T1w.nii.gz'),
        ({'suffix': 'FLAIR', 'desc': 'preproc', 'space': 'T1w'},
         'space-T1w_desc-preproc_FLAIR.nii.gz'),
        ({'suffix': 'mask', 'desc': 'brain'}, 'desc-brain_mask.nii.gz'),
        ({'suffix': 'mask', 'label': 'lesion', 'space': 'T1w'},
         'space-T1w_label-lesion_mask.nii.gz'),
        ({'suffix': 'xfm', 'from': 'FLAIR', 'to': 'T1w', 'extension': '.txt'},
         'from-FLAIR_to-T1w_mode-image_xfm.txt'),
        ({'suffix': 'xfm', 'from': 'FLAIR', 'to': 'T1w', 'mode': 'image', 'extension': '.x5'},
         'from-FLAIR_to-T1w_mode-image_xfm.x5'),
        ({'suffix': 'PSRmap', 'desc': 'synth', 'space': 'T1w'},
         'space-T1w_desc-synth_PSRmap.nii.gz'),
        ({'suffix': 'PSRmap', 'desc': 'synthsd', 'space': 'T1w', 'extension': '.json'},
         'space-T1w_desc-synthsd_PSRmap.json'),
        ({'suffix': 'PSRmap', 'desc': 'synth', 'space': 'MNIPediatricAsym', 'cohort': '2',
          'resolution': '1'}, 'space-MNIPediatricAsym_cohort-2_res-1_desc-synth_PSRmap.nii.gz'),
        ({'suffix': 'psr', 'desc': 'synth'}, 'desc-synth_psr.tsv'),
    ],
)  # fmt: skip
def test_names_of_the_design(entities: dict[str, str], name: str) -> None:
    with_session = derivative_path(OUT, make_unit('01', 'A'), **entities)  # type: ignore[arg-type]
    assert with_session == OUT / 'sub-01/ses-A/anat' / f'sub-01_ses-A_{name}'
    without = derivative_path(OUT, make_unit('01', None), **entities)  # type: ignore[arg-type]
    assert without == OUT / 'sub-01/anat' / f'sub-01_{name}'


@pytest.mark.parametrize(
    'entities',
    [
        {'suffix': 'MTRmap', 'desc': 'synth'},
        {'suffix': 'xfm', 'from': 'FLAIR', 'to': 'T1w'},
        {'suffix': 'PSRmap', 'run': '1'},
        {'suffix': 'PSRmap', 'extension': '.tsv'},
    ],
)
def test_other_names_are_refused(entities: dict[str, str]) -> None:
    with pytest.raises(ValueError, match='no output of demist'):
        derivative_path(OUT, make_unit('01', None), **entities)  # type: ignore[arg-type]


LABELS = st.text('abcXYZ0123456789', min_size=1, max_size=6)


@given(LABELS, st.none() | LABELS, st.none() | LABELS, st.none() | LABELS)
def test_names_say_all_and_differ(
    participant: str, session: str | None, space: str | None, desc: str | None
) -> None:
    unit = make_unit(participant, session)
    path = derivative_path(OUT, unit, suffix='PSRmap', space=space, desc=desc)
    given_entities = {'sub': participant, 'ses': session, 'space': space, 'desc': desc}
    parts = [f'{key}-{value}' for key, value in given_entities.items() if value]
    assert path.name == '_'.join([*parts, 'PSRmap.nii.gz'])
    assert path.name.startswith(f'{unit.label}_')


def test_reports_and_figures() -> None:
    unit = make_unit('01', 'A')
    assert report_path(OUT, unit) == OUT / 'sub-01_ses-A.html'
    figure = figure_path(OUT, unit, suffix='PSRmap', desc='synth', space='T1w')
    assert figure == OUT / 'sub-01/ses-A/figures/sub-01_ses-A_space-T1w_desc-synth_PSRmap.svg'


def test_links_are_relative_inside_the_data_set_only() -> None:
    bids, out = Path('/d/bids'), Path('/d/bids/derivatives/demist')
    masks, elsewhere = Path('/d/bids/derivatives/masks'), Path('/x/a b')
    assert dataset_links(out, bids, {'masks': masks, 'x': elsewhere}) == {
        'raw': '../..',
        'masks': '../masks',
        'x': 'file:///x/a%20b',
    }
    assert dataset_links(Path('/out'), bids, {}) == {'raw': 'file:///d/bids'}


def test_uris_name_the_nearest_data_set() -> None:
    bids, masks = Path('/d/bids'), Path('/d/bids/derivatives/masks')
    t1w = bids / 'sub-01/anat/sub-01_T1w.nii.gz'
    assert bids_uri(t1w, bids, {'masks': masks}) == 'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    assert bids_uri(masks / 'sub-01/m.nii', bids, {'masks': masks}) == 'bids:masks:sub-01/m.nii'
    with pytest.raises(ValueError, match='in none of the data sets'):
        bids_uri(Path('/elsewhere'), bids, {})
