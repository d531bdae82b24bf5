"""Find what derivative data sets hold for one unit: masks, segmentation, measured PSR."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bids.layout import BIDSLayout

from bids_layout.choice import Choice, Rule, absent, admits, prefer
from bids_layout.query import Image, images
from bids_layout.sidecars import Sidecars

_SYNTHETIC = ('synth', 'synthsd')
_OUT_OF_FOLD = 'outoffold'  # a method may be named after it
_NOT_A_MEASUREMENT = ('fit', 'retest', 'truth')
_T1W_SPACES = ('T1w', 't1w', 'orig')
_FLAIR_SPACES = ('FLAIR', 'flair')
# Coordinates of the participant's own head; every other label is taken for a template.
_OWN_SPACES = (*_T1W_SPACES, *_FLAIR_SPACES, 'T2w', 'MT', 'PSR', 'SIR', 'qmt', 'anat',
               'individual', 'scanner', 'session')  # fmt: skip

_PLAIN: tuple[Rule, ...] = (('of no special kind', absent('desc', 'segmentation', 'atlas', 'res')),)
_PSR_RULES: tuple[Rule, ...] = (
    ('desc-qmt', lambda image: image.entities.get('desc') == 'qmt'),
    ('on the T1w', lambda image: image.entities.get('space') in _T1W_SPACES),
    *_PLAIN,
)
_DSEG_RULES: tuple[Rule, ...] = (
    *_PLAIN,
    ('desc-aseg', lambda image: image.entities.get('desc') == 'aseg'),
)
_LESION_RULES: tuple[Rule, ...] = (
    ('on the T1w', lambda image: image.entities.get('space') not in _FLAIR_SPACES),
    *_PLAIN,
    ('without the kinds of lesion', absent('desc')),
)

Predicate = Callable[[Image], bool]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What derivative data sets hold for one unit.

    Attributes
    ----------
    psr
        Measured PSR map, on the participant's own coordinates.
    brain_mask, brain_mask_reference
        Brain mask and the image whose coordinates it shares: `preproc_t1w` if the same
        derivative data set holds one, else the raw T1w.
    preproc_t1w
        Preprocessed T1w of sMRIPrep, fMRIPrep or demist.
    dseg, dseg_lookup
        Segmentation on the T1w, and the table that names its labels.
    lesion_mask, lesion_space
        Lesion mask and the image ('T1w' or 'FLAIR') that it lies on.
    notes
        Choices made and oddities seen, one sentence each, for the report.
    """

    psr: Path | None = None
    brain_mask: Path | None = None
    brain_mask_reference: Path | None = None
    preproc_t1w: Path | None = None
    dseg: Path | None = None
    dseg_lookup: Path | None = None
    lesion_mask: Path | None = None
    lesion_space: Literal['T1w', 'FLAIR'] | None = None
    notes: tuple[str, ...] = ()


