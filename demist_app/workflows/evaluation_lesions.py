"""Lesions against normal-appearing white matter, by all methods of a cross-validation."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from bids.utils import natural_sort
from numpy.typing import NDArray

from demist_app.evaluation.agreement import agreement
from demist_app.evaluation.bootstrap import mean_interval
from demist_app.evaluation.lesions import BRIGHT, PARTNERS, pair_scores
from demist_app.evaluation.roc import (
    auc,
    auc_interval,
    delong_interval,
    delong_test,
)
from demist_app.evaluation.statistics import holm
from demist_app.workflows.evaluation import Told

MEASURED = 'measured'
OTHERS = {MEASURED: 'Measured', BRIGHT: 'FLAIR', 'T1w': 'T1w'}
"""What stands beside the methods, to its name in sidecars."""
_PARTS = ('lesion', 'pNAWM', 'dNAWM')
_NOTHING = (None,) * len(_PARTS)
_OWN = 'Synthetic'
_FEWEST = 2  # lesions that an area has a variance of
_FEWEST_AGREEING = 3


def _difference(other: str, words: str) -> dict[str, dict[str, Any]]:
    name = f'difference_{other}'
    return {
        name: {'Description': f'AUC minus that of {words}'},
        f'{name}_lower': {
            'Description': 'Lower end of its 95 % interval, whole participants drawn 2000 times'
        },
        f'{name}_upper': {'Description': 'Upper end of this interval'},
    }


LESION_COLUMNS: dict[str, dict[str, Any]] = {
    'method': {
        'Description': 'Method, as in group_scores.tsv; or what stands beside them',
        'Levels': {
            MEASURED: 'the measured PSR maps themselves, with their noise',
            BRIGHT: 'intensity of the FLAIR alone, bright lesions',
            'T1w': 'intensity of the T1w alone, dark lesions',
        },
    },
    'comparator': {
        'Description': 'What lesions are told apart from',
        'Levels': {
            'combined': 'pNAWM and dNAWM',
            'pNAWM': 'proximal normal-appearing white matter, 2 to 8 mm from the lesion',
            'dNAWM': 'distal one, under the mirror image of the lesion',
        },
    },
    'lesions': {
        'Description': 'Lesions of at least 27 mm³ that have such a partner, of the first scan of '
        'each participant'
    },
    'participants': {'Description': 'Participants of these lesions'},
    'auc': {
        'Description': 'Area under the ROC curve of the means of lesions and partners; low PSR '
        'speaks for a lesion'
    },
    'lower': {'Description': 'Lower end of its 95 % interval after DeLong'},
    'upper': {'Description': 'Upper end of this interval'},
    'drawn_lower': {
        'Description': 'Lower end of its 95 % interval, whole participants drawn 2000 times'
    },
    'drawn_upper': {'Description': 'Upper end of this interval'},
    'auc_voxels': {
        'Description': 'The same for voxels instead of means: area within each scan, mean over '
        'participants'
    },
    'voxels_lower': {
        'Description': 'Lower end of its 95 % interval, whole participants drawn 2000 times'
    },
    'voxels_upper': {'Description': 'Upper end of this interval'},
    'reference': {'Description': 'Method that the others are compared with'},
    **_difference('reference', 'the reference, on the lesions of both'),
    'p_reference': {
        'Description': 'p of the DeLong test against the reference, on the lesions of both'
    },
    'p_reference_holm': {'Description': 'The same, Holm-adjusted over the rows of one comparator'},
    **_difference('measured', 'the measured maps'),
    'p_measured': {'Description': 'p of the DeLong test against the measured maps'},
    'p_measured_holm': {'Description': 'The same, Holm-adjusted likewise'},
    'r': {'Description': "Pearson's correlation of synthetic and measured means of these lesions"},
    'ccc': {'Description': "Lin's concordance correlation coefficient of the same"},
    'bias': {'Description': 'Mean of synthetic − measured', 'Units': 'percentage points'},
    'limit_lower': {
        'Description': 'Lower limit of agreement, bias − 1.96 SD',
        'Units': 'percentage points',
    },
    'limit_upper': {
        'Description': 'Upper limit of agreement, bias + 1.96 SD',
        'Units': 'percentage points',
    },
}
"""Sidecar of ``group_lesions.tsv``; its keys are the columns."""


def first_scans(told: Iterable[Told]) -> list[Told]:
    """Keep the first scan with lesions of every participant, by all methods.

    The lesions of a later one are the same: they would be counted as others.

    Parameters
    ----------
    told : iterable of Told
        As `demist_app.workflows.evaluation.sidecars` gives them.
    """
    kept = [(row, sidecar) for row, sidecar in told if _any_lesion(sidecar)]
    sessions: dict[str, set[str]] = {}
    for row, _ in kept:
        sessions.setdefault(row['participant_id'], set()).add(str(row['session_id']))
    first = {who: natural_sort(names)[0] for who, names in sessions.items()}
    return [
        (row, sidecar)
        for row, sidecar in kept
        if str(row['session_id']) == first[row['participant_id']]
    ]


def voxel_areas(told: Iterable[Told]) -> pd.DataFrame:
    """Gather the areas for voxels: ``participant_id``, ``method``, ``image``, partners.

    Parameters
    ----------
    told : iterable of Told
        As `first_scans` gives them.
    """
    names = ['participant_id', 'method']
    rows = [
        {name: row[name] for name in names} | {'image': image} | areas
        for row, sidecar in told
        for image, areas in sidecar['LesionPairs'].get('VoxelAUC', {}).items()
    ]
    return pd.DataFrame(rows, columns=[*names, 'image', *PARTNERS]).astype(
        dict.fromkeys(PARTNERS, float)
    )


def lesion_means(told: Iterable[Told]) -> pd.DataFrame:
    """Gather what sidecars say of lesions.

    Parameters
    ----------
    told : iterable of Told
        As `first_scans` gives them.

    Returns
    -------
    DataFrame
        One row per lesion and method: ``participant_id``, ``session_id``, ``method``, ``number``,
        ``volume_ml``, and the means of four maps, such as ``Synthetic lesion``, ``FLAIR dNAWM``;
        NaN where a lesion has no such partner, or nothing was measured.
    """
    names = ['participant_id', 'session_id', 'method']
    maps = (_OWN, *OTHERS.values())
    rows = [
        {
            **{name: row[name] for name in names},
            'number': number,
            'volume_ml': volume,
            **{
                f'{image} {part}': math.nan if mean is None else mean
                for image in maps
                for means in [pairs[image][number] if image in pairs else _NOTHING]
                for part, mean in zip(_PARTS, means, strict=True)
            },
        }
        for row, sidecar in told
        for pairs in [sidecar['LesionPairs']]
        for number, volume in enumerate(pairs['Volume'])
    ]
    columns = [f'{image} {part}' for image in maps for part in _PARTS]
    return pd.DataFrame(rows, columns=[*names, 'number', 'volume_ml', *columns])


def lesion_table(lesions: pd.DataFrame, reference: str, voxels: pd.DataFrame) -> pd.DataFrame:
    """Say how well each method tells lesions from NAWM, and how right it is in them.

    Parameters
    ----------
    lesions : DataFrame
        As `lesion_means` gives them.
    reference : str
        Method that the others are compared with.
    voxels : DataFrame
        As `voxel_areas` gives them.

    Returns
    -------
    DataFrame
        Columns as in `LESION_COLUMNS`, methods first. A method or comparator with fewer than two
        lesions has no row.
    """
    rows = []
    theirs = lesions[lesions['method'] == reference]
    for name, table, image in subjects(lesions):
        for partner in PARTNERS:
            paired = np.unique(labelled(table, image, partner)[2])
            if len(paired) < _FEWEST:
                continue
            chosen = table.iloc[paired]
            row: dict[str, Any] = {'method': name, 'comparator': partner, 'reference': reference}
            row |= _area(chosen, image, partner)
            row |= _voxel_area(voxels[voxels['method'].isin(table['method'])], image, partner)
            if name != reference:
                row |= _against_reference(chosen, image, partner, theirs)
            if name != MEASURED:
                row |= _against_measured(chosen, image, partner)
            if image == _OWN:
                row |= _agreement(chosen)
            rows.append(row)
    made = pd.DataFrame(rows, columns=list(LESION_COLUMNS))
    for test in ('p_reference', 'p_measured'):
        adjusted = made.groupby('comparator')[test].transform(lambda p: holm(p.to_numpy(float)))
        made[f'{test}_holm'] = adjusted.astype(float)
    return made


def subjects(lesions: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield what is judged: its name, its lesions, and which of their maps it is.

    Parameters
    ----------
    lesions : DataFrame
        As `lesion_means` gives them.
    """
    for method, table in lesions.groupby('method', sort=False):
        yield str(method), table, _OWN
    every = lesions.drop_duplicates(_keys(lesions))  # each method has them again
    for name, image in OTHERS.items():
        if np.isfinite(means_of(every, image)).any():  # there may be no measured map
            yield name, every, image


