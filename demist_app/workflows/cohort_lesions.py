"""Lesions of a cohort without measured maps: what its synthetic maps show in them."""

from collections.abc import Iterable

import pandas as pd

from boilerplate.lesions import Lesions
from boilerplate.squares import style
from demist_app.evaluation.lesions import BRIGHT
from demist_app.workflows.cohort import Traces
from demist_app.workflows.evaluation_lesions import (
    LESION_COLUMNS,
    first_scans,
    lesion_means,
    lesion_table,
    voxel_areas,
)
from demist_app.workflows.lesion_section import lesion_section

SYNTHETIC = 'synthetic'
"""Row of the maps; `FLAIR` and `T1w` stand beside it."""
FILE = 'group_psr_lesions.tsv'

_LEVELS = {
    SYNTHETIC: 'the synthetic PSR maps',
    **{name: LESION_COLUMNS['method']['Levels'][name] for name in (BRIGHT, 'T1w')},
}
_OF_MEASURED = ('r', 'ccc', 'bias', 'limit_lower', 'limit_upper')
CONTRAST_COLUMNS = {
    **{
        name: words
        for name, words in LESION_COLUMNS.items()
        if 'measured' not in name and name not in _OF_MEASURED
    },
    'method': {'Description': 'What is judged', 'Levels': _LEVELS},
}
"""Sidecar of ``group_psr_lesions.tsv``; its keys are the columns."""


def contrast(units: Iterable[Traces]) -> tuple[pd.DataFrame, Lesions | None]:
    """Say how well the maps tell lesions from NAWM, beside the scans they are made from.

    Nothing here says whether the PSR of a lesion is right.

    Parameters
    ----------
    units : iterable of Traces

    Returns
    -------
    table : DataFrame
        Columns as in `CONTRAST_COLUMNS`; empty where fewer than two lesions are known.
    section : Lesions or None
        For the page; None for an empty table.
    """
    told = [
        (
            {
                'participant_id': f'sub-{unit.participant}',
                'session_id': f'ses-{unit.session}' if unit.session else 'n/a',
                'method': SYNTHETIC,
            },
            {'LesionPairs': unit.lesions},
        )
        for unit in units
    ]
    firsts = first_scans(told)
    lesions = lesion_means(firsts)
    table = lesion_table(lesions, SYNTHETIC, voxel_areas(firsts))
    section = lesion_section(lesions, table, {SYNTHETIC: ('synthetic PSR', style(0))}, FILE)
    return table[list(CONTRAST_COLUMNS)], section
