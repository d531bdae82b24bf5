"""The file behind ``--use-plugin``."""

from pathlib import Path
from typing import Any

from demist_app.settings import SettingsError


def read_plugin(path: Path) -> tuple[str, dict[str, Any]]:
    """Read which of nipype's plugins runs the steps, and its arguments.

    Parameters
    ----------
    path : Path
        YAML, or JSON, with ``plugin`` and perhaps ``plugin_args``. Only plain values are read.

    Raises
    ------
    SettingsError
        If the file holds anything else.
    """
    import yaml

    try:
        chosen = yaml.safe_load(path.read_text('utf-8'))
    except (OSError, ValueError, TypeError, LookupError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f'--use-plugin {path} is not readable as YAML or JSON') from error
    if not (isinstance(chosen, dict) and isinstance(chosen.get('plugin'), str)):
        raise SettingsError(
            f'--use-plugin {path} names no plugin; write a line like "plugin: MultiProc"'
        )
    arguments = chosen.get('plugin_args', {})
    if not isinstance(arguments, dict):
        raise SettingsError(f'--use-plugin {path}: plugin_args must map names to values')
    return chosen['plugin'], arguments
