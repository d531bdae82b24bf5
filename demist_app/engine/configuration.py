"""nipype's configuration, for folders of any name."""

from collections.abc import Mapping
from configparser import Interpolation

import nipype


def configure(sections: Mapping[str, Mapping[str, str]]) -> None:
    """Update nipype's configuration in this process.

    Parameters
    ----------
    sections : mapping
        Section → option → value.
    """
    # nipype's parser takes "%" in the name of a folder for a reference to another option
    nipype.config._config._interpolation = Interpolation()
    nipype.config.update_config(sections)
