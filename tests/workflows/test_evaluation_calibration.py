import math

import numpy as np
import pytest

from demist_app.workflows.evaluation_calibration import (
    CALIBRATION_COLUMNS,
    calibration_means,
    calibration_table,
    spread_and_error,
)


def told(person, session, error, sd, method='demist', draws=8):
    """Sidecar of a map whose errors and SD are the same in all tenths."""
    region = {
        'Voxels': 100,
        'Error': -error,
        'SquaredError': error**2,
        'Variance': sd**2,
        'Coverage': {'0.5': 0.1 * error, '0.8': 0.6, '0.9': 0.7, '0.95': 0.8},
    }
    tenths = {'Variance': [sd**2] * 10, 'SquaredError': [error**2] * 10}
    row = {'participant_id': person, 'session_id': session, 'method': method, 'draws': draws}
    regions = {'brain': region, 'WM': region, 'GM': region}
    return row, {'Calibration': {'Regions': regions, 'Tenths': tenths}}


@pytest.fixture
def found():
    """Two scans of one participant, one of another, and maps without an SD."""
    return [
        told('sub-1', 'ses-A', 2.0, 1.0),
        told('sub-1', 'ses-B', 4.0, 1.0),
        told('sub-2', 'n/a', 1.0, 2.0),
        told('sub-2', 'n/a', 1.0, 1.0, 'linear', 1),
        ({'participant_id': 'sub-3', 'method': 'mean', 'draws': 1}, {}),
    ]


def test_scans_of_one_are_averaged_before_participants(found):
    table = calibration_table(calibration_means(found)[0])
    assert list(table) == list(CALIBRATION_COLUMNS)
    assert list(zip(table['method'], table['region'], strict=True)) == [
        ('demist', 'brain'), ('demist', 'GM'), ('demist', 'WM'),
        ('linear', 'brain'), ('linear', 'GM'), ('linear', 'WM'),
    ]  # fmt: skip
    row = table.iloc[0]
    assert (row['draws'], row['participants'], row['voxels']) == ('8', 2, 300)
    assert row['bias'] == (3 + 1) / 2
    assert row['rmse'] == math.sqrt((10 + 1) / 2)
    assert row['sd'] == math.sqrt((1 + 4) / 2)
    assert row['ratio'] == pytest.approx(row['rmse'] / row['sd'])
    assert row['coverage_50'] == pytest.approx((0.3 + 0.1) / 2)
    assert row['coverage_95'] == pytest.approx(0.8)
    # of two participants a draw has both, or one of them twice
    assert (row['coverage_50_lower'], row['coverage_50_upper']) == pytest.approx((0.1, 0.3))
    assert np.isnan(table.iloc[3]['coverage_50_lower'])  # one participant


def test_tenths_are_pooled_likewise(found):
    curves = spread_and_error(calibration_means(found)[1])
    assert curves['linear'] == [(1, 1)] * 10
    assert curves['demist'] == [(math.sqrt(2.5), math.sqrt(5.5))] * 10


def test_the_sd_of_a_few_draws_has_no_tenths():
    regions, tenths = calibration_means([told('sub-1', 'n/a', 2.0, 1.0, draws=2)])
    assert len(calibration_table(regions)) == 3
    assert spread_and_error(tenths) == {}


def test_the_sd_of_a_table_has_tenths_whatever_the_draws():
    row, sidecar = told('sub-1', 'n/a', 2.0, 1.0, draws=2)
    sidecar['Calibration']['Draws'] = 1
    assert spread_and_error(calibration_means([(row, sidecar)])[1])


def test_without_an_sd_there_is_nothing_to_tell(found):
    regions, tenths = calibration_means(found[-1:])
    assert calibration_table(regions).empty
    assert spread_and_error(tenths) == {}
