"""The output folder as design section 4 writes it, judged by the BIDS validator."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_layout.dataset import IGNORED, check_output, write_dataset_description, write_whole
from bids_layout.names import bids_uri, derivative_path, figure_path, report_path
from bids_layout.pairing import Unit, find_units
from bids_layout.query import QueryError, index

VALIDATOR = Path(sys.executable).with_name('bids-validator-deno')
TEMPLATE = 'MNI152NLin2009cAsym'


def make_unit(bids_dir: Path, participant: str, session: str | None) -> Unit:
    stem = f'sub-{participant}' + (f'_ses-{session}' if session else '')
    return Unit(
        participant=participant,
        session=session,
        t1w=bids_dir / f'{stem}_T1w.nii.gz',
        flair=bids_dir / f'{stem}_FLAIR.nii.gz',
    )


def save_image(path: Path, dtype: str, sidecar: dict[str, object] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ones((8, 8, 8), dtype), np.diag([1.0, 1.0, 1.0, 1.0]))
    image.header.set_xyzt_units('mm', 'sec')
    nib.save(image, path)
    if sidecar is not None:
        path.with_name(path.name.replace('.nii.gz', '.json')).write_text(json.dumps(sidecar))


def write_outputs(out_dir: Path, bids_dir: Path, units: list[Unit]) -> None:
    """Fill a folder with everything that design section 4 lists."""
    write_dataset_description(out_dir, bids_dir, {}, version='0.1.0')
    for unit in units:
        sources = [bids_uri(unit.t1w, bids_dir, {}), bids_uri(unit.flair, bids_dir, {})]
        on_t1w = {'Description': 'what it is', 'SpatialReference': sources[0], 'Sources': sources}
        t1w = {'Description': 'what it is', 'SkullStripped': False, 'Sources': sources[:1]}
        psr = on_t1w | {'SkullStripped': True, 'Units': 'percent'}
        psr_template = {k: v for k, v in psr.items() if k != 'SpatialReference'}

        def name(unit: Unit = unit, **entities: str) -> Path:
            return derivative_path(out_dir, unit, **entities)

        save_image(name(suffix='T1w', desc='preproc'), 'float32', t1w)
        save_image(
            name(suffix='FLAIR', desc='preproc', space='T1w'),
            'float32',
            on_t1w | {'SkullStripped': False},
        )
        save_image(name(suffix='mask', desc='brain'), 'uint8', on_t1w | {'Type': 'Brain'})
        save_image(
            name(suffix='mask', label='lesion', space='T1w'), 'uint8', on_t1w | {'Type': 'Lesion'}
        )
        save_image(name(suffix='dseg', space='T1w', desc='synth'), 'uint8', on_t1w)
        name(suffix='dseg', space='T1w', desc='synth', extension='.tsv').write_text(
            'index\tname\n1\tCSF\n2\tGM\n3\tWM\n'
        )
        for desc in ('synth', 'synthsd'):
            save_image(name(suffix='PSRmap', desc=desc, space='T1w'), 'float32', psr)
            template_map = name(suffix='PSRmap', desc=desc, space=TEMPLATE)
            save_image(template_map, 'float32', psr_template)
            finer_map = name(suffix='PSRmap', desc=desc, space=TEMPLATE, resolution='1')
            save_image(finer_map, 'float32', psr_template | {'Resolution': '1 mm isotropic'})
        for direction in (('FLAIR', 'T1w'), ('T1w', TEMPLATE), (TEMPLATE, 'T1w')):
            ends = dict(zip(('from', 'to'), direction, strict=True))
            for extension in ('.txt', '.x5', '.h5', '.json'):
                name(suffix='xfm', extension=extension, **ends).write_text('{}')
        name(suffix='psr', desc='synth').write_text('region\tmean\nWM\t11.5\n')
        name(suffix='psr', desc='synth', extension='.json').write_text(
            json.dumps({'mean': {'Description': 'Mean PSR', 'Units': 'percent'}})
        )
        for suffix, desc in (('T1w', 'contours'), ('PSRmap', 'synth'), ('psr', 'regions')):
            figure = figure_path(out_dir, unit, suffix=suffix, desc=desc)
            figure.parent.mkdir(exist_ok=True)
            figure.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        report_path(out_dir, unit).write_text('<!doctype html><title>demist</title>')
    run = out_dir / 'logs' / '20261121-104000_0f8e'
    run.mkdir(parents=True)
    for file in ('settings.json', 'demist.log', 'status.tsv', 'crash-t1w.txt'):
        (run / file).write_text('{}')
    for extension in ('md', 'bib', 'html'):
        (out_dir / 'logs' / f'CITATION.{extension}').write_text('demist')
    (out_dir / 'group_metrics.tsv').write_text('participant_id\tmean\nsub-01\t11.5\n')
    (out_dir / 'group.html').write_text('<!doctype html><title>demist</title>')
    (out_dir / 'models' / 'fold-1' / 'configs').mkdir(parents=True)
    (out_dir / 'models' / 'fold-1' / 'configs' / 'metadata.json').write_text('{}')


def validate(folder: Path, *options: str) -> tuple[int, dict[str, set[str]]]:
    """Run the validator; return its exit code and its issues, code → locations, by severity."""
    done = subprocess.run(
        [VALIDATOR, folder, '--format', 'json', *options], capture_output=True, text=True
    )
    issues = json.loads(done.stdout)['issues']['issues']
    found: dict[str, set[str]] = {}
    for issue in issues:
        key = f'{issue["severity"]}:{issue["code"]}:{issue.get("subCode", "")}'
        found.setdefault(key, set()).add(issue.get('location', ''))
    return done.returncode, found


@pytest.fixture(params=['out', 'bids/derivatives/demist'])
def outputs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    out_dir: Path = tmp_path / request.param
    units = [make_unit(tmp_path / 'bids', '01', 'A'), make_unit(tmp_path / 'bids', '02', None)]
    write_outputs(out_dir, tmp_path / 'bids', units)
    return out_dir


def test_validator_finds_no_error(outputs: Path) -> None:
    code, issues = validate(outputs)
    # The one warning asks for authors, and those of a user's maps are the user.
    assert issues == {'warning:TOO_FEW_AUTHORS:': {'/dataset_description.json'}}
    assert code == 0


@pytest.mark.parametrize('outputs', ['out'], indirect=True)
@pytest.mark.parametrize('line', IGNORED)
def test_every_ignored_pattern_is_needed(outputs: Path, line: str) -> None:
    lines = [other for other in IGNORED if other != line]
    (outputs / '.bidsignore').write_text('\n'.join(lines))
    code, issues = validate(outputs)
    assert code != 0
    assert any(issue.startswith('error') for issue in issues)


def test_no_file_that_was_written_aside_remains(outputs: Path) -> None:
    hidden = [path.name for path in outputs.rglob('.*')]
    assert hidden == ['.bidsignore']


@pytest.mark.parametrize('outputs', ['out'], indirect=True)
def test_outputs_serve_as_derivatives_but_not_as_measurements(
    outputs: Path, tmp_path: Path
) -> None:
    bids_dir = tmp_path / 'bids'
    for suffix in ('T1w', 'FLAIR'):
        path = bids_dir / f'sub-02/anat/sub-02_{suffix}.nii.gz'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (bids_dir / 'dataset_description.json').write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (unit,) = find_units(index(bids_dir, {'demist': outputs})).units
    assert unit.brain_mask == derivative_path(outputs, unit, suffix='mask', desc='brain')
    assert unit.brain_mask_reference == derivative_path(outputs, unit, suffix='T1w', desc='preproc')
    assert unit.lesion_mask is not None
    assert unit.dseg_lookup is not None
    assert unit.psr is None


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    def write() -> dict[str, tuple[int, bytes]]:
        container = {'Type': 'docker', 'Tag': 'demist:0.1.0'}
        write_dataset_description(tmp_path / 'out', tmp_path, {}, '0.1.0', container)
        return {
            path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (tmp_path / 'out').iterdir()
        }

    first = write()
    assert sorted(first) == ['.bidsignore', 'README.md', 'dataset_description.json']
    assert write() == first
    description = json.loads(first['dataset_description.json'][1])
    assert description['GeneratedBy'] == [
        {
            'Name': 'demist',
            'Version': '0.1.0',
            'Container': {'Type': 'docker', 'Tag': 'demist:0.1.0'},
        }
    ]


def test_lines_that_users_added_are_kept(tmp_path: Path) -> None:
    (tmp_path / '.bidsignore').write_text('mine\n*.html\n')
    write_dataset_description(tmp_path, tmp_path, {}, '0.1.0')
    lines = (tmp_path / '.bidsignore').read_text().splitlines()
    assert lines[:2] == ['mine', '*.html']
    assert sorted(lines[1:]) == sorted(IGNORED)


@pytest.mark.parametrize(
    ('content', 'owner'),
    [
        ('{"Name": "x", "DatasetType": "raw"}', 'another data set'),
        ('{"GeneratedBy": [{"Name": "fMRIPrep"}]}', 'fMRIPrep'),
        ('{"GeneratedBy": []}', 'another data set'),
        ('[', 'another data set'),
    ],
)
def test_output_of_others_is_left_alone(tmp_path: Path, content: str, owner: str) -> None:
    path = tmp_path / 'dataset_description.json'
    path.write_text(content)
    with pytest.raises(QueryError, match=f'belongs to {owner}: give an empty folder'):
        write_dataset_description(tmp_path, tmp_path, {}, '0.1.0')
    assert path.read_text() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / 'out').touch()
    with pytest.raises(QueryError, match='out is a file: give another path'):
        check_output(tmp_path / 'out')


def test_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, 'No space left on device')

    (tmp_path / 'file').write_text('old')
    monkeypatch.setattr(Path, 'replace', fail)
    with pytest.raises(OSError, match='No space'):
        write_whole(tmp_path / 'file', 'new')
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {'file': 'old'}
