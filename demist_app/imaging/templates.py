"""Templates of TemplateFlow that are already on this machine; nothing is downloaded."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self


class TemplateError(ValueError):
    """A template is not at hand; the message says how to get it."""


@dataclass(frozen=True)
class Template:
    """A standard space.

    Attributes
    ----------
    name : str
        TemplateFlow's name.
    resolution : str or None
        As the user gave it; None for TemplateFlow's first.
    t1w, mask : Path
        Image and brain mask.
    """

    name: str
    resolution: str | None
    t1w: Path
    mask: Path

    @classmethod
    def find(cls, space: str, home: Path | None = None) -> Self:
        """Look a space up in the local TemplateFlow archive.

        Parameters
        ----------
        space : str
            ``NAME`` or, as for fMRIPrep, ``NAME:res-N``.
        home : Path, optional
            The archive; ``TEMPLATEFLOW_HOME`` or its default.

        Raises
        ------
        TemplateError
            If the name is malformed or the template's files are not there.
        """
        match = re.fullmatch(r'(\w+)(?::res-0?(\d))?', space)
        if not match:
            raise TemplateError(
                f'--output-spaces {space}: give T1w, a template name or NAME:res-N '
                '(cohorts and other modifiers are not supported)'
            )
        name, resolution = match.groups()
        home = home or Path(
            os.environ.get('TEMPLATEFLOW_HOME') or Path.home() / '.cache' / 'templateflow'
        )
        stem = home / f'tpl-{name}' / f'tpl-{name}_res-0{resolution or 1}'
        t1w = stem.with_name(f'{stem.name}_T1w.nii.gz')
        mask = stem.with_name(f'{stem.name}_desc-brain_mask.nii.gz')
        for file in (t1w, mask):
            # an archive that was only indexed holds empty files in place of images
            if not file.is_file() or not file.stat().st_size:
                raise TemplateError(
                    f'--output-spaces {space}: {file} is not there and demist downloads nothing; '
                    'on a machine with network run python -c "from templateflow.api import get; '
                    f"get('{name}', resolution={resolution or 1})\" and set TEMPLATEFLOW_HOME"
                )
        return cls(name, resolution, t1w, mask)
