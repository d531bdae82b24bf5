"""Phantom sessions on disk: a raw BIDS data set with two derivative data sets."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from demist_app.imaging.transforms import write_itk
from demist_app.imaging.volumes import save_volume
from demist_app.phantom.acquisition import Session
from demist_app.phantom.labels import BRAIN, Label
from demist_app.phantom.signals import SIR, Site

BIDS_VERSION = '1.10.0'
_PSR = (
    'Pool size ratio F = M0m / M0f in percent (the macromolecular pool fraction is F / (1 + F)), '
    'clipped to 0-25. Digital phantom, no person was measured. '
)
_KINDS = {
    'qmt': 'Fit to simulated selective inversion recovery volumes with noise: the "measured" map.',
    'retest': 'As the measured map, from a second simulated scan with its own pose and noise.',
    'fit': 'Fit to the noise-free volumes of the first scan: the best any measurement could be.',
    'truth': 'The PSR that was put in, mixed by tissue fraction; neither blurred nor fitted.',
}
_README = """\
Digital PSR phantom
===================

Simulated T1w and FLAIR heads with pool size ratio (PSR) maps, written by demist-phantom. No person
was scanned. The deep anatomy of every participant is one template (MNI152 2009a, Fonov et al. 2011)
under random smooth deformations, with cortical folds of its own: test software with it, and draw no
conclusion about people.

- sub-*/ses-*/anat: T1w (MPRAGE) and FLAIR of two sites, with skull, coil fields, noise and motion.
- derivatives/qmt: the "measured" PSR map in percent, fitted to simulated SIR-qMT volumes.
- derivatives/phantom: PSR truth, noise-free fit and retest; tissue labels, brain and lesion masks;
  the true transform from FLAIR to T1w.