def means_of(lesions: pd.DataFrame, image: str) -> NDArray[np.float64]:
    """Return the means of one map, shape (lesions, 3), for `pair_scores`."""
    return lesions[[f'{image} {part}' for part in _PARTS]].to_numpy(float)


def labelled(
    lesions: pd.DataFrame, image: str, partner: str
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.intp]]:
    """Return labels, scores and rows of one map, as `pair_scores` does."""
    return pair_scores(means_of(lesions, image), partner, bright=image == BRIGHT)


def _any_lesion(sidecar: Mapping[str, Any]) -> bool:
    return bool(sidecar.get('LesionPairs', {}).get('Volume'))


def _keys(lesions: pd.DataFrame) -> list[str]:
    """Return the columns that are the same for every method, if the lesion is the same."""
    own = {'method', *(f'{_OWN} {part}' for part in _PARTS)}
    return [str(name) for name in lesions if name not in own]


def _area(lesions: pd.DataFrame, image: str, partner: str) -> dict[str, Any]:
    labels, scores, rows = labelled(lesions, image, partner)
    owners = lesions['participant_id'].to_numpy()[rows]
    area = delong_interval(labels, scores)
    low, high = auc_interval(labels, scores, owners)
    return {
        'lesions': len(lesions),
        'participants': lesions['participant_id'].nunique(),
        **vars(area),
        'drawn_lower': low,
        'drawn_upper': high,
    }


