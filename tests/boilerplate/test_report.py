import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from boilerplate import captions
from boilerplate.distribution import plot_distribution
from boilerplate.report import Figure, Headline, NodeError, Region, UnitReport, render

NAN = float('nan')
VOID = {'meta', 'input', 'br', 'hr', 'img', 'link'}


class Page(HTMLParser):
    """Tags with their attributes, ids, and the text of every element's own class or id."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.source = path.read_text(encoding='utf-8')
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('script', 'style'):
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [a['id'] for _, a in self.tags if 'id' in a]

    @property
    def said(self) -> str:
        return re.sub(r'\s+', ' ', ' '.join(self.text))

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags and names of their attributes; not the spans around options."""
        return [(t, tuple(a)) for t, a in self.tags if a.get('class') != 'nowrap']


@pytest.fixture
def svgs(tmp_path) -> list[Path]:
    """Small stand-ins for the figures."""
    made = []
    for name in ('mask', 'alignment', 'psr'):
        path = tmp_path / f'{name}.svg'
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><title>{name}</title></svg>')
        made.append(path)
    return made


@pytest.fixture
def full(svgs) -> UnitReport:
    mask, alignment, psr = svgs
    return UnitReport(
        label='sub-01_ses-A',
        participant='01',
        session='A',
        version='1.2.3',
        headline=(Headline('White matter', '11.8', '%', 'median'),),
        summary=(('T1w', 'sub-01_T1w.nii.gz'),),
        notes=('Two runs were found; run-02 was used.',),
        warnings=('Slices are thick; see --low-mem.', 'No field strength.'),
        figures=(
            captions.brain_mask(mask, lesions=True),
            captions.alignment(alignment),
            captions.psr(psr, lesions=False),
        ),
        regions=(Region('WM', 502.2, 11.74, 1.6, 11.8), Region('Lesions', NAN, NAN, NAN, NAN)),
        methods='Bias was corrected [@n4].',
        provenance={'Seed': '7'},
        outputs=(('sub-01/ses-A/anat/a b.nii.gz', 'Map'),),
    )


def failed() -> UnitReport:
    return UnitReport(
        'sub-01',
        '01',
        None,
        '1.2.3',
        errors=(NodeError('n4', 'Out of memory.', 'Traceback\n <x>'),),
    )


def test_page_loads_nothing(full, tmp_path):
    page = Page(render(full, tmp_path / 'out.html'))
    for tag, attributes in page.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'base', 'img')
        assert 'src' not in attributes
        if tag != 'a':
            assert 'href' not in attributes
        assert not [name for name in attributes if name.startswith('on')]
    assert '@import' not in page.source
    assert 'url(' not in page.source


def test_real_figures_share_a_page(full, tmp_path):
    values = {'WM': np.linspace(8, 16, 50)}
    paths = [plot_distribution(values, tmp_path / f'{name}.svg') for name in 'ab']
    report = replace(full, figures=tuple(captions.distribution(path) for path in paths))
    page = Page(render(report, tmp_path / 'out.html'))
    gradients = [a['id'] for t, a in page.tags if t == 'lineargradient']
    assert len(set(gradients)) == 2
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'url\(#([\w-]+)\)', page.source)) == set(gradients)
    assert page.said.count('Distribution per tissue') == 2


def test_policy_admits_only_our_script(full, tmp_path):
    page = Page(render(full, tmp_path / 'out.html'))
    policy = next(a['content'] for t, a in page.tags if t == 'meta' and 'http-equiv' in a)
    assert policy.startswith("default-src 'none';")
    scripts = re.findall(r'<script>(.*?)</script>', page.source, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize('kind', ['full', 'failed', 'bare'])
def test_references_within_the_page_hold(full, tmp_path, kind):
    bare = UnitReport('sub-01', '01', None, '1.2.3')
    report = {'full': full, 'failed': failed(), 'bare': bare}[kind]
    page = Page(render(report, tmp_path / 'out.html'))
    assert len(page.ids) == len(set(page.ids))
    wanted = [a['href'][1:] for t, a in page.tags if t == 'a' and a['href'].startswith('#')]
    wanted += [
        a[k] for _, a in page.tags for k in ('for', 'data-copy', 'aria-labelledby') if k in a
    ]
    assert set(wanted) <= set(page.ids)
    assert 'overview' in wanted


def test_headings_step_by_one(full, tmp_path):
    for report in (full, failed()):
        page = Page(render(report, tmp_path / 'out.html'))
        levels = [int(t[1]) for t, _ in page.tags if re.fullmatch(r'h\d', t)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))


def test_says_everything(full, tmp_path):
    page = Page(render(full, tmp_path / 'out.html'))
    for part in (
        'Participant 01, session A',
        'Synthetic, not measured',
        'Complete, with warnings',
        '2 things to look at',
        'Two runs were found; run-02 was used.',
        'sub-01_T1w.nii.gz',
        'No field strength.',
        'White matter 11.8 %',
        'WM 11.8 11.7 ± 1.6',
        '502.2',
        'Lesions – –',
        'Tustison et al., 2010',
        '@article{n4,',
        'Seed 7',
    ):
        assert part in page.said, part
    assert ('a', {'class': 'mono', 'href': 'sub-01/ses-A/anat/a%20b.nii.gz'}) in page.tags
    assert page.source.count('<svg xmlns') == 3


