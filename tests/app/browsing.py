"""What a browser makes of a page."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

SCRIPT = '</script></style></title></pre><script>document.title="pwned"</script>'
IMAGE = "<img src=x onerror=document.title='pwned'>"
"""Both change the title of a page that does not escape them."""


def browse(page: Path, profile: Path) -> str:
    """Return the document as Chromium has it after all scripts ran; skip where there is none."""
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if not browser:
        pytest.skip('no Chromium here')
    done = subprocess.run(
        [
            browser, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
            '--disable-background-networking', f'--user-data-dir={profile}',
            '--virtual-time-budget=2000', '--dump-dom', page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    return done.stdout


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith('on')]


def foreign(document: str) -> list[str]:
    """List what no page of demist has: more than one script, images, handlers of events, ..."""
    elements = _Elements()
    elements.feed(document)
    wrong = {'img', 'iframe', 'object', 'embed', 'base', 'form', 'link'} & set(elements.tags)
    return [*wrong, *elements.handlers, *['script'] * (elements.tags.count('script') > 1)]
