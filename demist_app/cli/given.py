"""The options that were given, as words of a command line that means the same from any folder."""

import argparse
import shlex
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from demist_app.cli.parser import build_parser

# What a job has of its own, or the script that starts it
_OWN = {
    'bids_dir', 'out_dir', 'analysis_level', 'write_slurm', 'container', 'participant_label',
    'work_dir', 'nprocs', 'mem', 'config_filters', 'verbosity',
}  # fmt: skip
_SHIPPED = {'model': 'bundles', 'preset': 'presets'}


def given(options: argparse.Namespace) -> Iterator[str]:
    """Yield the options that were given, with absolute paths.

    Those that take one value are one word, so that no value can pass for an option. Left out is
    what says where and for whom a job runs: folders, participants, processors, memory.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed, before a configuration file is looked at.
    """
    defaults = build_parser()
    for name, value in vars(options).items():
        if name in _OWN or value == defaults.get_default(name):
            continue
        option = f'--{name.replace("_", "-")}'
        if value is True:
            yield option
        elif value is False:
            yield f'--no-{name}'
        elif name == 'derivatives':
            yield from (option, *(f'{key}={path}' for key, path in value))
        elif name == 'streams':
            yield f'{option}={",".join(value)}'
        elif name in _SHIPPED:
            yield f'{option}={_shipped_or_path(value, _SHIPPED[name])}'
        elif isinstance(value, list):
            yield from (option, *value)
        else:
            yield f'{option}={_absolute(value)}'
    if options.verbosity:
        yield f'-{"v" * options.verbosity}'


def _shipped_or_path(value: str, kind: str) -> str:
    """Leave the name of what the package ships; make anything else the same file from anywhere."""
    folder = resources.files('demist_app') / 'data' / kind
    names = {Path(entry.name).stem for entry in folder.iterdir()}
    return value if value in names else str(Path(value).absolute())


def _absolute(value: Any) -> Any:
    return value.absolute() if isinstance(value, Path) else value


def quoted(words: Iterable[Any]) -> list[str]:
    """Quote words for the shell, each by itself."""
    return [shlex.quote(str(word)) for word in words]
