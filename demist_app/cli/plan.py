"""The dry run: what would be done, what would be skipped and why, what it needs."""

import shutil
from pathlib import Path

from bids_layout.pairing import Pairing, Unit
from demist_app.model.bundle import Bundle
from demist_app.settings import Settings

# The larger of phantoms (1 mm, whole heads) and real scans, as measured (docs/benchmarks.md)
OUT_MB_PER_UNIT = 80
WORK_MB_PER_UNIT = 330
GB_PER_STEP = 1.2


def describe_plan(settings: Settings, pairing: Pairing, bundle: Bundle) -> str:
    """Say what a run would do; nothing is written to disk.

    Parameters
    ----------
    settings : Settings
    pairing : Pairing
        Units found and skipped.
    bundle : Bundle
        Verified model.
    """
    execution, n = settings.execution, len(pairing.units)
    lines = [f'{n} unit{"" if n == 1 else "s"} to process']
    for unit in pairing.units:
        lines += [f'  {unit.label}', *(f'    {line}' for line in _describe_unit(unit))]
    if pairing.skipped:
        lines.append(f'{len(pairing.skipped)} skipped')
        lines += [f'  {skip.label}: {skip.reason}' for skip in pairing.skipped]
    needs = {
        'results': f'{settings.inputs.out_dir}: about {_gb(n * OUT_MB_PER_UNIT)}, '
        f'{_free(settings.inputs.out_dir)} free',
        'intermediate': f'{execution.work_dir}: about {_gb(n * WORK_MB_PER_UNIT)}, '
        f'{_free(execution.work_dir)} free',
        'memory': f'{execution.memory_gb:.1f} GB allowed; up to {GB_PER_STEP:.1f} GB for each '
        'step that runs at a time',
        'processors': f'{execution.nprocs}, up to {execution.omp_nthreads} for one step',
        'model': f'{bundle.name} {bundle.metadata["version"]}, sha256 {bundle.sha256}',
    }
    return '\n'.join([*lines, 'needs', *(f'  {name:<13} {text}' for name, text in needs.items())])


def _describe_unit(unit: Unit) -> list[str]:
    found = {
        'T1w': unit.t1w,
        'FLAIR': unit.flair,
        'measured PSR': unit.psr,
        'brain mask': unit.brain_mask,
        'lesion mask': unit.lesion_mask,
        'segmentation': unit.dseg,
    }
    return [
        *(f'{what:<13} {path.name}' for what, path in found.items() if path),
        *(f'note: {note}' for note in unit.notes),
    ]


def _gb(megabytes: float) -> str:
    return f'{megabytes / 1000:.1f} GB'


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return _gb(shutil.disk_usage(folder).free / 1e6)
