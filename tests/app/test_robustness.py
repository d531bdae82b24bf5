"""The damage of ``benchmarks/robustness``, its scores, its tables, and who learns from whom."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Image
from scipy.stats import ttest_1samp

from demist_app.evaluation.metrics import score
from demist_app.phantom.cohort import Cohort

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
SHAPE = 24, 24, 30
RNG = np.random.default_rng


@pytest.fixture(scope='module')
def robustness():
    """The modules, which are no installed package."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ('cells', 'damage', 'phantoms', 'scores', 'show', 'sites')
    yield {name: importlib.import_module(f'robustness.{name}') for name in names}
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope='module')
def raw(robustness):
    """Make a scan: a block of 100 in nothing, or any other values."""

    def make(data=None, snr=np.inf):
        white = np.zeros(SHAPE, bool)
        white[6:18, 6:18, 8:22] = True
        data = np.where(white, 100, 0).astype(np.float32) if data is None else data
        image = Nifti1Image(data, np.diag([1.0, 1.0, 1.5, 1.0]))
        return robustness['damage'].Raw(image, white, white, snr)

    return make


@settings(max_examples=30, deadline=None)
@given(mm=st.sampled_from([1.0, 3.0, 6.0]) | st.floats(1.0, 12.0))
def test_thick_slices_are_means_and_stay_in_place(robustness, raw, mm):
    """A value that is its height in the world still is, whatever was averaged."""
    height = np.broadcast_to(np.arange(SHAPE[2], dtype=np.float32) * 1.5, SHAPE)
    thick = robustness['damage'].slices(raw(height), RNG(0), mm=mm)
    assert thick.header.get_zooms()[2] == pytest.approx(max(mm, 1.5))
    heights = thick.affine[2, 3] + thick.affine[2, 2] * np.arange(thick.shape[2])
    # slices that were cut through are means of steps, not of a ramp; whole ones are exact
    cut = 0 if mm in (3.0, 6.0) else 1.5**2 / (8 * max(mm, 1.5))
    np.testing.assert_allclose(thick.get_fdata()[0, 0], heights, atol=cut + 1e-3)
    assert SHAPE[2] * 1.5 - thick.shape[2] * thick.affine[2, 2] < max(mm, 1.5)


@pytest.mark.parametrize('snr', [20, 5])
def test_noise_reaches_the_snr_asked_for(robustness, raw, snr):
    scan = raw(snr=50.0)
    own = RNG(1).normal(0, 100 / 50, SHAPE).astype(np.float32)  # what it has already
    noisy = robustness['damage'].noise(raw(np.abs(scan.data + own), 50.0), RNG(0), snr=snr)
    values = noisy.get_fdata()
    assert values[scan.white].std() == pytest.approx(100 / snr, rel=0.06)
    assert values[~scan.white].min() >= 0
    same = robustness['damage'].noise(scan, RNG(0), snr=60)
    np.testing.assert_array_equal(same.get_fdata(), scan.data)


def test_a_coil_field_is_smooth_and_as_strong_as_asked(robustness, raw):
    scan = raw(np.full(SHAPE, 100, np.float32))
    field = np.log(robustness['damage'].coil(scan, RNG(0), factor=np.exp(0.5)).get_fdata() / 100)
    assert 0.02 < np.abs(field).max() <= 0.5
    assert max(np.abs(np.diff(field, axis=k)).max() for k in range(3)) < 0.03


def test_motion_blurs_and_leaves_the_head_in_place(robustness, raw):
    scan = raw()
    still, little, much = (
        robustness['damage'].motion(scan, RNG(3), extent=extent).get_fdata() for extent in (0, 1, 4)
    )
    np.testing.assert_allclose(still, scan.data, atol=1e-3)
    errors = [np.sqrt(np.mean((moved - scan.data) ** 2)) for moved in (little, much)]
    assert 0.5 < errors[0] < errors[1]
    centres = [np.argwhere(moved > 50).mean(axis=0) for moved in (scan.data, much)]
    assert np.abs(centres[0] - centres[1]).max() < 1


@pytest.fixture(scope='module')
def unit(robustness, phantom):
    return robustness['phantoms'].Unit(phantom, '02', 52.0)


