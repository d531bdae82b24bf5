"""Dataclasses of settings from JSON files, of the package or of the user, with errors that help."""

import dataclasses
import json
import types
import typing
from importlib import resources
from pathlib import Path
from typing import Any


class PresetError(ValueError):
    """The preset does not exist, or holds something this version of demist does not know."""


def read_settings(kind: str, name: str, asked: str) -> tuple[Path, dict[str, Any]]:
    """Read settings of the package by their name, or a JSON file.

    Parameters
    ----------
    kind : str
        Folder of the package's data.
    name : str
        Of the settings, or path of a file.
    asked : str
        Who asks for them, for the error.

    Raises
    ------
    PresetError
        If there is none of that name, or it holds no JSON object.
    """
    folder = Path(str(resources.files('demist_app'))) / 'data' / kind
    path = folder / f'{name}.json'
    if not path.is_file():
        path = Path(name)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        names = ', '.join(sorted(file.stem for file in folder.glob('*.json')))
        raise PresetError(f'{asked} is neither one of {names} nor a JSON file') from error
    except (ValueError, RecursionError) as error:
        raise PresetError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(content, dict):
        raise PresetError(f'{path} must hold a JSON object')
    return path, content


def build(kind: Any, content: Any, where: str) -> Any:
    """Build settings of a dataclass from JSON.

    Parameters
    ----------
    kind : type
        Of a field: a dataclass, a tuple of one type, or a plain type.
    content : object
        From JSON.
    where : str
        Name of the field, for the error.

    Raises
    ------
    PresetError
        If a field is unknown, missing or of the wrong kind.
    """
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if not isinstance(content, dict):
            raise PresetError(f'{where} must be a JSON object, not {content!r}')
        hints = typing.get_type_hints(kind)
        if unknown := set(content) - set(hints):
            raise PresetError(f'{where} has unknown fields: {", ".join(sorted(unknown))}')
        needed = {
            field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING
        }
        if missing := needed - set(content):
            raise PresetError(f'{where} lacks {", ".join(sorted(missing))}')
        return kind(**{k: build(hints[k], v, f'{where}.{k}') for k, v in content.items()})
    if isinstance(kind, types.GenericAlias):
        if not isinstance(content, list | tuple):
            raise PresetError(f'{where} must be a list, not {content!r}')
        return tuple(build(kind.__args__[0], value, where) for value in content)
    if kind is float and isinstance(content, int) and not isinstance(content, bool):
        return float(content)
    if not isinstance(content, kind) or (isinstance(content, bool) and kind is not bool):
        raise PresetError(f'{where} must be of type {kind.__name__}, not {content!r}')
    return content