def _voxel_area(voxels: pd.DataFrame, image: str, partner: str) -> dict[str, float]:
    """Average over participants; what stands beside the methods is the same with each of them."""
    found = voxels[voxels['image'] == image].groupby('participant_id')[partner].first().dropna()
    if found.empty:
        return {}
    values = found.to_numpy()
    low, high = map(float, mean_interval(values))
    return {'auc_voxels': float(values.mean()), 'voxels_lower': low, 'voxels_upper': high}


def _against_measured(lesions: pd.DataFrame, image: str, partner: str) -> dict[str, float]:
    theirs = means_of(lesions, OTHERS[MEASURED])
    if not np.isfinite(theirs).any():
        return {}
    return _against('measured', lesions, image, partner, theirs)


def _against_reference(
    lesions: pd.DataFrame, image: str, partner: str, reference: pd.DataFrame
) -> dict[str, float]:
    """Compare with the reference, where both have met the same lesions."""
    both = lesions.merge(reference, on=_keys(lesions), suffixes=('', ' of reference'))
    if len(both) < _FEWEST:
        return {}
    theirs = both[[f'{_OWN} {part} of reference' for part in _PARTS]].to_numpy(float)
    return _against('reference', both, image, partner, theirs)


def _against(
    other: str, lesions: pd.DataFrame, image: str, partner: str, theirs: NDArray[np.float64]
) -> dict[str, float]:
    labels, scores, rows = labelled(lesions, image, partner)
    others = pair_scores(theirs, partner)[1]
    owners = lesions['participant_id'].to_numpy()[rows]
    low, high = auc_interval(labels, scores, owners, minus=others)
    return {
        f'difference_{other}': auc(labels, scores) - auc(labels, others),
        f'difference_{other}_lower': low,
        f'difference_{other}_upper': high,
        f'p_{other}': delong_test(labels, scores, others),
    }


def _agreement(lesions: pd.DataFrame) -> dict[str, float]:
    ours, measured = (lesions[f'{image} lesion'] for image in (_OWN, OTHERS[MEASURED]))
    if len(lesions) < _FEWEST_AGREEING or ours.nunique() == 1 or measured.isna().all():
        return {}  # a model that says the same of every lesion correlates with nothing
    found = agreement(ours, measured)
    return {
        'r': found.r,
        'ccc': found.ccc,
        'bias': found.bias,
        'limit_lower': found.lower,
        'limit_upper': found.upper,
    }
