"""The group level: what the participants' tables say together."""

from pathlib import Path

import pandas as pd

from bids_layout.dataset import write_whole
from bids_layout.query import QueryError


def join_tables(out_dir: Path) -> Path:
    """Join the regional tables of all finished units.

    Parameters
    ----------
    out_dir : Path
        Output folder of the participant level.

    Returns
    -------
    Path
        ``group_psr.tsv``: one row per unit and region.

    Raises
    ------
    QueryError
        If no unit has a table yet.
    """
    tables = []
    for path in sorted(out_dir.glob('sub-*/**/anat/*_desc-synth_psr.tsv')):
        entities = dict(part.split('-', 1) for part in path.name.split('_')[:-1])
        table = pd.read_csv(path, sep='\t')
        table.insert(0, 'participant_id', f'sub-{entities["sub"]}')
        table.insert(1, 'session_id', f'ses-{entities["ses"]}' if 'ses' in entities else 'n/a')
        tables.append(table)
    if not tables:
        raise QueryError(f'{out_dir} holds no regional tables: run the participant level first')
    out = out_dir / 'group_psr.tsv'
    text = pd.concat(tables).to_csv(sep='\t', index=False, na_rep='n/a', float_format='%.4f')
    write_whole(out, text)
    return out
