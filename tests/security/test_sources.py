"""What the code never does, whoever writes the next line of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ('demist_app', 'bids_layout', 'boilerplate', 'benchmarks')
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob('*.py'))
TEMPLATES = sorted((ROOT / 'boilerplate' / 'templates').glob('*.j2'))

FORBIDDEN = {
    *('eval', 'exec', '__import__', 'os.system', 'os.popen', 'tempfile.mktemp'),
    *('yaml.load', 'yaml.load_all', 'yaml.unsafe_load', 'yaml.full_load'),
    *('pickle.load', 'pickle.loads', 'pickle.Unpickler', 'marshal.loads', 'shelve.open'),
    *('pd.read_pickle', 'pandas.read_pickle', 'joblib.load', 'nipype.utils.filemanip.loadpkl'),
}
ALLOWED = {
    # from its own parent, through a pipe that nobody else holds
    ('demist_app/engine/worker.py', 'pickle.loads'),
}

MADE_HERE = {
    'style', 'script', 'svg[figure.path]', 'case.svg', 'part.markup', 'methods_html', 'body'
}  # fmt: skip
"""Style sheets, the script, figures, and Markdown whose HTML was escaped."""


def calls(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the dotted name and the keywords of every call in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            yield ast.unparse(node.func), keywords


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_read_is_ever_run(path):
    name = path.relative_to(ROOT).as_posix()
    for call, keywords in calls(path):
        assert call not in FORBIDDEN or (name, call) in ALLOWED, call
        assert keywords.get('shell', 'False') == 'False', call
        assert keywords.get('allow_pickle', 'False') == 'False', call
        if call == 'torch.load':
            assert keywords.get('weights_only') == 'True'


def test_the_search_finds_what_it_looks_for(tmp_path):
    path = tmp_path / 'bad.py'
    path.write_text('import os\nos.system(f"rm {x}")\nsubprocess.run(x, shell=True)\n')
    assert list(calls(path)) == [('os.system', {}), ('subprocess.run', {'shell': 'True'})]


@pytest.mark.parametrize('path', TEMPLATES, ids=lambda path: path.name)
def test_templates_escape_all_but_what_boilerplate_made(path):
    unescaped = set(re.findall(r'([\w.\[\]]+)\s*\|\s*safe\b', path.read_text()))
    assert unescaped <= MADE_HERE
    assert not re.search(r'autoescape\s+false', path.read_text())