@pytest.mark.slow
def test_spoilt_scans_are_a_data_set_that_is_not_made_twice(robustness, unit, tmp_path):
    cells = {cell.name: cell for cell in robustness['cells'].CELLS}
    spoil = robustness['phantoms'].spoil
    spoil(tmp_path, unit, cells['skull-removed-before'])
    assert (tmp_path / 'dataset_description.json').exists()
    paths = [tmp_path / unit.below / f'{unit.name}_{kind}.nii.gz' for kind in ('T1w', 'FLAIR')]
    for path, kind in zip(paths, ('T1w', 'FLAIR'), strict=True):
        raw, kept = unit.raw(kind), nb.load(path).get_fdata() > 0
        assert not kept[~raw.brain].any()
        assert kept[raw.white].mean() > 0.99
        # labels that lie beside the scan would hold grey matter and fluid as well
        varies = [raw.data[w].std() / raw.data[w].mean() for w in (raw.white, raw.brain)]
        assert varies[0] < 0.5 * varies[1]
    before = [path.stat().st_mtime_ns for path in paths]
    spoil(tmp_path, unit, cells['skull-removed-before'])
    assert [path.stat().st_mtime_ns for path in paths] == before
    with_thick = tmp_path / 'thick'
    spoil(with_thick, unit, cells['flair-slices-5'])
    original = (unit.bids / unit.below / paths[0].name).read_bytes()
    assert (with_thick / unit.below / paths[0].name).read_bytes() == original


@pytest.mark.slow
def test_a_map_is_scored_on_the_grid_of_the_scan_as_it_was(robustness, unit, tmp_path):
    """The noise-free map, given on slices of half the thickness, scores as it does by itself."""
    case, image = unit.case, unit.reference
    home = tmp_path / unit.below
    home.mkdir(parents=True)
    affine = image.affine @ np.diag([1, 1, 0.5, 1])
    affine[:3, 3] -= image.affine[:3, 2] / 4
    endings = {
        '_space-T1w_desc-synth_PSRmap': case.fit,
        '_space-T1w_desc-synthsd_PSRmap': np.ones_like(case.fit),
        '_desc-brain_mask': case.mask.astype(np.float32),
    }
    for ending, data in endings.items():
        finer = Nifti1Image(np.repeat(data, 2, axis=2), affine)
        nb.save(finer, home / f'{unit.name}{ending}.nii.gz')
    sidecar = {'IntensityDistance': {'T1w': 1.0, 'FLAIR': 2.5}, 'OutlierAlarm': True}
    sidecar['Model'] = {'SHA256': 'aa'}
    (home / f'{unit.name}_space-T1w_desc-synth_PSRmap.json').write_text(json.dumps(sidecar))
    found = robustness['scores'].judge(tmp_path, unit)
    expected = score(case.fit, case.measured, case.mask)
    assert found['psnr'] == pytest.approx(expected.psnr, abs=0.01)
    assert found['mae_fit'] == pytest.approx(0, abs=1e-3)
    assert (found['distance'], found['sd'], found['dice'], found['alarm']) == (2.5, 1, 1, True)
    assert found['model'] == 'aa'
    assert 0.1 < found['lesions_ml'] < 30
    assert len(found['lesions']) == len(found['measured']) > 3
    lesions, measured = (np.array(found[k], float)[:, 0] for k in ('lesions', 'measured'))
    assert np.corrcoef(lesions, measured)[0, 1] > 0.9


def test_a_unit_without_a_map_is_told_of(robustness, tmp_path):
    logs = tmp_path / 'logs' / 'run'
    logs.mkdir(parents=True)
    row = 'sub-02_ses-01\tfailed\t3.0\tbrain_mask\tno brain'
    (logs / 'status.tsv').write_text(f'unit\tstatus\tseconds\tstep\treason\n{row}\n')
    unit = robustness['phantoms'].Unit(tmp_path / 'bids', '02', 52.0)
    assert robustness['scores'].judge(tmp_path, unit) == {'failed': 'brain_mask: no brain'}


