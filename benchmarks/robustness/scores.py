"""From the maps that demist made of a cell to what the table needs of them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import SYNTHETIC
from lesions import on_grid
from robustness.phantoms import Unit

from demist_app.evaluation.lesions import means
from demist_app.evaluation.metrics import dice, score


def judge(out: Path, unit: Unit) -> dict[str, Any]:
    """Score the map of a unit inside its true brain, on the grid of the scan as it was.

    Returns
    -------
    dict
        JSON-able: scores, ``sd`` (mean of the SD), ``dice`` (of the brain mask), ``distance`` (of
        the intensities from the training scans), ``lesions_ml``, ``lesions`` and ``measured``:
        means of lesions and their NAWM, ``alarm``: whether demist says that the scans are unlike
        those of the training, null where the model cannot tell, ``model``: its checksum. Or
        ``failed``: why there is no map.
    """
    made = out / unit.below / f'{unit.name}{SYNTHETIC}'
    if not made.exists():
        return {'failed': reason(out, unit)}
    case, pairs, reference = unit.case, unit.pairs, unit.reference
    start = made.with_name(made.name.removesuffix(SYNTHETIC))
    psr = on_grid(made, reference)
    sd = on_grid(Path(f'{start}{SYNTHETIC.replace("synth", "synthsd")}'), reference)
    brain = on_grid(Path(f'{start}_desc-brain_mask.nii.gz'), reference, 0) > 0
    sidecar = json.loads(made.with_name(made.name.replace('.nii.gz', '.json')).read_text('utf-8'))
    found = score(psr, case.measured, case.mask)
    numbers = {
        'psnr': found.psnr,
        'ssim': found.ssim,
        'mae': found.mae,
        'mae_fit': np.abs(psr - case.fit)[case.mask].mean(dtype=float),
        'sd': sd[case.mask].mean(dtype=float),
        'dice': dice(brain, case.mask),
        'distance': max(sidecar['IntensityDistance'].values()),
        'lesions_ml': (case.labels > 0).sum() * np.prod(reference.header.get_zooms()[:3]) / 1000,
    }
    for name in ('white matter', 'grey matter'):
        numbers[f'bias, {name}'] = (psr - case.measured)[case.regions()[name]].mean(dtype=float)
    tables = {
        name: [[None if np.isnan(x) else round(x, 4) for x in row] for row in means(image, pairs)]
        for name, image in (('lesions', psr), ('measured', case.measured))
    }
    numbers = {name: round(float(value), 5) for name, value in numbers.items()}
    told = {'alarm': sidecar.get('OutlierAlarm'), 'model': sidecar['Model']['SHA256']}
    return numbers | tables | told


def reason(out: Path, unit: Unit) -> str:
    """Return what demist said of a unit that failed."""
    with max(out.glob('logs/*/status.tsv'), key=lambda path: path.stat().st_mtime).open() as file:
        rows = {row['unit']: row for row in csv.DictReader(file, delimiter='\t')}
    return f'{rows[unit.name]["step"]}: {rows[unit.name]["reason"]}'
