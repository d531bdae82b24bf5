import numpy as np
import pandas as pd
import pytest

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.roc import delong_interval, delong_test
from demist_app.evaluation.statistics import holm
from demist_app.workflows.evaluation_lesions import (
    LESION_COLUMNS,
    first_scans,
    lesion_means,
    lesion_table,
    voxel_areas,
)
from demist_app.workflows.lesion_section import lesion_section

PEOPLE, LESIONS = 4, 5


def maps(rng, noise):
    """Lesion, proximal and distal white matter; the first lesion has no distal partner."""
    found = []
    for number in range(LESIONS):
        means = np.array([7.0, 10.0, 10.5]) + noise * rng.normal(size=3)
        found.append([*means[:2].tolist(), None if number == 0 else float(means[2])])
    return found


@pytest.fixture
def told():
    """Sidecars of two methods, the second of which knows one participant less."""
    rng = np.random.default_rng(3)
    found = []
    for person in range(PEOPLE):
        shared = {
            'Volume': [0.1] * LESIONS,
            'Measured': maps(rng, 2),
            'FLAIR': [[9.0, 1.0 + n, None if n == 0 else 2.0] for n in range(LESIONS)],
            'T1w': maps(rng, 3),
        }
        for method in ('demist', 'linear') if person else ('demist',):
            row = {'participant_id': f'sub-{person}', 'session_id': 'n/a', 'method': method}
            pairs = shared | {'Synthetic': maps(rng, 2)}
            found.append((row, {'LesionPairs': pairs}))
    return [*found, ({'participant_id': 'sub-9', 'session_id': 'n/a', 'method': 'demist'}, {})]


def values(told, method, image):
    """Return lesions and proximal white matter of a method, in the order of the sidecars."""
    tables = [s['LesionPairs'][image] for row, s in told[:-1] if row['method'] == method]
    return np.array(tables, float).reshape(-1, 3)


def roc(table):
    """Return labels and scores against proximal white matter."""
    labels = np.repeat([True, False], len(table))
    return labels, -np.concatenate([table[:, 0], table[:, 1]])


def table_of(told):
    firsts = first_scans(told)
    return lesion_table(lesion_means(firsts), 'demist', voxel_areas(firsts))


def by_comparator(told):
    return table_of(told).set_index(['method', 'comparator'])


def test_areas_and_tests_are_those_of_the_lesions(told):
    table = by_comparator(told)
    assert [*table.index.names, *table.columns] == list(LESION_COLUMNS)
    assert table.index.get_level_values('method').unique().tolist() == [
        'demist', 'linear', 'measured', 'FLAIR', 'T1w',
    ]  # fmt: skip
    demist = values(told, 'demist', 'Synthetic')
    row = table.loc['demist', 'pNAWM']
    area = delong_interval(*roc(demist))
    assert (row['auc'], row['lower'], row['upper']) == (area.auc, area.lower, area.upper)
    assert (row['lesions'], row['participants']) == (PEOPLE * LESIONS, PEOPLE)
    assert row['drawn_lower'] <= row['auc'] <= row['drawn_upper']
    measured = roc(values(told, 'demist', 'Measured'))[1]
    assert row['p_measured'] == delong_test(*roc(demist), measured)
    assert np.isnan(row['p_reference'])
    difference = [row[f'difference_measured{end}'] for end in ('_lower', '', '_upper')]
    assert difference[1] == row['auc'] - table.loc['measured', 'pNAWM']['auc']
    assert difference == sorted(difference)
    assert table.loc['measured', 'pNAWM']['p_reference'] == pytest.approx(row['p_measured'])
    # bright lesions of FLAIR are found
    assert table.loc['FLAIR', 'pNAWM']['auc'] == 1


def test_methods_are_compared_on_the_lesions_of_both(told):
    table = by_comparator(told)
    labels, linear = roc(values(told, 'linear', 'Synthetic'))
    demist = roc(values(told, 'demist', 'Synthetic')[LESIONS:])[1]
    assert table.loc['linear', 'pNAWM']['p_reference'] == delong_test(labels, linear, demist)
    assert table.loc['linear', 'pNAWM']['lesions'] == (PEOPLE - 1) * LESIONS


