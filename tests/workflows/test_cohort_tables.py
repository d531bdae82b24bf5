import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.workflows.cohort import find_traces
from demist_app.workflows.cohort_tables import (
    OUTLIER_Z,
    PSR_COLUMNS,
    QC_COLUMNS,
    changes,
    psr_table,
    qc_table,
    robust_z,
    to_tsv,
)

WHITE = [10.8, 11.0, 11.1, 11.3, 10.9, 7.0]


@pytest.fixture
def units(cohort):
    for number, median in enumerate(WHITE, 1):
        cohort.add(f'sub-{number}', {'WM': median, 'lesions': None}, volume=1300.0 + 10 * number)
    cohort.end_run(sub7='failed: no brain')
    return find_traces(cohort.inputs)


def test_psr_table_has_a_row_for_every_region_of_every_finished_unit(units):
    table = psr_table(units)
    assert list(table.columns) == list(PSR_COLUMNS)
    assert len(table) == 2 * len(WHITE)
    assert list(table.loc[table['region'] == 'WM', 'psr_median']) == WHITE
    assert table.loc[table['region'] == 'lesions', 'psr_median_z'].isna().all()


def test_qc_table_names_the_outlier_and_the_failure(units):
    table, outliers = qc_table(units, {'6': 'patient'}, psr_table(units))
    assert list(table.columns) == list(QC_COLUMNS)
    (outlier,) = outliers
    assert (outlier.label, outlier.what, outlier.value) == ('sub-6', 'WM', 7.0)
    assert outlier.z < -OUTLIER_Z
    assert table.loc['sub-6', 'outliers'] == f'WM (z {outlier.z:+.1f})'
    assert table.loc['sub-6', 'group'] == 'patient'
    assert tuple(table.loc['sub-7', ['status', 'reason']]) == ('failed', 'no brain')
    first = table.loc['sub-1']
    assert (first['flair_shift_mm'], first['flair_voxel_mm']) == (0.75, '1.00x1.00x3.00')
    assert (first['t1w_distance'], first['draws'], first['wm_synthsd_mean']) == (1.25, 8, 0.5)


@given(
    st.lists(st.floats(5, 15), min_size=5, max_size=30),
    st.floats(0.1, 10),
    st.floats(-50, 50),
)
def test_robust_z_ignores_unit_and_origin(values, factor, shift):
    # multiples of 1/64 keep the arithmetic free of rounding where it matters: whether MAD is 0
    values = pd.Series(np.round(np.array(values) * 64) / 64)
    z = robust_z(values)
    if z.isna().all():
        assert (values - values.median()).abs().median() == 0
    else:
        np.testing.assert_allclose(robust_z(values * factor + shift), z, atol=1e-6, rtol=1e-6)
        assert z.abs().median() == pytest.approx(0.6745)


def test_four_values_have_no_outlier():
    assert robust_z(pd.Series([1.0, 2, 3, 1000])).isna().all()


def test_change_is_last_minus_first_session_of_one_model(cohort):
    cohort.add('sub-1_ses-10', {'WM': 10.5, 'lesions': 6.0})
    cohort.add('sub-1_ses-2', {'WM': 11.0})
    cohort.add('sub-2_ses-1', {'WM': 11.0})
    cohort.add('sub-2_ses-2', {'WM': 10.0}, model='bb')
    cohort.add('sub-3_ses-1', {'WM': 11.0})
    same, other = changes(find_traces(cohort.inputs))
    assert same.sessions == ['2', '10']
    assert same.difference('WM') == pytest.approx(-0.5)
    assert math.isnan(same.difference('lesions'))  # not in the first session
    assert math.isnan(other.difference('WM'))


@given(st.lists(st.text() | st.floats() | st.integers() | st.none(), min_size=1, max_size=5))
def test_a_row_stays_one_line_of_as_many_cells(cells):
    text = to_tsv(pd.DataFrame([cells], columns=[str(n) for n in range(len(cells))], dtype=object))
    lines = text.removesuffix('\n').split('\n')
    assert len(lines) == 2
    assert len(lines[1].split('\t')) == len(cells)
    assert '' not in lines[1].split('\t')
    assert len(text.splitlines()) == 2 or not any(isinstance(cell, str) for cell in cells)
