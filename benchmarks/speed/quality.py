"""How good a map is, beside how fast it was made: scores, lesions, spread, and seams."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from common import Case, Map, Mask
from monai.data.utils import dense_patch_slices
from numpy.typing import NDArray
from speed.reference import OVERLAP, WINDOW

from demist_app.evaluation.calibration import fit_scale
from demist_app.evaluation.lesions import Pair, inner_white, lesion_pairs, means, midsagittal
from demist_app.evaluation.metrics import score

_FEWEST_DRAWS = 4  # for a spread


@dataclass(frozen=True)
class Brain:
    """One phantom as an arm sees it: cut out, and what is known of it on the whole grid.

    Attributes
    ----------
    case : Case
    box : tuple of slice
        Where the brain was cut out.
    inside : ndarray of bool
        The estimated mask within the box: the voxels of all maps.
    pairs : list of Pair
    """

    case: Case
    box: tuple[slice, ...]
    inside: Mask
    pairs: list[Pair]

    @classmethod
    def of(cls, case: Case, box: tuple[slice, ...], mask: Mask, t1w: Map) -> 'Brain':
        """Find the lesions' partners in white matter, which is known of a phantom."""
        white = case.regions()['white matter']
        pairs: list[Pair] = []
        if len(case.lesions):
            drawn = np.isin(case.labels, case.lesions)
            plane = midsagittal(t1w, case.mask, (1, 1, 1))
            pairs = lesion_pairs(drawn, inner_white(white, drawn), (1, 1, 1), plane)
        return cls(case, box, mask[box], pairs)

    def volume(self, values: NDArray[Any]) -> Map:
        """Return the map of which these are the voxels."""
        cut = np.zeros(self.inside.shape, np.float32)
        cut[self.inside] = values
        whole = np.zeros(self.case.mask.shape, np.float32)
        whole[self.box] = cut
        return whole

    def judge(self, draws: NDArray[Any]) -> dict[str, Any]:
        """Return what is known of one unit's maps.

        Parameters
        ----------
        draws : ndarray, shape (n, voxels of `inside`)
            Percent.
        """
        drawn = draws.astype(np.float32)
        one, mean = self.volume(drawn[0]), self.volume(drawn.mean(axis=0))
        first, found = (score(m, self.case.measured, self.case.mask) for m in (one, mean))
        facts: dict[str, Any] = {
            'psnr_1': first.psnr, 'ssim_1': first.ssim, 'psnr': found.psnr, 'ssim': found.ssim,
            'mae': found.mae, 'draws': len(drawn), 'seams': seams(one[self.box]),
            'lesions': means(mean, self.pairs).tolist(),
        }  # fmt: skip
        if len(drawn) >= _FEWEST_DRAWS:
            truth = self.case.fit[self.box][self.inside]
            sd = drawn.std(axis=0, ddof=1)
            facts['sd_factor'] = fit_scale(truth - drawn.mean(axis=0), sd, draws=len(drawn))
        return facts


def seams(image: Map) -> float:
    """Compare the steps of a map across the borders of the stock windows with its other steps.

    Returns
    -------
    float
        Mean square difference of neighbours on both sides of a border, over that of all other
        neighbours within two voxels of it: 1 where nothing is to be seen.
    """
    stride = int(WINDOW * (1 - OVERLAP))
    windows = dense_patch_slices(image.shape, (WINDOW,) * 3, (stride,) * 3)
    across: list[NDArray[Any]] = []
    beside: list[NDArray[Any]] = []
    for axis, length in enumerate(image.shape):
        planes = np.moveaxis(image, axis, 0)
        for border in {edge for w in windows for edge in (w[axis].start, w[axis].stop)}:
            if not 3 <= border <= length - 3:
                continue
            for offset in range(-2, 3):
                low, high = planes[border - 1 + offset], planes[border + offset]
                both = (low > 0) & (high > 0)
                (beside if offset else across).append((high - low)[both] ** 2)
    return float(np.concatenate(across).mean() / np.concatenate(beside).mean())