"""


@dataclass(frozen=True)
class Participant:
    """A row of participants.tsv."""

    label: str
    age: int
    sex: str
    group: str
    site: str


def _json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as stream:
        writer = csv.writer(stream, delimiter='\t', lineterminator='\n')
        writer.writerow(header)
        writer.writerows(rows)


def write_dataset(out: Path, participants: Sequence[Participant], command: str) -> None:
    """Write what belongs to the data set as a whole.

    Parameters
    ----------
    out
        Root of the raw data set.
    participants
        Rows of participants.tsv.
    command
        How to generate the same data again, kept in `GeneratedBy`.
    """
    generator = {'Version': version('demist'), 'Description': command}
    _json(
        out / 'dataset_description.json',
        {
            'Name': 'Digital PSR phantom',
            'BIDSVersion': BIDS_VERSION,
            'DatasetType': 'raw',
            'License': 'CC0',
            'Authors': ['demist phantom generator'],
            'GeneratedBy': [{'Name': 'demist-phantom', **generator}],
        },
    )
    (out / 'README').write_text(_README)
    _table(
        out / 'participants.tsv',
        ('participant_id', 'age', 'sex', 'group', 'site'),
        [(f'sub-{p.label}', p.age, p.sex, p.group, p.site) for p in participants],
    )
    _json(
        out / 'participants.json',
        {
            'age': {'Description': 'Simulated age', 'Units': 'year'},
            'sex': {'Description': 'Simulated sex', 'Levels': {'F': 'female', 'M': 'male'}},
            'group': {
                'Description': 'Simulated diagnosis',
                'Levels': {'patient': 'multiple sclerosis', 'control': 'healthy'},
            },
            'site': {
                'Description': 'Simulated scanner',
                'Levels': {
                    'A': '3D FLAIR, even coil, high signal-to-noise ratio',
                    'B': '2D FLAIR, uneven coil, lower signal-to-noise ratio',
                },
            },
        },
    )
    for name, title in (('qmt', 'measured PSR maps'), ('phantom', 'truth behind the scans')):
        folder = out / 'derivatives' / name
        _json(
            folder / 'dataset_description.json',
            {
                'Name': f'Digital PSR phantom: {title}',
                'BIDSVersion': BIDS_VERSION,
                'DatasetType': 'derivative',
                'License': 'CC0',
                'Authors': ['demist phantom generator'],
                'GeneratedBy': [{'Name': name, **generator}],
                'SourceDatasets': [{'URL': '../..'}],
                'DatasetLinks': {'raw': '../..'},
            },
        )
        (folder / '.bidsignore').write_text('*_PSRmap.*\n*_xfm.*\n')
        (folder / 'README').write_text(_README)
    _table(
        out / 'derivatives' / 'phantom' / 'dseg.tsv',
        ('index', 'name'),
        [(int(label), label.name.lower().replace('_', ' ')) for label in Label],
    )


def write_years(out: Path, label: str, sessions: Sequence[str]) -> None:
    """Write sub-*_sessions.tsv: a year between sessions."""
    path = out / f'sub-{label}' / f'sub-{label}_sessions.tsv'
    _table(path, ('session_id', 'year'), [(f'ses-{s}', k) for k, s in enumerate(sessions)])
    _json(
        path.with_suffix('.json'),
        {'year': {'Description': 'Simulated time since the first session', 'Units': 'year'}},
    )


def _sequence(site: Site) -> dict[str, Any]:
    return {
        'Modality': 'MR',
        'MagneticFieldStrength': site.tesla,
        'Manufacturer': 'Digital phantom',
        'ManufacturersModelName': f'Site {site.name}',
        'InstitutionName': f'Simulated site {site.name}',
    }


def write_session(out: Path, label: str, session: str, site: Site, images: Session) -> None:
    """Write one session's raw images and derivatives.

    Parameters
    ----------
    out
        Root of the raw data set.
    label, session
        Participant and session labels without prefix.
    site
        The protocol behind the images.
    images
        What `scan_session` returned.
    """
    folder = Path(f'sub-{label}', f'ses-{session}', 'anat')
    stem = f'sub-{label}_ses-{session}'
    grid = images.t1w.affine

    raw = out / folder
    save_volume(np.round(images.t1w.data), grid, raw / f'{stem}_T1w.nii.gz')
    _json(
        raw / f'{stem}_T1w.json',
        _sequence(site)
        | {
            'PulseSequenceType': 'MPRAGE',
            'MRAcquisitionType': '3D',
            'RepetitionTimePreparation': site.mprage.repetition_time,
            'RepetitionTimeExcitation': site.mprage.echo_spacing,
            'InversionTime': site.mprage.inversion_time,
            'EchoTime': site.mprage.echo_time,
            'FlipAngle': site.mprage.flip_angle,
            'SliceThickness': float(grid[0, 0]),
        },
    )
    thickness = float(images.flair.affine[2, 2])
    save_volume(np.round(images.flair.data), images.flair.affine, raw / f'{stem}_FLAIR.nii.gz')
    _json(
        raw / f'{stem}_FLAIR.json',
        _sequence(site)
        | {
            'PulseSequenceType': 'inversion-recovery turbo spin echo',
            'MRAcquisitionType': '3D' if thickness == grid[0, 0] else '2D',
            'RepetitionTime': site.flair.repetition_time,
            'InversionTime': round(site.flair.inversion_time, 4),
            'EchoTime': site.flair.echo_time,
            'SliceThickness': thickness,
        },
    )

    reference = f'bids:raw:{(folder / f"{stem}_T1w.nii.gz").as_posix()}'
    space = {'Sources': [reference], 'SpatialReference': reference}
    fit = {
        'SIRInversionTimes': list(SIR.inversion_times),
        'SIRDelayTimes': list(SIR.delays),
        'FixedExchangeRate': SIR.k_mf,
        'FixedMacromolecularSaturation': SIR.macromolecular_saturation,
        'FixedMacromolecularR1': 'equal to the R1 of the free pool',
    }
    for desc, data in {
        'qmt': images.measured,
        'truth': images.truth,
        'fit': images.fit,
        'retest': images.retest,
    }.items():
        home = out / 'derivatives' / ('qmt' if desc == 'qmt' else 'phantom') / folder
        name = f'{stem}_space-T1w_desc-{desc}_PSRmap'
        save_volume(np.round(data, 3), grid, home / f'{name}.nii.gz')
        text = {'Description': _PSR + _KINDS[desc], 'Units': 'percent', 'SkullStripped': True}
        _json(home / f'{name}.json', text | space | ({} if desc == 'truth' else fit))

    home = out / 'derivatives' / 'phantom' / folder
    brain = np.isin(images.labels, [int(label) for label in BRAIN])
    for name, mask, kind, about in (
        ('desc-brain', brain, 'Brain', 'Brain with its sulcal fluid'),
        ('label-lesion', images.lesions, 'Lesion', 'Voxels that are mostly lesion'),
    ):
        save_volume(mask.astype(np.uint8), grid, home / f'{stem}_space-T1w_{name}_mask.nii.gz')
        _json(
            home / f'{stem}_space-T1w_{name}_mask.json',
            {'Type': kind, 'Description': about} | space,
        )
    save_volume(images.labels, grid, home / f'{stem}_space-T1w_dseg.nii.gz')
    _json(
        home / f'{stem}_space-T1w_dseg.json',
        {'Description': 'Tissue with the largest fraction', 'Manual': False} | space,
    )
    xfm = home / f'{stem}_from-FLAIR_to-T1w_mode-image_desc-truth_xfm'
    write_itk(images.t1w_to_flair, xfm.with_suffix('.txt'))
    _json(
        xfm.with_suffix('.json'),
        {'Description': 'True rigid transform: resamples the FLAIR onto the T1w (ITK, LPS)'},
    )
