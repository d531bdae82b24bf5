"""The report of one unit (participant × session): one HTML file that needs no network."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from boilerplate import methods
from boilerplate.files import write_atomic
from boilerplate.svg import ENVIRONMENT, PSR_MAXIMUM

REGIONS_SECTION = 'Regional values'


@dataclass(frozen=True)
class Figure:
    """A figure of the report: an SVG file of `boilerplate.figures` with its words.

    `layers` names what is stacked in a figure of `plot_alignment` (fixed, before, after); the
    report then lets the reader flip between them.
    """

    section: str
    title: str
    caption: str
    path: Path
    layers: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Headline:
    """One of the few numbers that stand on top, e.g. the median PSR of white matter."""

    label: str
    value: str
    unit: str
    note: str = ''


@dataclass(frozen=True)
class Region:
    """One row of the regional table; PSR in percent, NaN where the region has no voxel."""

    name: str
    volume_ml: float
    mean: float
    sd: float
    median: float


@dataclass(frozen=True)
class NodeError:
    """A step that failed: its name, one sentence, and the text of its crash file."""

    node: str
    message: str
    crash: str


@dataclass(frozen=True)
class UnitReport:
    """What the report of one unit says. All text is plain and is escaped when rendered.

    Attributes
    ----------
    label : str
        E.g. `sub-01_ses-A`.
    participant, session : str, str or None
        Labels without their prefixes.
    version : str
        Version of demist.
    stamp : str
        What the maps are.
    headline : tuple of Headline
        Up to four numbers.
    summary : tuple of (str, str)
        Label and value: inputs, model, choices.
    notes : tuple of str
        Choices made for the reader, e.g. which of two runs was used.
    warnings : tuple of str
        What the reader should look at, one sentence each.
    figures : tuple of Figure
        In the order to show; sections appear in the order of their first figure.
    regions : tuple of Region
        Regional table.
    methods : str
        Markdown with citations, see `boilerplate.methods`; empty where no workflow was built.
    provenance : mapping of str to str
        Versions, checksums, seeds, command line.
    outputs : tuple of (str, str)
        Path relative to the report, description.
    errors : tuple of NodeError
        Empty if the unit finished.
    """

    label: str
    participant: str
    session: str | None
    version: str
    stamp: str = 'Synthetic, not measured'
    headline: tuple[Headline, ...] = ()
    summary: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    regions: tuple[Region, ...] = ()
    methods: str = ''
    provenance: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[tuple[str, str], ...] = ()
    errors: tuple[NodeError, ...] = ()

    @property
    def status(self) -> str:
        """`failed`, `warnings` or `complete`.

        >>> UnitReport('sub-01', '01', None, '0.1', warnings=('Thick slices.',)).status
        'warnings'
        """
        if self.errors:
            return 'failed'
        return 'warnings' if self.warnings else 'complete'

    @property
    def sections(self) -> dict[str, list[Figure]]:
        """Figures by section, in order of first appearance, the regional table's one included."""
        grouped: dict[str, list[Figure]] = {}
        for figure in self.figures:
            grouped.setdefault(figure.section, []).append(figure)
        if self.regions:
            grouped.setdefault(REGIONS_SECTION, [])
        return grouped


def number(value: float, digits: int = 1) -> str:
    """Format a number of the regional table.

    >>> number(11.84), number(float('nan')), number(-0.04)
    ('11.8', '–', '0.0')
    """
    if math.isnan(value):
        return '–'
    return f'{round(value, digits) + 0.0:.{digits}f}'.replace('-', '−')


def options(text: str) -> Markup:
    """Escape a sentence and keep its command-line options on one line.

    >>> options('Use --low-mem <now>.')
    Markup('Use <span class="nowrap">--low-mem</span> &lt;now&gt;.')
    """
    option = Markup('<span class="nowrap">{}</span>')
    parts = re.split(r'(--[a-z][a-z-]+)', text)
    return Markup().join(option.format(p) if p.startswith('--') else p for p in parts)


def inlined(*, scripts: Sequence[str], styles: Sequence[str]) -> dict[str, str]:
    """Return style and script of a page, and the digest by which its policy knows the script."""
    templates = files('boilerplate').joinpath('templates')
    script, style = (
        '\n'.join(templates.joinpath(name).read_text(encoding='utf-8') for name in names)
        for names in (scripts, styles)
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {'style': style, 'script': script, 'script_hash': digest}


def render(report: UnitReport, out: Path) -> Path:
    """Write a report.

    The page is self-contained: styles, script and figures are inlined, and its content security
    policy lets it load nothing and run no script but its own. All text of `report` is escaped.

    Parameters
    ----------
    report : UnitReport
        Content; the SVG files of its figures are read now.
    out : Path
        HTML file, replaced as a whole.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    FileNotFoundError
        A figure does not exist.
    ValueError
        The methods text cites a work that the bibliography lacks.
    """
    known = [region for region in report.regions if not math.isnan(region.mean)]
    page = ENVIRONMENT.get_template('report.html.j2').render(
        report=report,
        regions_section=REGIONS_SECTION,
        svg={figure.path: figure.path.read_text(encoding='utf-8') for figure in report.figures},
        methods_html=methods.to_html(report.methods),
        methods_text=methods.to_text(report.methods),
        bibtex=methods.to_bibtex(report.methods),
        number=number,
        options=options,
        scale=max([PSR_MAXIMUM, *(region.mean + region.sd for region in known)]),
        **inlined(scripts=('report.js',), styles=('report.css',)),
    )
    return write_atomic(out, page)
