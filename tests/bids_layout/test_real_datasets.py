"""Data sets that others made: pybids' own test data, and real scans."""

import warnings
from pathlib import Path

import pytest

from bids_layout.pairing import find_units
from bids_layout.query import index

# The wheel of pybids comes without this folder: `make .cache/pybids` takes it from the sdist.
PYBIDS_DATA = Path(__file__).resolve().parents[2] / '.cache' / 'pybids' / 'tests' / 'data'
PYBIDS_SETS = [
    str(path.parent.relative_to(PYBIDS_DATA))
    for path in sorted(PYBIDS_DATA.rglob('dataset_description.json'))
]
T1W_STANDS_IN = {'flair': {'suffix': 'T1w'}}


@pytest.mark.skipif(not PYBIDS_SETS, reason='no test data of pybids (make .cache/pybids)')
def test_all_data_of_pybids_is_here() -> None:
    assert {'7t_trt', 'ds000117', 'ds005', 'ds005_conflict', 'synthetic'} <= set(PYBIDS_SETS)


@pytest.mark.parametrize('validate', [True, False])
@pytest.mark.parametrize('name', PYBIDS_SETS)
def test_data_of_pybids(name: str, validate: bool) -> None:
    bids_dir = PYBIDS_DATA / name
    layout = index(bids_dir, {}, validate=validate)
    pairing = find_units(layout)
    assert pairing.units == ()  # there is no FLAIR in any of them
    mentioned = {skipped.label.split('_')[0] for skipped in pairing.skipped}
    assert mentioned == {path.name for path in bids_dir.glob('sub-*/')}

    with_t1w = {
        path.name.split('_run-')[0].removesuffix('_T1w.nii.gz')
        for path in bids_dir.glob('sub-*/**/anat/*_T1w.nii.gz')
        if 'derivatives' not in path.relative_to(bids_dir).parts
    }
    stood_in = find_units(layout, filters=T1W_STANDS_IN).units
    assert {unit.label for unit in stood_in} == {label.split('_acq-')[0] for label in with_t1w}


@pytest.mark.parametrize('name', [name for name in PYBIDS_SETS if 'deriv' in name])
def test_derivatives_of_pybids(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # the data uses deprecated fields
        layout = index(PYBIDS_DATA / 'ds005', {'d': PYBIDS_DATA / name})
    (first, *_) = find_units(layout, filters=T1W_STANDS_IN).units
    assert first.label == 'sub-01'
    assert first.brain_mask is None


def test_real_scans_make_four_units(real_data: Path) -> None:
    bids_dir = real_data / 'openms'
    names = ('brainmasks', 'lesions')
    derivatives = {name: bids_dir / 'derivatives' / name for name in names}
    pairing = find_units(index(bids_dir, derivatives))
    assert pairing.skipped == ()
    found = {
        unit.label: (unit.brain_mask is not None, unit.lesion_mask is not None)
        for unit in pairing.units
    }
    assert found == {
        'sub-cross07': (False, True),
        'sub-long01_ses-01': (True, False),
        'sub-long01_ses-02': (True, False),
        'sub-long20_ses-02': (True, False),
    }
    assert pairing.units[0].lesion_space == 'T1w'
    assert pairing.units[0].metadata['T1w']['SkullStripped'] is True
