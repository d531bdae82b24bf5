"""Imports point one way, modules stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ('demist_app', 'bids_layout', 'boilerplate')
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob('*.py'))

LEAVES = {'bids_layout', 'boilerplate'}
BELOW = {
    'settings': set(),
    'threads': set(),
    'memory': set(),
    'model': {'memory', 'threads'},
    'imaging': {'memory', 'threads'},
    'engine': {'memory'},
    'evaluation': {'imaging'},
    'phantom': {'imaging'},
    'training': {'memory', 'model', 'imaging', 'evaluation', 'phantom'},
    'interfaces': {'model', 'imaging', 'evaluation', 'phantom', 'training', *LEAVES},
    'workflows': {
        'interfaces',
        'settings',
        'model',
        'imaging',
        'evaluation',
        'training',
        *LEAVES,
    },
    'cli': {
        'workflows',
        'interfaces',
        'settings',
        'engine',
        'model',
        'imaging',
        'training',
        *LEAVES,
    },
    '__main__': {'cli'},
    **{leaf: set() for leaf in LEAVES},
}


def part(name: str) -> str | None:
    """Return the part of the project a dotted module name belongs to."""
    head, *rest = name.split('.')
    if head in LEAVES:
        return head
    return rest[0] if head == 'demist_app' and rest else None


def imported(path: Path) -> set[str]:
    """Return the dotted names a module imports, lazy imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} imports relatively'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = part('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    found = {part(name) for name in imported(path)} - {None, own, '__version__'}
    if own in (None, '__init__'):
        assert not found
    else:
        assert found <= BELOW[own], f'{own} imports {found - BELOW[own]}'


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_module_imports_the_tests():
    assert not any(name.startswith('tests') for path in MODULES for name in imported(path))
