"""From a synthetic map to what a measured one says of it."""

from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class ScoreOutOfFoldInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ScoreOutOfFold`."""

    synthetic = File(exists=True, mandatory=True, desc='percent, 1 mm')
    sd = File(exists=True, desc='what the model states as its SD, percent, 1 mm')
    measured = File(exists=True, mandatory=True, desc='percent, 1 mm')
    mask = File(exists=True, mandatory=True, desc='where it was measured')
    t1w = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    flair = File(exists=True, mandatory=True, desc='normalised, 1 mm')
    tissue = File(exists=True, mandatory=True, desc='1 CSF, 2 grey, 3 white matter, 1 mm')
    lesions = File(exists=True, desc='1 mm')
    deep_gm = File(exists=True, desc='deep grey matter, 1 mm')
    pairs = File(exists=True, desc='lesions and NAWM, of `FindLesionPairs`')
    measured_source = traits.Str(mandatory=True, desc='BIDS URI')
    method = traits.Str(mandatory=True, desc='how the model was trained')
    fold = traits.Int(mandatory=True)
    n_splits = traits.Int(mandatory=True)
    meta = traits.Dict(mandatory=True, desc='sidecar, as `PSRMetadata` makes it')


class ScoreOutOfFoldOutputSpec(TraitedSpec):
    """Outputs of `ScoreOutOfFold`."""

    meta = traits.Dict(desc='sidecar of the out-of-fold map')


class ScoreOutOfFold(SimpleInterface):
    """Compare a map with the measured one its model never saw."""

    input_spec = ScoreOutOfFoldInputSpec
    output_spec = ScoreOutOfFoldOutputSpec

    def _run_interface(self, runtime):
        from demist_app.evaluation.metrics import score
        from demist_app.imaging.tissue import regions
        from demist_app.imaging.volumes import InputError
        from demist_app.interfaces.lesions import DIGITS, describe_pairs, load_pairs
        from demist_app.interfaces.metadata import NOT_MEASURED
        from demist_app.model.spread import draws_stated

        inputs = self.inputs
        synthetic, measured = _load(inputs.synthetic), _load(inputs.measured)
        if not np.isfinite(synthetic).all():
            raise InputError(
                f'the model of fold {inputs.fold} ({inputs.method}) gives no numbers: its training '
                'diverged; lower the learning rates of the preset and train it again'
            )
        mask = _load_mask(inputs.mask)
        scores = score(synthetic, measured, mask)
        lesions, deep_gm = (
            _load_mask(path) if isdefined(path) else None
            for path in (inputs.lesions, inputs.deep_gm)
        )
        tissue = nb.load(inputs.tissue)
        voxel_ml = float(abs(np.linalg.det(tissue.affine[:3, :3]))) / 1000
        found = {
            region: inside & mask
            for region, inside in regions(np.asarray(tissue.dataobj), lesions, deep_gm).items()
            if (inside & mask).any()
        }
        meta = inputs.meta | {
            'Description': 'PSR synthesised from T1w and FLAIR by a model (method '
            f'{inputs.method}) that was trained without this participant (fold {inputs.fold} of '
            f'{inputs.n_splits}). {NOT_MEASURED}',
            'Method': inputs.method,
            'Fold': inputs.fold,
            'Measured': inputs.measured_source,
            'Scores': {  # JSON has no NaN, which the correlation with a constant map is
                name.upper(): float(f'{value:.6g}') if np.isfinite(value) else None
                for name, value in scores.columns().items()
            },
            'Regions': {
                region: {
                    'Volume': round(float(inside.sum()) * voxel_ml, 3),
                    'Synthetic': round(float(synthetic[inside].mean(dtype=float)), DIGITS),
                    'Measured': round(float(measured[inside].mean(dtype=float)), DIGITS),
                }
                for region, inside in found.items()
            },
        }
        if isdefined(inputs.pairs):
            maps = {
                'Synthetic': synthetic,
                'Measured': measured,
                'FLAIR': _load(inputs.flair),
                'T1w': _load(inputs.t1w),
            }
            meta['LesionPairs'] = describe_pairs(load_pairs(inputs.pairs), maps, voxel_ml)
        if isdefined(inputs.sd):
            meta['Calibration'] = calibration(
                measured - synthetic,
                _load(inputs.sd),
                {'brain': mask} | found,
                draws_stated(meta),
            )
        self._results['meta'] = meta
        return runtime


def calibration(
    error: np.ndarray, sd: np.ndarray, regions: dict[str, np.ndarray], draws: int
) -> dict[str, Any]:
    """Say how errors compare with what the model states, so that scans can be pooled.

    Everything is a mean over voxels: means of scans and of participants follow from it.

    Parameters
    ----------
    error, sd : ndarray, shape (X, Y, Z)
        Measured − synthetic PSR and the stated SD of one voxel, percentage points.
    regions : dict of str to ndarray of bool, shape (X, Y, Z)
        None is empty; ``brain`` is among them.
    draws : int
        That the SD is of; 1 for a model that states the size of its errors.

    Returns
    -------
    dict
        ``Regions``: region to its voxels, mean error, mean square error, mean stated variance, and
        nominal to actual coverage. ``Draws``: as given. ``Tenths``: mean stated variance and mean
        square error of the tenths of the brain's voxels, from the smallest stated SD to the
        largest.
    """
    from demist_app.evaluation.calibration import coverage, spread_skill

    tenths = spread_skill(error[regions['brain']], sd[regions['brain']])
    return {
        'Draws': draws,
        'Regions': {
            region: {
                'Voxels': int(inside.sum()),
                'Error': _short(error[inside].mean(dtype=float)),
                'SquaredError': _short(np.mean(error[inside].astype(float) ** 2)),
                'Variance': _short(np.mean(sd[inside].astype(float) ** 2)),
                'Coverage': {
                    f'{level:g}': _short(share)
                    for level, share in coverage(error[inside], sd[inside], draws=draws).items()
                },
            }
            for region, inside in regions.items()
        },
        'Tenths': {
            'Variance': [_short(value) for value in tenths.spread**2],
            'SquaredError': [_short(value) for value in tenths.skill**2],
        },
    }


def _short(value: float) -> float:
    return float(f'{value:.5g}')


def _load(path: str) -> np.ndarray:
    return nb.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)


def _load_mask(path: str) -> np.ndarray:
    return np.asarray(nb.Nifti1Image.from_filename(path).dataobj) > 0