@pytest.mark.parametrize('people', [4, 12])
def test_whoever_is_tested_was_not_learned_from(robustness, people):
    sites, cohort = robustness['sites'], Cohort(people, seed=13)
    for split in sites.FOLDERS:
        folds = {1: [], 2: []}
        for number, row in enumerate(sites.splits(cohort, split).assignments, start=1):
            assert row.unit.startswith(row.participant)
            folds[row.fold].append(cohort.describe(number).site)
        assert len(folds[1]) == len(folds[2]) == people // 2
        kinds = {frozenset(found) for found in folds.values()}
        mixed = {frozenset('AB')}
        assert kinds == (mixed if split == sites.WITHIN else {frozenset('A'), frozenset('B')})


@pytest.mark.slow
def test_tables_and_figure_show_what_is_done(tmp_path):
    lesions = [[6.0, 10.0, 11.0], [7.0, 12.0, None], [10.5, 10.0, 12.0]]
    done = {'psnr': 20.0, 'ssim': 0.8, 'mae': 0.9, 'mae_fit': 0.8, 'bias, white matter': -0.1,
            'bias, grey matter': 0.2, 'sd': 0.5, 'distance': 1.5, 'dice': 0.97,
            'lesions': lesions, 'measured': lesions, 'alarm': None, 'lesions_ml': 4.2}  # fmt: skip
    results = {
        'none-as-they-are/sub-01_ses-01': done,
        'none-as-they-are/sub-02_ses-01': done | {'psnr': 22.0},
        'noise-8/sub-01_ses-01': done | {'psnr': 15.0, 'alarm': True},
        'noise-8/sub-02_ses-01': {'failed': 'brain_mask: no brain'},
    }
    for name, content in results.items():
        path = tmp_path / 'cells' / f'{name}_desc-small.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for name, psnr, step in (('within', 20.0, 1), ('across', 17.5, 0.5)):
        rows = [f'linear\tsub-0{n}\tses-1\t{psnr + step * n}\t0.8\t1.0' for n in (1, 2)]
        path = tmp_path / 'sites' / name / 'group_scores.tsv'
        path.parent.mkdir(parents=True)
        path.write_text(
            '\n'.join(['method\tparticipant_id\tsession_id\tpsnr\tssim\tmae', *rows]) + '\n'
        )
    (tmp_path / 'sites' / 'bids').mkdir()
    people = 'participant_id\tsite\nsub-01\tA\nsub-02\tB\n'
    (tmp_path / 'sites' / 'bids' / 'participants.tsv').write_text(people)
    subprocess.run(
        [sys.executable, '-m', 'robustness', tmp_path, '--tables'], cwd=BENCHMARKS, check=True
    )
    page = (tmp_path / 'robustness.md').read_text('utf-8')
    lines = [line.strip('| ').split(' | ') for line in page.splitlines()]
    (good,) = [row for row in lines if row[:3] == ['–', 'as they are', 'small']]
    assert good[3] == '21.00 (20.00, 22.00)'
    # of 3 x 5 comparisons the last lesion loses those with 10.0, twice
    assert good[9:11] == ['0.867', '1.00']
    assert good[-2:] == ['–', '2 of 2']
    (bad,) = [row for row in lines if row[1:3] == ['8', 'small']]
    assert (bad[3], *bad[-2:]) == ('15.00 (15.00)', '1 of 1', '1 of 2')
    assert '- noise-8, small: brain_mask: no brain' in page
    assert [row for row in lines if row[:4] == ['Linear', 'B', '22.00', '18.50']]
    assert 'Trained on the other site minus both sites: mean over participants' in page
    assert 'paired t-test and Wilcoxon, each Holm-adjusted' in page
    (row,) = [row for row in lines if row[:2] == ['Linear', 'PSNR (dB)']]
    assert row[2:4] == ['-3.25 (-3.50 to -3.00)', '2 of 2']
    assert float(row[4]) == pytest.approx(ttest_1samp([-3.0, -3.5], 0).pvalue, abs=0.005)
    text = (tmp_path / 'robustness.svg').read_text('utf-8')
    assert '>SNR of white matter' in text
    assert '>Linear' in text
