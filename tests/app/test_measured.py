"""Measured maps as people have them, brought to the grid of training."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine

from demist_app.imaging.conform import Grid, brain_grid, resample
from demist_app.imaging.transforms import write_itk
from demist_app.imaging.volumes import InputError, save_volume
from demist_app.interfaces.examples import MeasuredToGrid

UNIT = 'sub-01_ses-01'


@pytest.fixture
def inputs(phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    anat = phantom / 'derivatives/phantom/sub-01/ses-01/anat'
    mask = nb.load(anat / f'{UNIT}_space-T1w_desc-brain_mask.nii.gz')
    grid = brain_grid(mask)
    on_grid = resample(mask, grid, interpolation='label')
    save_volume(np.asarray(on_grid.dataobj), grid.affine, tmp_path / 'grid_mask.nii')
    write_itk(np.eye(4), tmp_path / 'flair.txt')
    return {
        't1w': str(phantom / 'sub-01/ses-01/anat' / f'{UNIT}_T1w.nii.gz'),
        'mask': str(anat / f'{UNIT}_space-T1w_desc-brain_mask.nii.gz'),
        'grid_mask': str(tmp_path / 'grid_mask.nii'),
        'itk': str(tmp_path / 'flair.txt'),
    }


@pytest.fixture
def measured(phantom):
    return nb.load(
        phantom / f'derivatives/qmt/sub-01/ses-01/anat/{UNIT}_space-T1w_desc-qmt_PSRmap.nii.gz'
    )


def to_grid(inputs, tmp_path, data, affine, space='T1w'):
    save_volume(data.astype(np.float32), affine, tmp_path / 'psr.nii')
    outputs = MeasuredToGrid(psr=str(tmp_path / 'psr.nii'), space=space, **inputs).run().outputs
    mask = np.asarray(nb.load(outputs.mask).dataobj) > 0
    return nb.load(outputs.psr).get_fdata(), mask, outputs.warnings


def test_a_map_on_the_t1w_is_resampled(inputs, measured, tmp_path):
    psr, mask, warnings = to_grid(inputs, tmp_path, measured.get_fdata(), measured.affine)
    brain = nb.load(inputs['grid_mask'])
    expected = resample(measured, Grid.of(brain)).get_fdata()
    assert warnings == []
    assert np.array_equal(mask, np.asarray(brain.dataobj) > 0)
    np.testing.assert_allclose(psr[mask], expected[mask], atol=1e-3)
    assert not psr[~mask].any()


def test_a_fraction_becomes_percent_and_says_so(inputs, measured, tmp_path):
    percent, mask, _ = to_grid(inputs, tmp_path, measured.get_fdata(), measured.affine)
    psr, _, warnings = to_grid(inputs, tmp_path, measured.get_fdata() / 100, measured.affine)
    np.testing.assert_allclose(psr[mask], percent[mask], atol=1e-3)
    assert len(warnings) == 1
    assert 'multiplied by 100' in warnings[0]


def test_what_a_fit_finds_beyond_25_percent_is_cut(inputs, measured, tmp_path):
    data = measured.get_fdata()
    data[data > 12] = 400
    data[:2] = -5
    psr, _, _ = to_grid(inputs, tmp_path, data, measured.affine)
    assert psr.max() == 25
    assert psr.min() == 0


def test_only_the_part_of_the_brain_that_was_measured_is_used(inputs, measured, tmp_path):
    half = round(0.65 * measured.shape[2])
    data, affine = measured.get_fdata()[:, :, half:], measured.affine.copy()
    affine[:3, 3] = apply_affine(affine, [0, 0, half])
    psr, mask, warnings = to_grid(inputs, tmp_path, data, affine)
    brain = np.asarray(nb.load(inputs['grid_mask']).dataobj) > 0
    assert 0.2 < mask.sum() / brain.sum() < 0.9
    assert (psr[mask] > 0).mean() > 0.9
    assert 'only that part was used' in warnings[0]


def test_a_map_with_coordinates_of_its_own_is_registered(inputs, measured, tmp_path):
    expected, mask, _ = to_grid(inputs, tmp_path, measured.get_fdata(), measured.affine)
    turn = nb.affines.from_matvec(nb.eulerangles.euler2mat(0.08, -0.05, 0.06), [6, -4, 8])
    moved = turn @ measured.affine
    blind, _, _ = to_grid(inputs, tmp_path, measured.get_fdata(), moved)
    found, _, _ = to_grid(inputs, tmp_path, measured.get_fdata(), moved, space='own')
    error = np.abs(found - expected)[mask].mean()
    assert error < 0.4
    assert error < 0.25 * np.abs(blind - expected)[mask].mean()


def test_a_map_without_a_value_is_refused_by_its_name(inputs, measured, tmp_path):
    data = -np.ones(measured.shape)
    data[0, 0, 0] = 0
    with pytest.raises(InputError, match='the measured PSR map has no value above 0'):
        to_grid(inputs, tmp_path, data, measured.affine)
