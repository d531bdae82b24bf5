"""Cerebrospinal fluid, grey and white matter, and the regions of the report's table."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import softmax
from scipy.stats import multivariate_normal
from skimage.filters import threshold_otsu
from sklearn.mixture import GaussianMixture

CSF, GM, WM = 1, 2, 3
"""Labels of :func:`segment`."""
FIT_VOXELS = 50_000
"""Voxels that the mixture is fitted to, drawn with a fixed seed."""
REGULARISATION = 1e-4
"""Added to variances of intensities in [0, 1]: a class narrower than 1 % is no tissue."""
SMOOTHNESS = 0.7
"""Log-odds that each of the six neighbours adds to its own class."""
SWEEPS = 5
LARGEST_LOG_ODDS = 12.0
"""No single intensity is more certain than this; neighbours can outvote an outlier."""

FACES = ndimage.generate_binary_structure(3, 1)
NEIGHBOURS = FACES.astype(np.float32) - np.pad(np.ones((1, 1, 1), np.float32), 1)


def segment(
    t1w: npt.NDArray[Any],
    flair: npt.NDArray[Any],
    mask: npt.NDArray[Any],
    lesions: npt.NDArray[Any] | None = None,
) -> npt.NDArray[np.uint8]:
    """Label the brain's tissues from both contrasts.

    In the plane of T1w and FLAIR the brain's voxels form a boomerang: from CSF, dark in both, up
    to grey matter, and from there to white matter, brighter in T1w and darker in FLAIR. T1w + FLAIR
    therefore tells CSF from tissue and T1w − FLAIR grey from white matter, also in thick slices,
    where either image alone hardly shows the cortex. These splits start a mixture of four
    Gaussians (CSF, its partial volume with grey matter, grey, white matter); the partial-volume
    class is divided half-way. A Markov random field (mean field, six neighbours) removes specks.

    Parameters
    ----------
    t1w, flair
        Bias-corrected intensities in [0, 1] on one isotropic grid (:func:`normalise.normalise`).
    mask
        Brain; not zero is brain.
    lesions
        White-matter lesions: kept out of the fit and labelled white matter.

    Returns
    -------
    ndarray
        uint8: 0 outside the brain, 1 CSF, 2 grey matter, 3 white matter. The same input gives the
        same labels.

    Notes
    -----
    Without a lesion mask bright lesions fall to grey matter, and parts of thalamus and pallidum,
    whose contrast lies between, to white matter.
    """
    brain = mask != 0
    values = np.stack([t1w[brain], flair[brain]], axis=1).astype(np.float64)
    healthy = np.arange(len(values)) if lesions is None else np.flatnonzero(lesions[brain] == 0)
    rng = np.random.default_rng(0)
    drawn = rng.choice(healthy, min(FIT_VOXELS, len(healthy)), replace=False)
    beliefs = np.zeros((3, *brain.shape), np.float32)
    evidence = _evidence(values, _fit(values[drawn]))
    belief = softmax(evidence, axis=1)
    for _ in range(SWEEPS):
        beliefs[:, brain] = belief.T
        around = [ndimage.convolve(b, NEIGHBOURS, mode='constant')[brain] for b in beliefs]
        belief = softmax(evidence + SMOOTHNESS * np.stack(around, axis=1), axis=1)
    labels = np.zeros(brain.shape, np.uint8)
    labels[brain] = belief.argmax(axis=1) + CSF
    if lesions is not None:
        labels[brain & (lesions != 0)] = WM
    return labels


def regions(
    labels: npt.NDArray[Any],
    lesions: npt.NDArray[Any] | None = None,
    deep_gm: npt.NDArray[Any] | None = None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the masks of the regional table, in its order.

    Parameters
    ----------
    labels
        As :func:`segment` gives them.
    lesions
        White-matter lesions, where known.
    deep_gm
        Caudate, putamen, pallidum, thalamus, where another segmentation knows them; it overrules
        ``labels``.

    Returns
    -------
    dict
        ``CSF``; ``GM``, or ``cortical GM`` and ``deep GM``; ``WM`` (lesions included); with lesions
        also ``lesions`` (inside the brain) and ``NAWM``, white matter at least one voxel away
        from them.
    """
    brain = labels != 0
    deep = np.zeros_like(brain) if deep_gm is None else brain & (deep_gm != 0)
    masks = {'CSF': (labels == CSF) & ~deep}
    if deep_gm is None:
        masks['GM'] = labels == GM
    else:
        masks['cortical GM'] = (labels == GM) & ~deep
        masks['deep GM'] = deep
    masks['WM'] = (labels == WM) & ~deep
    if lesions is not None:
        masks['lesions'] = brain & (lesions != 0)
        near = ndimage.binary_dilation(lesions != 0, np.ones((3, 3, 3), bool))
        masks['NAWM'] = masks['WM'] & ~near
    return masks


def _fit(values: npt.NDArray[np.float64]) -> GaussianMixture:
    """Fit CSF, CSF–GM, GM and WM, in this order of components at the start."""
    total, contrast = values.sum(axis=1), values[:, 0] - values[:, 1]
    border = threshold_otsu(total)
    solid = total > border
    white = contrast > threshold_otsu(contrast[solid])
    dark = total < np.percentile(total[~solid], 30)
    classes = np.where(solid, np.where(white, 3, 2), np.where(dark, 0, 1))
    members = [values[classes == c] for c in range(4)]
    covariances = [np.cov(m.T) + REGULARISATION * np.eye(2) for m in members]
    return GaussianMixture(
        4,
        weights_init=[len(m) / len(values) for m in members],
        means_init=[m.mean(axis=0) for m in members],
        precisions_init=np.linalg.inv(covariances),
        reg_covar=REGULARISATION,
        random_state=0,
    ).fit(values)


def _evidence(values: npt.NDArray[np.float64], mixture: GaussianMixture) -> npt.NDArray[np.float64]:
    """Log-odds of CSF, GM and WM, shape (voxels, 3)."""
    csf, mixed, gm, wm = (
        np.log(weight) + multivariate_normal.logpdf(values, mean, covariance)
        for weight, mean, covariance in zip(
            mixture.weights_, mixture.means_, mixture.covariances_, strict=True
        )
    )
    arm = mixture.means_[2] - mixture.means_[0]
    fraction = (values - mixture.means_[0]) @ arm / (arm @ arm)
    evidence: npt.NDArray[np.float64] = np.stack(
        [
            np.logaddexp(csf, np.where(fraction < 0.5, mixed, -np.inf)),
            np.logaddexp(gm, np.where(fraction < 0.5, -np.inf, mixed)),
            wm,
        ],
        axis=1,
    )
    log_odds: npt.NDArray[np.float64] = evidence - evidence.max(axis=1, keepdims=True)
    return np.maximum(log_odds, -LARGEST_LOG_ODDS)
