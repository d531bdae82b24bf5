"""The group level: what the participants' results say together."""

import json
from collections import Counter

from bids_layout.dataset import write_whole
from bids_layout.participants import groups
from bids_layout.query import QueryError
from boilerplate.group_report import render_group
from demist_app.settings import Inputs
from demist_app.workflows.cohort import STATUSES, find_traces
from demist_app.workflows.cohort_lesions import CONTRAST_COLUMNS, contrast
from demist_app.workflows.cohort_page import Gathered, group_report
from demist_app.workflows.cohort_tables import (
    PSR_COLUMNS,
    QC_COLUMNS,
    changes,
    psr_table,
    qc_table,
    to_tsv,
)
from demist_app.workflows.evaluation import write_table

_OUTPUTS = {
    'group_psr.tsv': 'regional values of all units',
    'group_psr.json': 'columns of group_psr.tsv',
    'group_qc.tsv': 'what became of each unit, its quality and warnings',
    'group_qc.json': 'columns of group_qc.tsv',
}
_WHERE_THERE = {
    'group_psr_lesions.tsv': 'lesions against normal-appearing white matter',
    'group_psr_lesions.json': 'columns of group_psr_lesions.tsv',
    'models/evaluation.html': 'how well the models do on participants they never saw',
    'group_scores.tsv': 'scores of the out-of-fold maps',
    'logs/CITATION.html': 'methods text of the last run, with references',
}


def report_cohort(inputs: Inputs) -> str:
    """Join what the participant level left, whatever is there, in tables and one page.

    Writes ``group_psr.tsv``, ``group_qc.tsv``, with lesion masks ``group_psr_lesions.tsv``, a JSON
    file with the columns of each, and ``group.html``.

    Parameters
    ----------
    inputs : Inputs
        Labels of participants and sessions narrow the cohort.

    Returns
    -------
    str
        What was found and written, for people.

    Raises
    ------
    QueryError
        If no run has worked on any of the units yet, or ``participants.tsv`` cannot be used.
    """
    out_dir = inputs.out_dir
    units = find_traces(inputs)
    if all(unit.status == 'not started' for unit in units):
        raise QueryError(f'{out_dir} holds no results: run the participant level first')
    psr = psr_table(units)
    group_of = groups(inputs.bids_dir, {unit.participant for unit in units})
    qc, outliers = qc_table(units, group_of, psr)
    of_lesions, section = contrast(units)
    found = Gathered(units, psr, qc, outliers, changes(units), section)

    for name, table, columns in (('psr', psr, PSR_COLUMNS), ('qc', qc, QC_COLUMNS)):
        write_whole(out_dir / f'group_{name}.tsv', to_tsv(table))
        described = json.dumps(columns, indent=2, ensure_ascii=False) + '\n'
        write_whole(out_dir / f'group_{name}.json', described)
    write_table(out_dir, 'psr_lesions', of_lesions, CONTRAST_COLUMNS)
    others = {name: what for name, what in _WHERE_THERE.items() if (out_dir / name).exists()}
    report = group_report(found, (_OUTPUTS | others).items())
    page = render_group(report, out_dir / 'group.html')

    counts = Counter(unit.status for unit in units)
    said = ', '.join(f'{counts[status]} {status}' for status in STATUSES if counts[status])
    return f'{len(units)} {"unit" if len(units) == 1 else "units"}: {said}; see {page}'
