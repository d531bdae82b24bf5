"""The methods text: from a workflow's description to CITATION.md, .bib and .html.

The description is Markdown with citations in pandoc's manner, `[@n4]`, `[see @n4; @greedy]` or
`@n4` inside a sentence. Keys are those of `references.bib`.
"""

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from unicodedata import normalize

from markdown_it import MarkdownIt

from boilerplate.files import write_atomic
from boilerplate.svg import ENVIRONMENT

_ENTRY = re.compile(r'@(\w+)\{([\w-]+),\n(.*?)\n\}', re.S)
_FIELD = re.compile(r'^\s*(\w+) = \{(.*)\},?$', re.M)
_GROUP = re.compile(r'\[([^\[\]]*@[^\[\]]*)\](?!\()')
_KEY = re.compile(r'(?<![\w@.])@([A-Za-z][\w-]*)')
_CODE = re.compile(r'(`[^`]*`)')
_MARKDOWN = MarkdownIt('commonmark', {'html': False}).disable('image')  # reports load nothing


@dataclass(frozen=True)
class Reference:
    """One entry of the bibliography; `source` is its BibTeX."""

    key: str
    fields: dict[str, str]
    source: str

    @property
    def authors(self) -> list[tuple[str, str]]:
        """(family, initials) of every author; ('others', '') stands for those left out.

        >>> references()['matplotlib'].authors
        [('Hunter', 'J. D.')]
        """
        names = []
        for author in self.fields['author'].split(' and '):
            family, _, given = author.strip('{}').partition(', ')
            names.append((family, ' '.join(f'{word[0]}.' for word in given.split())))
        return names

    @property
    def name(self) -> str:
        """Authors as a citation names them.

        >>> references()['n4'].name, references()['matplotlib'].name
        ('Tustison et al.', 'Hunter')
        """
        families = [family for family, _ in self.authors]
        if len(families) > 2:
            return f'{families[0]} et al.'
        return ' & '.join(families)

    @property
    def year(self) -> str:
        """Year, or `n.d.` for software that is cited as a whole."""
        return self.fields.get('year', 'n.d.')

    @property
    def url(self) -> str:
        """Where the work is found, or an empty string."""
        doi = self.fields.get('doi')
        return f'https://doi.org/{doi}' if doi else self.fields.get('url', '')

    @property
    def text(self) -> str:
        """The entry of a reference list, plain, without its address."""
        listed = ', '.join(
            'et al.' if family == 'others' else f'{family} {initials}'.strip()
            for family, initials in self.authors
        )
        where = next(
            self.fields[k] for k in ('journal', 'booktitle', 'howpublished') if k in self.fields
        )
        if 'volume' in self.fields:
            where += f' {self.fields["volume"]}'
        if 'number' in self.fields:
            where += f'({self.fields["number"]})'
        if 'pages' in self.fields:
            where += f', {self.fields["pages"].replace("--", "–")}'
        plain = re.sub(r'[{}\\]', '', f'{self.fields["title"]}. {where}')
        return f'{listed} ({self.year}). {plain}.'


@cache
def references() -> dict[str, Reference]:
    """All entries of the bibliography by key, in its order."""
    text = files('boilerplate').joinpath('references.bib').read_text(encoding='utf-8')
    return {
        match[2]: Reference(match[2], dict(_FIELD.findall(match[3])), match[0])
        for match in _ENTRY.finditer(text)
    }


def cited(description: str) -> list[str]:
    """Keys that a description cites, in the order of first mention.

    Raises
    ------
    ValueError
        A bracketed citation names a key that the bibliography lacks.

    Examples
    --------
    >>> cited('Bias was corrected [@n4], see @greedy; write to a@b.org.')
    ['n4', 'greedy']
    """
    known = references()
    found = []
    for part in _CODE.split(description):
        if part.startswith('`'):
            continue
        required = [key for group in _GROUP.findall(part) for key in _KEY.findall(group)]
        unknown = sorted({key for key in required if key not in known})
        if unknown:
            raise ValueError(
                f'the methods text cites {", ".join(unknown)}: '
                'add the entry to boilerplate/references.bib or correct the key'
            )
        found += [key for key in _KEY.findall(part) if key in known]
    return list(dict.fromkeys(found))


