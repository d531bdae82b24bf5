"""One verdict per unit and one per run: status.tsv, last log line and exit code from one source."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from demist_app.engine.failures import Failure, explain_error

ALL_DONE, SOME_FAILED, BAD_USAGE, INTERNAL_FAULT = 0, 1, 2, 70


@dataclass(frozen=True)
class Outcome:
    """What became of one unit; a row of status.tsv.

    Attributes
    ----------
    status : str
        ``done``, ``failed``, ``skipped`` (never started, for the reason given), ``refused``
        (another run is working on it) or ``interrupted``.
    """

    unit: str
    status: str
    seconds: float | None = None
    step: str = ''
    reason: str = ''
    report: str = ''


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return the exit code that all other traces of the run agree with."""
    missing = ('failed', 'interrupted', 'refused')
    return SOME_FAILED if any(o.status in missing for o in outcomes) else ALL_DONE


def sentence(outcomes: Sequence[Outcome]) -> str:
    """Return the last line of the log."""
    counts = Counter(outcome.status for outcome in outcomes)
    parts = [
        f'{counts[status]} {status}'
        for status in ('done', 'failed', 'interrupted', 'refused', 'skipped')
        if counts[status]
    ]
    units = f'{len(outcomes)} unit{"" if len(outcomes) == 1 else "s"}'
    return f'demist ended: {units}: {", ".join(parts)}'


def to_tsv(outcomes: Iterable[Outcome]) -> str:
    """Return the content of status.tsv."""
    text = io.StringIO()
    names = [field.name for field in fields(Outcome)]
    writer = csv.DictWriter(text, names, delimiter='\t', lineterminator='\n')
    writer.writeheader()
    for outcome in outcomes:
        row: dict[str, object] = asdict(outcome)
        row['seconds'] = 'n/a' if outcome.seconds is None else f'{outcome.seconds:.1f}'
        writer.writerow({k: re.sub(r'\s+', ' ', str(v)) or 'n/a' for k, v in row.items()})
    return text.getvalue()


def read_crashes(folder: Path) -> list[Failure]:
    """Read the crash files that nipype's own plugins leave in `folder`."""
    from niworkflows.utils.misc import read_crashfile

    failures = []
    for path in sorted(folder.glob('crash-*.txt')):
        crash = read_crashfile(str(path))
        failures.append(
            Failure(
                node=crash['node'],
                unit=None,
                message=explain_error(crash['traceback']),
                traceback=crash['traceback'],
                crash_file=path,
                not_run=(),
            )
        )
    return failures


def by_unit(
    failures: Iterable[Failure], workflow_labels: Mapping[str, str]
) -> dict[str, list[Failure]]:
    """Sort failures by the unit whose branch they happened in."""
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        for part in failure.node.split('.'):
            if part in workflow_labels:
                found.setdefault(workflow_labels[part], []).append(failure)
                break
    return found