class Derivatives:
    """The images of all derivative data sets, by participant.

    Parameters
    ----------
    layout
        The raw data set with its derivatives; their order is their precedence.
    psr_filter
        The ``psr`` section of the filter file.
    """

    def __init__(self, layout: BIDSLayout, psr_filter: Mapping[str, Any]) -> None:
        self._psr_filter = psr_filter
        self._sidecars = {
            name: Sidecars(Path(child.root)) for name, child in layout.derivatives.items()
        }
        self._images: dict[str, dict[str, list[Image]]] = {}
        for name, child in layout.derivatives.items():
            for image in images(child):
                of_participant = self._images.setdefault(image.entities['subject'], {})
                of_participant.setdefault(name, []).append(image)

    def find(self, t1w: Image, flair: Image, only_session: bool) -> Derived:
        """Find the derivatives of one pair.

        Parameters
        ----------
        t1w, flair
            The pair.
        only_session
            The participant has no other session, so that derivatives named without a session
            belong to this one. (Pipelines that average several sessions name their results so
            too, and those lie on no single session's T1w.)

        Returns
        -------
        Derived
            With a note for every choice among several.
        """
        notes: list[str] = []
        sets: dict[str, list[Image]] = {}
        for name, candidates in self._images.get(t1w.entities['subject'], {}).items():
            here = [image for image in candidates if image.unit == t1w.unit]
            if not here and only_session:
                here = [image for image in candidates if 'session' not in image.entities]
            sets[name] = [image for image in here if os.access(image.path, os.R_OK)]
            if len(sets[name]) < len(here):
                notes.append(
                    f'{len(here) - len(sets[name])} files of "{name}" cannot be read '
                    '(links not fetched yet?); they were left out'
                )

        def pick(
            what: str, wanted: Predicate, rules: tuple[Rule, ...], first: str | None = None
        ) -> tuple[Image | None, str]:
            choice, name = _from_first_set(sets, what, wanted, rules, first)
            notes.extend(choice.notes)
            return choice.image, name

        psr, _ = pick('PSR map', self._is_measured_psr, _PSR_RULES)
        maps = [image for found in sets.values() for image in found if _is_psr_map(image)]
        if maps and not psr:
            notes.append(
                f'{len(maps)} PSR maps left out, for instance {maps[0].path.name}: on a template, '
                'no measurement, or not admitted by the filter'
            )
        mask, mask_set = pick('brain mask', lambda image: _is_brain_mask(image, t1w), _PLAIN)
        preproc, preproc_set = pick(
            'preprocessed T1w', lambda image: _is_preproc_t1w(image, t1w), _PLAIN, mask_set
        )
        dseg, dseg_set = pick('segmentation', lambda image: _is_dseg(image, t1w), _DSEG_RULES)
        lesions, _ = pick(
            'lesion mask', lambda image: _is_lesion_mask(image, t1w, flair), _LESION_RULES
        )

        result: dict[str, Any] = {}
        if psr:
            result['psr'] = psr.path
        if preproc:
            result['preproc_t1w'] = preproc.path
        if mask:
            same = preproc is not None and preproc_set == mask_set
            result['brain_mask'] = mask.path
            result['brain_mask_reference'] = preproc.path if preproc and same else t1w.path
        if dseg:
            result['dseg'] = dseg.path
            result['dseg_lookup'] = self._sidecars[dseg_set].lookup_table(dseg.path)
        if lesions:
            on_flair = lesions.entities.get('space') in _FLAIR_SPACES
            result['lesion_mask'] = lesions.path
            result['lesion_space'] = 'FLAIR' if on_flair else 'T1w'
        return Derived(notes=tuple(notes), **result)

    def _is_measured_psr(self, image: Image) -> bool:
        entities, wanted = image.entities, self._psr_filter
        return (
            admits(entities, {'suffix': 'PSRmap', **wanted})
            and not _is_synthetic(image)
            and ('desc' in wanted or entities.get('desc') not in _NOT_A_MEASUREMENT)
            and ('space' in wanted or entities.get('space') in (None, *_OWN_SPACES))
        )


def _from_first_set(
    sets: Mapping[str, list[Image]],
    what: str,
    wanted: Predicate,
    rules: tuple[Rule, ...],
    first: str | None,
) -> tuple[Choice, str]:
    """Choose within the first data set that has the image; say if others have it too."""
    order = sorted(sets, key=lambda name: name != first)
    having = {name: [i for i in sets[name] if wanted(i)] for name in order}
    having = {name: found for name, found in having.items() if found}
    if not having:
        return Choice(), ''
    name, *others = having
    choice = prefer(what, having[name], rules)
    if others:
        choice.notes.append(f'{what} taken from "{name}" (also in {", ".join(others)})')
    return choice, name


def _from_same_scan(image: Image, scan: Image) -> bool:
    """Tell whether nothing in the name says that the derivative is of another scan."""
    return all(
        str(image.entities[name]) == str(scan.entities[name])
        for name in ('acquisition', 'ceagent', 'reconstruction', 'run')
        if name in image.entities and name in scan.entities
    )


def _on_t1w(image: Image, t1w: Image) -> bool:
    return image.entities.get('space') in (None, *_T1W_SPACES) and _from_same_scan(image, t1w)


def _is_synthetic(image: Image) -> bool:
    desc = str(image.entities.get('desc'))
    return desc in _SYNTHETIC or desc.startswith(_OUT_OF_FOLD)


def _is_psr_map(image: Image) -> bool:
    return image.entities.get('suffix') == 'PSRmap' and not _is_synthetic(image)


def _is_brain_mask(image: Image, t1w: Image) -> bool:
    wanted = {'suffix': 'mask', 'desc': 'brain', 'label': None}
    return admits(image.entities, wanted) and _on_t1w(image, t1w)


def _is_preproc_t1w(image: Image, t1w: Image) -> bool:
    return admits(image.entities, {'suffix': 'T1w', 'desc': 'preproc'}) and _on_t1w(image, t1w)


def _is_dseg(image: Image, t1w: Image) -> bool:
    return image.entities.get('suffix') == 'dseg' and _on_t1w(image, t1w)


def _is_lesion_mask(image: Image, t1w: Image, flair: Image) -> bool:
    entities = image.entities
    by_lst_ai = entities.get('segmentation') == 'lst' and 'suffix' not in entities
    if not by_lst_ai and not admits(entities, {'suffix': 'mask', 'label': 'lesion'}):
        return False
    if entities.get('space') in _FLAIR_SPACES:
        return _from_same_scan(image, flair)
    return _on_t1w(image, t1w)