def _resolve(description: str, *, link: bool) -> str:
    """Replace the citations by author and year, as Markdown links or as plain text."""
    known = references()

    def mark(label: str, key: str) -> str:
        return f'[{label}](#ref-{key})' if link else label

    def bracketed(match: re.Match[str]) -> str:
        if not _KEY.search(match[1]):
            return match[0]
        inner = _KEY.sub(lambda m: mark(f'{known[m[1]].name}, {known[m[1]].year}', m[1]), match[1])
        return f'({inner})'

    def narrative(match: re.Match[str]) -> str:
        if match[1] not in known:
            return match[0]
        reference = known[match[1]]
        return f'{reference.name} ({mark(reference.year, match[1])})'

    parts = _CODE.split(description)
    for number, part in enumerate(parts):
        if not part.startswith('`'):
            parts[number] = _KEY.sub(narrative, _GROUP.sub(bracketed, part))
    return ''.join(parts)


def to_html(description: str) -> str:
    """Description and its reference list as an HTML fragment; raw HTML in it is shown, not used.

    The highest headings become `h3`.

    Raises
    ------
    ValueError
        A citation names a key that the bibliography lacks.
    """
    keys = cited(description)
    tokens = _MARKDOWN.parse(_resolve(description, link=True))
    headings = [token for token in tokens if token.type in ('heading_open', 'heading_close')]
    top = min((int(token.tag[1]) for token in headings), default=1)
    for token in headings:
        token.tag = f'h{min(6, int(token.tag[1]) - top + 3)}'
    body = str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
    if not keys:
        return body
    items = ''.join(f'<li id="ref-{ref.key}">{_item(ref)}</li>\n' for ref in _alphabetical(keys))
    return f'{body}<h3>References</h3>\n<ol class="references">\n{items}</ol>\n'


def _plain(text: str) -> str:
    """Lower case without accents, for sorting."""
    return normalize('NFKD', text).encode('ascii', 'ignore').decode().casefold()


def _alphabetical(keys: list[str]) -> list[Reference]:
    return sorted((references()[key] for key in keys), key=lambda ref: _plain(ref.text))


def _item(reference: Reference) -> str:
    if not reference.url:
        return escape(reference.text)
    shown = reference.url.removeprefix('https://doi.org/').removeprefix('https://')
    return f'{escape(reference.text)} <a href="{escape(reference.url)}">{escape(shown)}</a>'


def to_text(description: str) -> str:
    """Description without markup, with author-year citations and a reference list, to paste.

    Raises
    ------
    ValueError
        A citation names a key that the bibliography lacks.
    """
    keys = cited(description)
    tokens = _MARKDOWN.parse(_resolve(description, link=False))
    breaks = {'softbreak': ' ', 'hardbreak': '\n'}
    text = '\n\n'.join(
        ''.join(breaks.get(part.type, part.content) for part in token.children or [])
        for token in tokens
        if token.type == 'inline'
    )
    if not keys:
        return text + '\n'
    listed = [f'{ref.text} {ref.url}'.rstrip() for ref in _alphabetical(keys)]
    return '\n'.join([text, '', 'References', '', *listed, ''])


def to_bibtex(description: str) -> str:
    """Entries of the works that a description cites, in the bibliography's order.

    Raises
    ------
    ValueError
        A citation names a key that the bibliography lacks.
    """
    keys = set(cited(description))
    return '\n\n'.join(ref.source for key, ref in references().items() if key in keys) + '\n'


def write_citations(description: str, logs_dir: Path) -> None:
    """Write `CITATION.md`, `CITATION.bib` and `CITATION.html` into a folder.

    The Markdown keeps its citation keys, so that `pandoc --citeproc --bibliography CITATION.bib`
    can typeset it in any journal's style; the HTML file is self-contained.

    Parameters
    ----------
    description : str
        Markdown of the workflow (`LiterateWorkflow.visit_desc()`).
    logs_dir : Path
        Folder, made where missing.

    Raises
    ------
    ValueError
        A citation names a key that the bibliography lacks.
    """
    page = ENVIRONMENT.get_template('citation.html.j2').render(body=to_html(description))
    write_atomic(logs_dir / 'CITATION.md', description.strip() + '\n')
    write_atomic(logs_dir / 'CITATION.bib', to_bibtex(description))
    write_atomic(logs_dir / 'CITATION.html', page)
