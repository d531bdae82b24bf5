"""The page on how well the methods of a cross-validation do: one HTML file, no network needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from boilerplate.files import write_atomic
from boilerplate.lesions import Lesions
from boilerplate.plots import Curves, Differences
from boilerplate.report import Headline, inlined, options
from boilerplate.squares import Square
from boilerplate.svg import ENVIRONMENT

_SCRIPTS = ('report.js',)
_STYLES = ('report.css', 'group.css', 'squares.css', 'evaluation.css')


@dataclass(frozen=True)
class ScoreRow:
    """One method in the table of scores.

    Attributes
    ----------
    method : str
        As the paper calls it.
    name : str
        On the command line.
    counted : str
        Scans and participants.
    cells : tuple of (str, str, bool)
        Mean ± SD of each score, its star or nothing, and whether it is the best of all methods.
    """

    method: str
    name: str
    counted: str
    cells: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class TestRow:
    """One method against the reference, by one score; all cells are words."""

    __test__ = False  # for pytest, which takes the name for a test

    metric: str
    method: str
    difference: str
    p_t: str
    p_wilcoxon: str
    dz: str
    rank_biserial: str


@dataclass(frozen=True)
class AgreementRow:
    """How measured and synthetic means of one region agree; all cells are words."""

    region: str
    n: str
    bias: str
    limits: str
    r: str
    ccc: str
    icc: str
    line: str


@dataclass(frozen=True)
class MethodAgreement:
    """Agreement of one method: a plot and a row for each region."""

    method: str
    plots: tuple[Differences, ...]
    rows: tuple[AgreementRow, ...]


CalibrationRow = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Calibration:
    """Whether stated SDs are the size of the errors.

    Attributes
    ----------
    coverage : tuple of Square
        Actual against nominal coverage, one for each method.
    regions : tuple of (str, str)
        Lines of these, and their classes.
    spread : Square or None
        Error against stated SD, one line for each method; none if all have few draws.
    methods : tuple of (str, str)
        Lines of this one, and their classes.
    enough : int
        Draws that a method needs for a line of it.
    widths : str
        How many SDs the interval of nine tenths reaches, in words.
    levels : tuple of str
        Nominal coverages.
    brain, rows : tuple
        Of the brain, and of its regions: method, region, draws, participants, bias, error, SD,
        error over SD; and actual coverages with their intervals.
    """

    coverage: tuple[Square, ...]
    regions: tuple[tuple[str, str], ...]
    spread: Square | None
    methods: tuple[tuple[str, str], ...]
    enough: int
    widths: str
    levels: tuple[str, ...]
    brain: tuple[CalibrationRow, ...]
    rows: tuple[CalibrationRow, ...]


@dataclass(frozen=True)
class Case:
    """One unit to look at: why it was chosen, who it is, its score, and its figure, an SVG."""

    title: str
    unit: str
    score: str
    svg: str


@dataclass(frozen=True)
class Training:
    """What training one method took; `stages` are of a fold, on average.

    Attributes
    ----------
    method : str
    curves : tuple of Curves
        By stage; empty where none are known.
    stages : tuple of tuple of str
        Stage, updates, best update, validation loss, minutes, memory.
    totals : tuple of str
        Parameters, updates, minutes, draws, devices.
    """

    method: str
    curves: tuple[Curves, ...]
    stages: tuple[tuple[str, ...], ...]
    totals: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationReport:
    """What the page says. All text is plain and is escaped when rendered, but for the figures.

    Attributes
    ----------
    version : str
        Of demist.
    title : str
    headline : tuple of Headline
    missing : tuple of (str, str)
        What has no score, and why.
    metrics : tuple of (str, str)
        Name of each score with its unit, and whether higher or lower is better.
    metrics_first : int
        How many of them the first table has room for; another one, closed, has the rest.
    scores : tuple of ScoreRow
    caption : str
        What the star means; empty with one method.
    tests : tuple of TestRow
    agreements : tuple of MethodAgreement
    groups : tuple of str
        Groups the plots tell apart; empty if they do not.
    reference : str
        Method that the others are compared with, and whose maps the cases are.
    lesions : Lesions or None
        None where no lesion is known.
    calibration : Calibration or None
        None where no map has an SD.
    cases : tuple of Case
    folds : tuple of tuple of str
        Number, units tested, participants, their names, groups, units trained on, units for early
        stopping.
    fold_names : tuple of str
        Folds, in the order of the curves' colours.
    training : tuple of Training
    definitions : tuple of (str, str)
        What the scores are.
    outputs : tuple of (str, str)
        Path relative to the page, description.
    provenance : mapping of str to str
    """

    version: str
    title: str
    headline: tuple[Headline, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    metrics_first: int = 5
    scores: tuple[ScoreRow, ...] = ()
    caption: str = ''
    tests: tuple[TestRow, ...] = ()
    agreements: tuple[MethodAgreement, ...] = ()
    groups: tuple[str, ...] = ()
    reference: str = ''
    lesions: Lesions | None = None
    calibration: Calibration | None = None
    cases: tuple[Case, ...] = ()
    folds: tuple[tuple[str, ...], ...] = ()
    fold_names: tuple[str, ...] = ()
    training: tuple[Training, ...] = ()
    definitions: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def render_evaluation(report: EvaluationReport, out: Path) -> Path:
    """Write the page.

    It is self-contained, as that of a unit (`boilerplate.report.render`).

    Parameters
    ----------
    report : EvaluationReport
    out : Path
        HTML file, replaced as a whole.

    Returns
    -------
    Path
        `out`.
    """
    page = ENVIRONMENT.get_template('evaluation.html.j2').render(
        report=report,
        options=options,
        **inlined(scripts=_SCRIPTS, styles=_STYLES),
    )
    return write_atomic(out, page)
