"""The report of a cohort: one HTML file that needs no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from boilerplate.files import write_atomic
from boilerplate.lesions import Lesions
from boilerplate.report import Headline, inlined, number, options
from boilerplate.strips import HEIGHT, Course, Panel
from boilerplate.svg import ENVIRONMENT

_SCRIPTS = ('report.js', 'group.js')
_STYLES = ('report.css', 'group.css', 'squares.css')


@dataclass(frozen=True)
class UnitRow:
    """One unit in the cohort table.

    Attributes
    ----------
    label : str
    report : str
        Path of its report relative to the page; empty without one.
    group : str
        Empty without one.
    status : str
        ``done``, ``failed`` and so on.
    reason : str
        Why it has no results; empty if it has.
    values : tuple of float
        Median PSR per region, in the order of `GroupReport.regions`; NaN where there is none.
    apart : tuple of bool
        Which of them lie apart from those of the others.
    volume_ml, rotation_deg, shift_mm : float
        Brain and alignment; NaN where unknown.
    distances : tuple of float
        Of the T1w and FLAIR intensities from the training scans.
    warnings : int
        Number of warnings in its own report.
    volume_apart : bool
        Whether the volume lies apart.
    """

    label: str
    report: str
    group: str
    status: str
    reason: str
    values: tuple[float, ...]
    apart: tuple[bool, ...]
    volume_ml: float
    rotation_deg: float
    shift_mm: float
    distances: tuple[float, float]
    warnings: int
    volume_apart: bool


@dataclass(frozen=True)
class OutlierRow:
    """A value far from those of the others; `value` is a number with its unit."""

    label: str
    report: str
    what: str
    value: str
    z: float


@dataclass(frozen=True)
class ChangeRow:
    """Difference between the first and the last session of a participant, by region."""

    participant: str
    sessions: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class GroupReport:
    """What the report of a cohort says. All text is plain and is escaped when rendered.

    Attributes
    ----------
    version : str
        Version of demist.
    headline : tuple of Headline
    warnings : tuple of str
        What concerns the cohort as a whole.
    unit_warnings : tuple of (str, tuple of str)
        What the units' own reports warn of, and the units that do; most frequent first.
    regions : tuple of str
        Columns of the cohort table.
    units : tuple of UnitRow
        All units.
    panels : tuple of Panel
        Distributions, by region.
    groups : tuple of str
        Groups the figures tell apart; empty if they do not.
    outliers : tuple of OutlierRow
    rule : str
        What makes an outlier.
    courses : tuple of Course
        Sessions joined by lines, by region; empty without repeated sessions.
    changes : tuple of ChangeRow
    mean_changes : tuple of (str, tuple of str)
        Whose, and mean ± SD per region.
    lesions : Lesions or None
        None where no unit has a lesion mask.
    outputs : tuple of (str, str)
        Path relative to the report, description.
    provenance : mapping of str to str
    """

    version: str
    headline: tuple[Headline, ...] = ()
    warnings: tuple[str, ...] = ()
    unit_warnings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    regions: tuple[str, ...] = ()
    units: tuple[UnitRow, ...] = ()
    panels: tuple[Panel, ...] = ()
    groups: tuple[str, ...] = ()
    outliers: tuple[OutlierRow, ...] = ()
    rule: str = ''
    courses: tuple[Course, ...] = ()
    changes: tuple[ChangeRow, ...] = ()
    mean_changes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    lesions: Lesions | None = None
    outputs: tuple[tuple[str, str], ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def without_results(self) -> dict[str, list[UnitRow]]:
        """Units that are not done, by status: first those that went wrong."""
        found: dict[str, list[UnitRow]] = {}
        for unit in self.units:
            if unit.status != 'done':
                found.setdefault(unit.status, []).append(unit)
        order = ('failed', 'interrupted', 'unfinished', 'skipped', 'not started')
        return {status: found[status] for status in order if status in found}

    @property
    def status(self) -> str:
        """`failed`, `warnings` or `complete`, as of a unit's report."""
        if 'failed' in self.without_results:
            return 'failed'
        return 'warnings' if self.without_results or self.warnings else 'complete'


def signed(value: float, digits: int = 1) -> str:
    """Format a difference.

    >>> signed(0.26), signed(-1.0), signed(0.01), signed(float('nan'))
    ('+0.3', '−1.0', '0.0', '–')
    """
    text = number(value, digits)
    return f'+{text}' if round(value, digits) > 0 else text


def render_group(report: GroupReport, out: Path) -> Path:
    """Write the report of a cohort.

    The page is self-contained, as that of a unit (`boilerplate.report.render`).

    Parameters
    ----------
    report : GroupReport
    out : Path
        HTML file, replaced as a whole.

    Returns
    -------
    Path
        `out`.
    """
    page = ENVIRONMENT.get_template('group.html.j2').render(
        report=report,
        number=number,
        signed=signed,
        options=options,
        height=HEIGHT,
        **inlined(scripts=_SCRIPTS, styles=_STYLES),
    )
    return write_atomic(out, page)
