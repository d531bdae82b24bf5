import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import tensor
from torchmetrics.functional import concordance_corrcoef

from demist_app.evaluation.agreement import agreement, agreement_by, ccc, icc

# Bland & Altman, Lancet 1986, i:307, table 1: peak expiratory flow rate (l/min) of 17 people, first
# measurement with the large and with the mini meter
LARGE = np.array(
    [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
)
MINI = np.array(
    [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
)
# Shrout & Fleiss, Psychol. Bull. 1979, 86:420, table 2: six targets, four judges
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

values = arrays(np.float64, 12, elements=st.floats(-100, 100).map(lambda x: round(x, 3)))


def test_peak_flow_of_bland_and_altman():
    found = agreement(LARGE, MINI)
    assert found.n == 17
    # all figures of the paper: page 308 (r), 309 (bias, SD, intervals)
    assert found.r == pytest.approx(0.94, abs=0.005)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.bias_low, found.bias_high) == pytest.approx((-22.0, 17.8), abs=0.1)
    # the paper takes 2 SD for the limits (-79.7 and 75.5), we the 1.96 of their later ones
    assert found.bias - 2 * found.sd == pytest.approx(-79.7, abs=0.1)
    assert found.bias + 2 * found.sd == pytest.approx(75.5, abs=0.1)
    assert (found.upper - found.lower) / found.sd == pytest.approx(2 * 1.96)
    # its intervals of the limits are 69.2 wide, with √(3/n) for √(1/n + 1.96²/(2(n − 1)))
    for low, high in (
        (found.lower_low, found.lower_high),
        (found.upper_low, found.upper_high),
    ):
        assert high - low == pytest.approx(69.2, abs=0.5)


def test_judges_of_shrout_and_fleiss():
    assert icc(JUDGES) == pytest.approx(0.29, abs=0.005)  # table 4


@settings(deadline=None)
@given(values, values)
def test_concordance_is_that_of_torchmetrics(first, second):
    second = second + first
    assume(first.std() > 1 and second.std() > 1)
    # torchmetrics has variances over n − 1: the same for a shift larger by √(n/(n − 1))
    shifted = second + (np.sqrt(12 / 11) - 1) * (second.mean() - first.mean())
    expected = float(concordance_corrcoef(tensor(first), tensor(shifted)))
    assert ccc(first, second) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(values, values, st.floats(0.1, 10), st.floats(-50, 50))
def test_coefficients_do_not_depend_on_the_unit(first, second, scale, shift):
    assume(first.std() > 1 and second.std() > 1)
    before = agreement(first, second)
    after = agreement(first * scale + shift, second * scale + shift)
    for name in ('r', 'ccc', 'icc', 'slope'):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-6)
    for name in ('bias', 'sd'):
        assert getattr(after, name) == pytest.approx(getattr(before, name) * scale, abs=1e-6)


@settings(deadline=None)
@given(values, values)
def test_concordance_is_at_most_the_correlation(first, second):
    assume(first.std() > 1 and second.std() > 1)
    found = agreement(first, second)
    assert abs(found.ccc) <= abs(found.r) + 1e-9


def test_line_goes_from_the_first_to_the_second():
    synthetic = np.array([2.0, 5.0, 9.0, 12.0])
    found = agreement(synthetic, 1 + 0.5 * synthetic)
    assert (found.slope, found.intercept) == pytest.approx((0.5, 1))
    assert found.bias == pytest.approx(np.mean(synthetic - (1 + 0.5 * synthetic)))


def test_scans_of_a_participant_count_once():
    rng = np.random.default_rng(0)
    measured = rng.uniform(5, 14, 8)
    table = pd.DataFrame(
        {
            'participant_id': ['a', 'b', 'c', 'd', 'd', 'a', 'b', 'c'],
            'region': ['wm'] * 5 + ['gm'] * 3,
            'synthetic': measured + rng.normal(size=8),
            'measured': measured,
        }
    )
    found = agreement_by(table, 'region')
    assert list(found.index) == ['wm', 'gm']
    assert found.index.name == 'region'
    assert list(found['n']) == [4, 3]
    matter = table[table['region'] == 'wm'].groupby('participant_id')[['synthetic', 'measured']]
    means = matter.mean()
    alone = agreement(means['synthetic'], means['measured'])
    assert found.loc['wm', 'icc'] == pytest.approx(alone.icc)
    several = agreement_by(table.assign(method='demist'), ['method', 'region'])
    assert several.index.names == ['method', 'region']
    assert several.loc[('demist', 'gm'), 'bias'] == pytest.approx(found.loc['gm', 'bias'])
