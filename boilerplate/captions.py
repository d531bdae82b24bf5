"""Titles and captions of the figures: what each shows and what a reader should check in it."""

from pathlib import Path

from boilerplate.report import REGIONS_SECTION, Figure

ANATOMY = 'Anatomy'
ALIGNMENT = 'Alignment'
PSR = 'Synthetic PSR'
UNCERTAINTY = 'Uncertainty'
REGIONS = REGIONS_SECTION


def brain_mask(path: Path, *, lesions: bool) -> Figure:
    """Caption `figures.plot_contours`."""
    also = ' Pink marks the lesion mask that was given.' if lesions else ''
    return Figure(
        ANATOMY,
        'Brain mask on the T1w image',
        'The teal line should follow the surface of the brain: no skull, eyes or dura inside, '
        'no cortex or cerebellum outside. Everything that follows is computed inside this line.'
        + also,
        path,
    )


def alignment(path: Path) -> Figure:
    """Caption `figures.plot_alignment`."""
    return Figure(
        ALIGNMENT,
        'FLAIR registered to T1w',
        'Flip between the images: sulci, ventricles and the teal brain outline should stay where '
        'they are between T1w and “FLAIR after”. “FLAIR before” shows where the scanner’s header '
        'put the image.',
        path,
        ('T1w', 'FLAIR before', 'FLAIR after'),
    )


def psr(path: Path, *, lesions: bool) -> Figure:
    """Caption `figures.plot_psr` of a synthetic map."""
    also = ' Pink outlines the lesion mask that was given.' if lesions else ''
    return Figure(
        PSR,
        'Synthetic pool size ratio',
        'Predicted from T1w and FLAIR, not measured. White matter should stand out from grey '
        'matter, and both hemispheres should look alike; patches that follow no anatomy come from '
        'the input images or the model. The colour scale is the same in every report.' + also,
        path,
    )


def spread(path: Path, draws: int, *, learned: bool) -> Figure:
    """Caption `figures.plot_psr` of what is stated as standard deviation.

    Parameters
    ----------
    path : Path
    draws : int
        1 where the SD is not that over draws but that of errors.
    learned : bool
        Whether the SD over draws was scaled to errors on scans the model was not trained on.
    """
    if draws > 1:
        title = 'How far the map may be off' if learned else 'How much the draws differ'
        text = (
            f'Standard deviation over {draws} draws from the model, voxel by voxel, in percentage '
            'points of PSR'
        )
        text += (
            ', brought by one factor to the size of the errors of this model on scans '
            'it was not trained on. It holds on average over a brain, for scans like those; where '
            'in the brain the map errs, it need not show.'
            if learned
            else '. The map is usually further off than that: errors that all draws share do not '
            'show here.'
        )
    else:
        title = 'How far the map may be off'
        text = (
            'Standard deviation that the model expects of its own error, voxel by voxel, in '
            'percentage points of PSR. It knows nothing of errors that all predictions share: a '
            'small value does not make the map right.'
        )
    return Figure(UNCERTAINTY, title, text, path)


def distribution(path: Path) -> Figure:
    """Caption `distribution.plot_distribution`."""
    return Figure(
        REGIONS,
        'Distribution per tissue',
        'Smoothed histogram of the voxels of every tissue; the grey bar spans the quartiles, the '
        'tick marks the median. Each is scaled to its own peak, so heights do not compare volumes.',
        path,
    )
