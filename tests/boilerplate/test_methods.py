import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boilerplate.methods import cited, references, to_bibtex, to_html, to_text, write_citations

TEXT = """### Preprocessing
Bias was corrected with *N4* [@n4; @simpleitk], as in @greedy [see @nmi, p. 3].

### Synthesis
See `run --x [@zz]`, <b>bold</b>, a@b.org and @nobody.
"""


def test_bibliography_is_read_whole(request):
    source = (request.config.rootpath / 'boilerplate/references.bib').read_text(encoding='utf-8')
    assert len(references()) == len(re.findall(r'^@', source, re.M)) >= 30
    assert '\n\n'.join(ref.source for ref in references().values()) + '\n' == source


@pytest.mark.parametrize('key', references())
def test_entries_are_complete(key):
    reference = references()[key]
    assert reference.authors
    assert all(family and '{' not in family for family, _ in reference.authors)
    assert reference.fields['title']
    assert re.fullmatch(r'n\.d\.|(19|20)\d\d', reference.year)
    assert re.match(r'https://\S+$|$', reference.url)
    assert not re.search(r'[{}\\]|--', reference.text)
    assert reference.text.endswith('.')


def test_formats_an_entry():
    assert references()['numpy'].text == (
        'Harris C. R., Millman K. J., van der Walt S. J., et al. (2020). '
        'Array programming with NumPy. Nature 585, 357–362.'
    )
    assert references()['nibabel'].year == 'n.d.'
    assert references()['niworkflows'].name == 'The NiPreps Developers'


def test_finds_citations_in_order_but_not_in_code_or_addresses():
    assert cited(TEXT) == ['n4', 'simpleitk', 'greedy', 'nmi']


def test_unknown_key_is_named():
    with pytest.raises(ValueError, match=r'cites n44, zz: add the entry'):
        cited('Done [@n44; @zz; @n4].')


def test_html():
    html = to_html(TEXT)
    assert '<h3>Preprocessing</h3>' in html
    assert '<em>N4</em> (<a href="#ref-n4">Tustison et al., 2010</a>; <a' in html
    assert 'as in Yushkevich et al. (<a href="#ref-greedy">2016</a>)' in html
    assert '(see <a href="#ref-nmi">Studholme et al., 1999</a>, p. 3)' in html
    assert '<code>run --x [@zz]</code>' in html
    assert '&lt;b&gt;bold&lt;/b&gt;, a@b.org and @nobody' in html
    assert re.findall(r'<li id="ref-(\w+)">', html) == ['simpleitk', 'nmi', 'n4', 'greedy']
    for target in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{target}"' in html


def test_text_has_no_markup():
    text = to_text(TEXT)
    assert text.startswith(
        'Preprocessing\n\nBias was corrected with N4 (Tustison et al., 2010; Lowekamp et al., 2013)'
    )
    assert 'https://doi.org/10.1109/TMI.2010.2046908' in text
    assert text.index('Lowekamp B. C.') < text.index('Tustison N. J.')


def test_pictures_are_not_loaded():
    assert '<img' not in to_html('![x](https://example.org/x.png)')


def test_accents_do_not_disturb_the_order():
    html = to_html('[@n4; @unet3d; @dortch2011]')
    assert re.findall(r'<li id="ref-(\w+)">', html) == ['unet3d', 'dortch2011', 'n4']


def test_without_citations():
    assert to_html('Plain.') == '<p>Plain.</p>\n'
    assert to_text('Plain.') == 'Plain.\n'
    assert to_bibtex('Plain.').strip() == ''


def test_writes_three_files(tmp_path):
    write_citations(TEXT, tmp_path / 'logs')
    written = {p.name: p.read_text(encoding='utf-8') for p in (tmp_path / 'logs').iterdir()}
    assert sorted(written) == ['CITATION.bib', 'CITATION.html', 'CITATION.md']
    assert written['CITATION.md'] == TEXT
    assert re.findall(r'^@\w+\{(\w+),', written['CITATION.bib'], re.M) == [
        'greedy',
        'n4',
        'nmi',
        'simpleitk',
    ]
    page = written['CITATION.html']
    assert to_html(TEXT) in page
    assert not re.search(r'<(?:script|link|img)|src=', page)


def test_nothing_is_written_with_an_unknown_key(tmp_path):
    with pytest.raises(ValueError, match='n44'):
        write_citations('[@n44]', tmp_path / 'logs')
    assert not list(tmp_path.rglob('CITATION*'))


@given(st.text(alphabet=st.characters(exclude_characters='@', codec='utf-8')))
def test_any_description_is_escaped(text):
    html = to_html(text)
    tags = set(re.findall(r'<\s*/?\s*([a-zA-Z][\w-]*)', html))
    assert not tags & {
        'script',
        'style',
        'iframe',
        'svg',
        'object',
        'form',
        'input',
        'link',
        'meta',
    }
    assert not re.search(r'<[^>]*\son\w+=', html)
    assert 'href="javascript:' not in html
