import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boilerplate.group_report import ChangeRow, GroupReport, OutlierRow, UnitRow, render_group
from boilerplate.report import Headline
from boilerplate.strips import Value, course, panel

VOID = {'meta', 'input', 'br'}
TEMPLATES = files('boilerplate').joinpath('templates')


class Page(HTMLParser):
    """Tags with the names of their attributes, in order; fails where tags do not match."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding='utf-8')
        self.shape, self.open, self.text, self.links, self.ids = [], [], [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.shape.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.links += [value for name, value in attrs if name in ('href', 'src')]
        self.ids += [value for name, value in attrs if name == 'id']
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.shape.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (['script'], ['style']):
            self.text.append(data)

    @property
    def said(self):
        return re.sub(r'\s+', ' ', ' '.join(self.text))


def row(text, status, value):
    return UnitRow(
        label=text,
        report=f'{text}.html',
        group=text,
        status=status,
        reason=text,
        values=(value, math.nan),
        apart=(value < 10, False),
        volume_ml=1400.4,
        rotation_deg=2.0,
        shift_mm=1.5,
        distances=(1.0, math.nan),
        warnings=2,
        volume_apart=False,
    )


def report(text='plain') -> GroupReport:
    """A report with `text` wherever a string from outside can come."""
    values = [Value(text, 10 + 0.1 * n, n == 0) for n in range(6)]
    numbers = {text: 0}
    return GroupReport(
        version=text,
        headline=(Headline(text, text, text, text),),
        warnings=(text,),
        unit_warnings=((text, (text, text)), (text, (text,) * 9)),
        regions=(text, 'lesions'),
        units=(row(text, 'done', 9.0), row(text, 'failed', math.nan), row(text, 'not started', 11)),
        panels=(panel(text, {text: values, 'other': values}),),
        groups=(text, 'other'),
        outliers=(OutlierRow(text, text, text, text, -4.123),),
        rule=text,
        courses=(course(text, [text, 'x'], {text: {text: 11.0, 'x': 10.0}}, numbers),),
        changes=(ChangeRow(text, text, (-1.0, math.nan)),),
        mean_changes=((text, (text, text)),),
        outputs=((text, text),),
        provenance={text: text},
    )


def test_page_holds_what_it_is_given(tmp_path):
    page = Page(render_group(report(), tmp_path / 'group.html'))
    for said in (
        'Cohort of 3 units', '1 of 3 done, 1 failed, 1 not started',
        'synthetic, not measured', '−4.12', '−1.0', '1400', '9.0', 'plain: 10.1 %',
    ):  # fmt: skip
        assert said in page.said, said
    assert 'plain.html' in page.links
    assert len(page.ids) == len(set(page.ids))
    anchors = {link[1:] for link in page.links if link.startswith('#')}
    assert anchors <= set(page.ids)


def test_page_loads_nothing_and_runs_its_own_script_only(tmp_path):
    page = Page(render_group(report(), tmp_path / 'group.html'))
    assert not re.search(r'https?://|@import|url\(', page.source)
    script = re.search(r'<script>(.*)</script>', page.source, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'; base-uri 'none'" in page.source
    assert f"script-src 'sha256-{digest}'" in page.source


def test_sections_without_content_are_left_out(tmp_path):
    bare = GroupReport('1', units=(row('sub-1', 'done', 11.0),), regions=('WM', 'GM'))
    page = Page(render_group(bare, tmp_path / 'group.html'))
    assert bare.status == 'complete'
    for name in ('missing', 'warnings', 'distributions', 'outliers', 'change'):
        assert name not in page.ids
    assert 'No unit has regional values yet' in page.said


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(
    st.text(
        alphabet=st.sampled_from('<>&"\'/=-! abs-script\n{}%`') | st.characters(codec='utf-8'),
        min_size=1,
    )
)
def test_no_string_changes_the_page(tmp_path, text):
    expected = Page(render_group(report('plain'), tmp_path / 'plain.html')).shape
    # options in a sentence are wrapped, on purpose
    text = text.replace('--', '-')
    assert Page(render_group(report(text), tmp_path / 'out.html')).shape == expected


@pytest.mark.parametrize(
    'text',
    [
        '<script>alert(1)</script>',
        '"><img src=x onerror=alert(1)>',
        '</title></style></svg><svg onload=alert(1)>',
        '{{ 7 * 7 }}',
        'javascript:alert(1)',
    ],
)
def test_known_attacks(tmp_path, text):
    page = Page(render_group(report(text), tmp_path / 'group.html'))
    assert page.shape == Page(render_group(report(), tmp_path / 'plain.html')).shape
    assert text in page.said
    assert not [link for link in page.links if link.lower().startswith('javascript:')]


def test_colours_of_groups_have_enough_contrast_for_graphics():
    css = TEMPLATES.joinpath('group.css').read_text(encoding='utf-8')
    for code in re.findall(r'--g\d:#([0-9a-f]{6})', css):
        channels = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 3, code  # WCAG 2.2, 1.4.11
