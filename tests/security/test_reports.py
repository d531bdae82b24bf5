"""Nothing that a data set or a model says becomes part of a page."""

from pathlib import Path

import pytest
from browsing import IMAGE, SCRIPT, browse, foreign

from boilerplate.methods import write_citations
from boilerplate.report import Figure, Headline, NodeError, Region, UnitReport, render

HOSTILE = f'"{IMAGE}{SCRIPT}[a](javascript:document.title=1)'


@pytest.fixture(scope='module')
def report(tmp_path_factory) -> Path:
    """A report all of whose text is hostile."""
    folder = tmp_path_factory.mktemp('report')
    figure = folder / 'figure.svg'
    figure.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    content = UnitReport(
        label=HOSTILE,
        participant=HOSTILE,
        session=HOSTILE,
        version=HOSTILE,
        headline=(Headline(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        summary=((HOSTILE, HOSTILE),),
        notes=(HOSTILE,),
        warnings=(HOSTILE,),
        figures=(Figure(HOSTILE, HOSTILE, HOSTILE, figure, (HOSTILE,) * 3),),
        regions=(Region(HOSTILE, 1, 2, 3, 4),),
        methods=HOSTILE,
        provenance={HOSTILE: HOSTILE},
        outputs=((HOSTILE, HOSTILE),),
        errors=(NodeError(HOSTILE, HOSTILE, HOSTILE),),
    )
    return render(content, folder / 'report.html')


def test_the_report_shows_it_as_text(report, tmp_path):
    document = browse(report, tmp_path / 'profile')
    assert '<title>pwned' not in document
    assert document.count('&lt;img src=x') > 10
    assert foreign(document) == []
    assert 'href="javascript:' not in document


def test_a_script_that_got_in_would_not_run(report, tmp_path):
    page = tmp_path / 'page.html'
    text = report.read_text()
    for wall in (True, False):
        if not wall:
            text = text.replace('Content-Security-Policy', 'X-None')
        page.write_text(text.replace('<main id="main">', f'<main id="main">{SCRIPT}{IMAGE}'))
        assert ('<title>pwned' in browse(page, tmp_path / f'profile-{wall}')) != wall
        assert {'script', 'img', 'onerror'} <= set(foreign(page.read_text()))


def test_methods_of_a_foreign_model(tmp_path):
    write_citations(HOSTILE, tmp_path)
    document = browse(tmp_path / 'CITATION.html', tmp_path / 'profile')
    assert '<title>Methods' in document
    assert foreign(document) == []
    assert 'href="javascript:' not in document