def test_the_page_shows_the_interval_of_each_difference(told):
    firsts = first_scans(told)
    means = lesion_means(firsts)
    table = lesion_table(means, 'demist', voxel_areas(firsts))
    named = {name: (name, '') for name in ('demist', 'linear')}
    rows = {row.name: row for row in lesion_section(means, table, named, 'x.tsv').rows}
    combined = table[table['comparator'] == 'combined'].set_index('method')
    ends = combined.loc['linear', ['difference_measured_lower', 'difference_measured_upper']]
    assert ends.is_monotonic_increasing
    shown = '{:.3f} to {:.3f}'.format(*ends).replace('-', '−')
    assert [interval for _, interval in rows['linear'].against] != ['', '']
    assert rows['linear'].against[1][1] == shown
    assert rows['demist'].against[0] == ('–', '')


def test_lesions_without_a_partner_count_where_they_have_one(told):
    table = by_comparator(told)
    counts = table.loc['demist']['lesions'].to_dict()
    everyone = PEOPLE * LESIONS
    assert counts == {'combined': everyone, 'pNAWM': everyone, 'dNAWM': everyone - PEOPLE}


def test_agreement_is_that_of_lesion_means(told):
    table = by_comparator(told)
    ours, theirs = (values(told, 'demist', image)[:, 0] for image in ('Synthetic', 'Measured'))
    expected = agreement(ours, theirs)
    row = table.loc['demist', 'combined']
    assert (row['r'], row['ccc'], row['bias']) == (expected.r, expected.ccc, expected.bias)
    assert (row['limit_lower'], row['limit_upper']) == (expected.lower, expected.upper)
    assert table.loc[['measured', 'FLAIR', 'T1w']][['r', 'bias']].isna().all(axis=None)


def test_a_map_of_one_value_tells_nothing_apart(told):
    for _, sidecar in told[:-1]:
        sidecar['LesionPairs']['Synthetic'] = [
            [mean and 9.0 for mean in means] for means in sidecar['LesionPairs']['Measured']
        ]
    row = table_of(told).iloc[0]
    assert row['auc'] == 0.5
    assert np.isnan(row['ccc'])


def test_one_lesion_says_nothing(told):
    for name, of_lesions in told[0][1]['LesionPairs'].items():
        told[0][1]['LesionPairs'][name] = of_lesions[:1]
    assert table_of(told[:1]).empty
    assert table_of([]).empty


def test_lesions_of_a_later_scan_are_no_others(told):
    first = table_of(told)
    later = [(row | {'session_id': 'ses-10'}, sidecar) for row, sidecar in told]
    named = [(row | {'session_id': 'ses-9'}, sidecar) for row, sidecar in told]
    both = table_of([*later, *named])
    pd.testing.assert_frame_equal(both, first)


def test_p_are_adjusted_for_the_number_of_rows(told):
    table = table_of(told)
    for _, rows in table.groupby('comparator'):
        adjusted = rows['p_measured_holm'].dropna()
        assert adjusted.tolist() == holm(rows['p_measured'].dropna()).tolist()
        assert len(adjusted) == 4


def test_areas_for_voxels_are_means_over_participants(told):
    for number, (_, sidecar) in enumerate(told[:-1]):
        of_map = {'combined': 0.5 + number / 100, 'pNAWM': 0.6, 'dNAWM': None}
        maps = ('Synthetic', 'Measured', 'FLAIR', 'T1w')
        sidecar['LesionPairs']['VoxelAUC'] = dict.fromkeys(maps, of_map)
    table = by_comparator(told)
    demist = [0.5 + n / 100 for n, (row, _) in enumerate(told[:-1]) if row['method'] == 'demist']
    for name in ('demist', 'FLAIR'):
        row = table.loc[name, 'combined']
        assert row['auc_voxels'] == pytest.approx(np.mean(demist))
        assert min(demist) <= row['voxels_lower'] < row['voxels_upper'] <= max(demist)
    assert table.loc['linear', 'pNAWM']['auc_voxels'] == 0.6
    assert table.xs('dNAWM', level='comparator')['auc_voxels'].isna().all()
