import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel, wilcoxon

from demist_app.evaluation.statistics import caption, cohens_dz, compare, holm, rank_biserial


def table(gain, participants=12, seed=0):
    """PSNR of four methods; some participants have two scans; 'best' gains over 'base'."""
    rng = np.random.default_rng(seed)
    rows = []
    for participant in range(participants):
        ease = rng.normal(0, 2)
        for session in range(1 + participant % 2):
            for method, mean in {'base': 20, 'best': 20 + gain, 'same': 20, 'low': 18}.items():
                psnr = mean + ease + rng.normal(0, 0.5)
                rows.append((f'sub-{participant:02}', f'ses-{session}', method, psnr, -psnr))
    columns = ['participant_id', 'session_id', 'method', 'psnr', 'mae']
    return pd.DataFrame(rows, columns=columns)


def test_tests_are_of_participant_means():
    scores = table(1.0)
    found = compare(scores, 'psnr', 'base')
    means = scores.groupby(['participant_id', 'method'])['psnr'].mean().unstack()
    assert list(found.index) == ['base', 'best', 'same', 'low']
    assert (found['scans'] == 18).all()
    assert (found['participants'] == 12).all()
    for method in ('best', 'same', 'low'):
        row = found.loc[method]
        expected = ttest_rel(means[method], means['base'])
        assert row['t'] == pytest.approx(expected.statistic)
        assert row['p_t'] == pytest.approx(expected.pvalue)
        assert row['p_wilcoxon'] == wilcoxon(means[method], means['base']).pvalue
        assert row['mean'] == pytest.approx(means[method].mean())
        assert row['sd'] == pytest.approx(means[method].std())
        assert row['difference'] == pytest.approx((means[method] - means['base']).mean())
        assert row['lower'] < row['difference'] < row['upper']
        assert row['dz'] == pytest.approx(row['t'] / np.sqrt(12))
    tested = found.drop('base')
    assert list(tested['p_t_holm']) == pytest.approx(list(holm(tested['p_t'])))
    assert list(tested['p_wilcoxon_holm']) == pytest.approx(list(holm(tested['p_wilcoxon'])))


def test_stars_are_what_the_caption_says():
    found = compare(table(1.0, seed=1), 'psnr', 'base')
    assert found['stars'].to_dict() == {'base': '', 'best': '*', 'same': '', 'low': '*'}
    assert (found['stars'] == '*').equals(found['p_t_holm'] < 0.05)
    assert caption('base').startswith('* differs from base: paired t-test on participant means')


def test_star_needs_the_adjusted_p():
    # p just below 0.05 alone: no star once three methods are compared
    for seed in range(200):
        found = compare(table(0.25, seed=seed), 'psnr', 'base', draws=10)
        if 0.025 < found.loc['best', 'p_t'] < 0.05:
            break
    assert found.loc['best', 'p_t'] < 0.05 < found.loc['best', 'p_t_holm']
    assert found.loc['best', 'stars'] == ''


def test_sign_follows_the_metric():
    scores = table(1.0)
    psnr, mae = (compare(scores, metric, 'base') for metric in ('psnr', 'mae'))
    for name in ('difference', 't', 'dz', 'rank_biserial'):
        assert psnr.loc['best', name] == pytest.approx(-mae.loc['best', name])


def test_only_scans_both_methods_scored_are_compared():
    scores = table(1.0)
    gone = (scores['method'] == 'best') & (scores['participant_id'] == 'sub-01')
    found = compare(scores[~gone], 'psnr', 'base')
    assert found.loc['best', 'participants'] == 11
    assert found.loc['low', 'participants'] == 12


def test_table_from_a_file_without_sessions():
    scores = table(1.0).drop_duplicates(['participant_id', 'method'])
    text = scores.assign(session_id='n/a').to_csv(sep='\t', index=False)
    found = compare(pd.read_csv(io.StringIO(text), sep='\t'), 'psnr', 'base')
    assert (found['participants'] == 12).all()
    assert found.loc['best', 'p_t'] == pytest.approx(
        compare(scores, 'psnr', 'base').loc['best', 'p_t']
    )


def test_one_method_alone_is_only_described():
    scores = table(1.0)
    found = compare(scores[scores['method'] == 'base'], 'psnr', 'base')
    assert found.loc['base', 'scans'] == 18
    assert found.loc['base', 'difference':'rank_biserial'].isna().all()


def test_chance_seldom_earns_a_star():
    # Holm keeps the chance of any star below 5 %: binomial(40, 0.05) is seldom above 6
    rng = np.random.default_rng(3)
    starred = 0
    for _ in range(40):
        rows = {(p, m): rng.normal() for p in range(6) for m in 'abcd'}
        scores = pd.Series(rows).rename_axis(['participant_id', 'method']).rename('x')
        found = compare(scores.reset_index().assign(session_id='1'), 'x', 'a', draws=2)
        starred += (found['stars'] == '*').any()
    assert starred <= 6


def test_holm_by_hand():
    # 4, 3, 2, 1 times the sorted p: 0.004, 0.045, 0.04, 0.04; never less than the one before
    assert list(holm([0.04, 0.001, 0.015, 0.02])) == pytest.approx([0.045, 0.004, 0.045, 0.045])
    assert list(holm([0.6, 0.7])) == [1, 1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_keeps_order_and_range(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_effect_sizes():
    assert cohens_dz([1, 2, 3]) == 2
    # Wilcoxon's ranks: 1, 2, 3.5, 3.5 for, zero left out
    assert rank_biserial([1, -2, 3, -3, 0]) == pytest.approx((1 - 2 + 3.5 - 3.5) / 10)
    assert rank_biserial([0.1, 5, 2]) == 1
