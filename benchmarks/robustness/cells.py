"""The cells of the table: what is done to the scans, and how far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image
from robustness import damage
from robustness.damage import Raw

Damage = Callable[[Raw, np.random.Generator], Nifti1Image]
BOTH = 'T1w', 'FLAIR'
AS_THEY_ARE = 'as they are'
PANELS = {
    'none': AS_THEY_ARE,
    'noise': 'SNR of white matter',
    'flair-slices': 'slices of the FLAIR (mm)',
    'slices': 'slices of both (mm)',
    'coil': 'coil field (× or ÷)',
    'motion': 'motion (° and mm)',
    'skull': 'skull',
    'field': 'field strength (T)',
    'load': 'lesions of each patient',
}
"""What is varied, by its name on disk."""


@dataclass(frozen=True)
class Cell:
    """One way of scanning the units.

    Attributes
    ----------
    panel : str
        Key of `PANELS`.
    level : str
    damage : callable or None
        What is done to the scans as they are.
    kinds : tuple of str
        The scans it is done to.
    phantom : mapping
        Attributes of `demist_app.phantom.cohort.Cohort`, of other scans of the same people.
    arguments : tuple of str
        For demist.
    """

    panel: str
    level: str
    damage: Damage | None = None
    kinds: tuple[str, ...] = BOTH
    phantom: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """On disk."""
        return f'{self.panel}-{self.level}'.replace(' ', '-')


CELLS = (
    Cell('none', AS_THEY_ARE),
    *(Cell('noise', f'{n}', partial(damage.noise, snr=n)) for n in (30, 15, 8)),
    *(Cell('flair-slices', f'{n}', partial(damage.slices, mm=n), ('FLAIR',)) for n in (3, 5)),
    *(Cell('slices', f'{n}', partial(damage.slices, mm=n)) for n in (3, 5)),
    *(Cell('coil', f'{n}', partial(damage.coil, factor=n)) for n in (1.5, 2.5)),
    *(Cell('motion', f'{n}', partial(damage.motion, extent=n)) for n in (1, 2, 5)),
    Cell('skull', 'removed before', damage.strip),
    Cell('skull', 'taken for brain', arguments=('--skull-strip', 'skip')),
    Cell('field', '1.5', phantom={'tesla': 1.5}),
    *(Cell('load', f'{n}', phantom={'lesions': n}) for n in (5, 20, 60)),
)
