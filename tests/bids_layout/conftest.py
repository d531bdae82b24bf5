"""Data sets made of empty files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

MakeDataset = Callable[..., Path]


def write_dataset(root: Path, *files: str, **description: object) -> Path:
    """Make empty files, and folders for names that end in a slash."""
    root.mkdir(parents=True, exist_ok=True)
    fields = {'Name': root.name, 'BIDSVersion': '1.10.0'} | description
    (root / 'dataset_description.json').write_text(json.dumps(fields))
    for name in files:
        if name.endswith('/'):
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


def scan(
    suffix: str, participant: str = '01', session: str | None = None, entities: str = ''
) -> str:
    """Name an image, for instance ``sub-01/ses-A/anat/sub-01_ses-A_run-1_T1w.nii.gz``."""
    folder = f'sub-{participant}/' + (f'ses-{session}/' if session else '') + 'anat/'
    parts = [f'sub-{participant}', f'ses-{session}' if session else '', entities, suffix]
    return folder + '_'.join(part for part in parts if part) + '.nii.gz'


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Make a data set below the temporary folder: ``make_dataset(name, *files, **description)``."""

    def make(name: str, *files: str, **description: object) -> Path:
        return write_dataset(tmp_path / name, *files, **description)

    return make
