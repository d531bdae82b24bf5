"""What a page says of lesions and normal-appearing white matter (NAWM)."""

from dataclasses import dataclass

from boilerplate.squares import Square


@dataclass(frozen=True)
class LesionRow:
    """How well one map tells lesions from NAWM; all cells are words.

    Attributes
    ----------
    name : str
    style : str
        Classes of its curves.
    counted : str
        Lesions and participants.
    areas : tuple of (str, str, str)
        AUC against combined, proximal and distal NAWM, a mark where it is above that of the
        measured maps, and its interval.
    against : tuple of (str, str)
        The reference, and the measured maps: p, and interval of the difference of areas.
    agreement : tuple of str
        r, CCC, bias.
    limits : str
        Of agreement.
    voxels : tuple of str
        AUC for voxels, and its interval.
    """

    name: str
    style: str
    counted: str
    areas: tuple[tuple[str, str, str], ...]
    against: tuple[tuple[str, str], ...]
    agreement: tuple[str, str, str]
    limits: str
    voxels: tuple[str, str]


@dataclass(frozen=True)
class Lesions:
    """Lesions against normal-appearing white matter: curves, and a row for each map.

    Attributes
    ----------
    squares : tuple of Square
        ROC curves, one figure for each comparator.
    rows : tuple of LesionRow
    reference : str
        Row that the others are compared with.
    measured : bool
        Whether measured maps are among the rows; without them no row can be right or wrong.
    table : str
        File of the same numbers, relative to the page.
    """

    squares: tuple[Square, ...]
    rows: tuple[LesionRow, ...]
    reference: str
    measured: bool
    table: str