def test_sections_follow_the_figures(full, tmp_path):
    extra = Figure('More', 'Another', 'One more.', full.figures[0].path)
    report = replace(full, figures=(*full.figures, extra))
    page = Page(render(report, tmp_path / 'out.html'))
    sections = [a['id'] for t, a in page.tags if t == 'section']
    assert sections == [
        'overview',
        'warnings',
        'inputs',
        'anatomy',
        'alignment',
        'synthetic-psr',
        'more',
        'regional-values',
        'outputs',
        'methods',
        'provenance',
    ]


def test_stacked_figure_can_be_flipped_without_script(full, tmp_path):
    page = Page(render(full, tmp_path / 'out.html'))
    picks = [a for t, a in page.tags if t == 'input']
    assert [a['class'] for a in picks] == ['pick-fixed', 'pick-before', 'pick-after', 'pick-both']
    assert {a['name'] for a in picks} == {'alignment-1'}
    assert [a['class'] for a in picks if 'checked' in a] == ['pick-after']
    for layer in ('T1w', 'FLAIR before', 'FLAIR after'):
        assert layer in page.said


@pytest.mark.parametrize(
    ('change', 'status', 'shown'),
    [
        ({}, 'complete', 'Complete'),
        ({'warnings': ('Thick.',)}, 'warnings', 'One thing to look at'),
        ({'errors': (NodeError('n4', 'Broke.', ''),)}, 'failed', 'One step failed'),
        (
            {'errors': (NodeError('a', 'x', ''),) * 2, 'warnings': ('y',)},
            'failed',
            '2 steps failed',
        ),
    ],
)
def test_status(tmp_path, change, status, shown):
    report = UnitReport('sub-01', '01', None, '1.2.3', **change)
    assert report.status == status
    page = Page(render(report, tmp_path / 'out.html'))
    assert f'class="status {status}"' in page.source
    assert shown in page.said
    assert ('failed' in page.source.partition('</title>')[0]) == (status == 'failed')


def test_failed_unit_leads_with_its_error(tmp_path):
    page = Page(render(failed(), tmp_path / 'out.html'))
    assert 'Out of memory.' in page.said
    assert 'Traceback <x>' in page.said
    sections = [a['id'] for t, a in page.tags if t == 'section']
    assert sections == ['overview', 'errors']


def hostile(report: UnitReport, text: str) -> UnitReport:
    """The report with `text` wherever a string from outside can come."""
    return replace(
        report,
        label=text,
        participant=text,
        session=text or 'x',
        version=text,
        stamp=text,
        headline=(Headline(text, text, text, text or 'x'),),
        summary=((text, text),),
        notes=(text,),
        warnings=(text, text),
        figures=tuple(replace(f, title=text, caption=text) for f in report.figures),
        regions=tuple(replace(r, name=text) for r in report.regions),
        provenance={text: text},
        outputs=((text, text),),
        errors=(NodeError(text, text, text or 'x'),),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example('\ud800')
@given(st.text(alphabet=st.sampled_from('<>&"\'/=-! abs-script\n{}%`') | st.characters()))
def test_no_string_changes_the_page(full, tmp_path, text):
    expected = Page(render(hostile(full, 'plain'), tmp_path / 'plain.html')).shape
    assert Page(render(hostile(full, text), tmp_path / 'out.html')).shape == expected


@pytest.mark.parametrize(
    'text',
    [
        '<script>alert(1)</script>',
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        '</pre></style></title><svg onload=alert(1)>',
        '{{ 7 * 7 }}{% raw %}',
        'javascript:alert(1)',
    ],
)
def test_known_attacks(full, tmp_path, text):
    page = Page(render(hostile(full, text), tmp_path / 'out.html'))
    assert page.shape == Page(render(hostile(full, 'plain'), tmp_path / 'plain.html')).shape
    assert text in page.said
    links = [a['href'] for t, a in page.tags if t == 'a']
    assert not [link for link in links if link.lower().startswith('javascript:')]


def test_missing_figure_leaves_the_old_report(full, tmp_path):
    out = render(failed(), tmp_path / 'out.html')
    before = out.read_bytes()
    full.figures[0].path.unlink()
    with pytest.raises(FileNotFoundError):
        render(full, out)
    assert out.read_bytes() == before


def test_colours_have_enough_contrast():
    css = files('boilerplate').joinpath('templates/report.css').read_text(encoding='utf-8')
    palette = dict(re.findall(r'--([\w-]+):(#[0-9a-f]{3,6})\b', css))

    def luminance(name: str) -> float:
        code = palette[name].lstrip('#')
        code = code if len(code) == 6 else ''.join(2 * c for c in code)
        channels = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = [
        *((text, ground) for text in ('ink', 'muted', 'accent') for ground in ('card', 'page')),
        ('accent', 'accent-soft'),
        ('good', 'good-soft'),
        ('warn', 'warn-soft'),
        ('bad', 'bad-soft'),
        ('ink', 'warn-soft'),
        ('ink', 'bad-soft'),
        ('stamp', 'stamp-soft'),
    ]
    for text, ground in pairs:
        dark, light = sorted((luminance(text), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)  # WCAG 2.2 AA
