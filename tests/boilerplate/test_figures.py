import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from boilerplate.figures import plot_alignment, plot_contours, plot_psr
from boilerplate.slices import PIXEL
from boilerplate.svg import nice_ticks, round_up

SVG = '{http://www.w3.org/2000/svg}'
RADIUS = 60.0
GRIDS = {
    'isotropic': ((1.5, 1.5, 1.5), 'RAS', 0),
    'axial 3 mm': ((0.72, 0.72, 3.0), 'LPS', 0),
    'sagittal 3 mm': ((3.0, 0.9, 0.9), 'RAS', 0),
    'oblique 3 mm': ((0.9, 0.9, 3.0), 'LAS', 20),
}


def ball(folder: Path, grid: str = 'isotropic') -> tuple[Path, Path]:
    """A ball of 60 mm (brain) in a shell (head), brighter at its left front, on a given grid."""
    zooms, orientation, angle = GRIDS[grid]
    shape = np.ceil(170 / np.asarray(zooms)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler('x', angle, degrees=True).as_matrix() @ np.diag(zooms)
    affine[:3, 3] = [12, -30, 8] - affine[:3, :3] @ ((shape - 1) / 2)
    voxels = np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3] - [12, -30, 8]
    distance = np.linalg.norm(voxels, axis=-1)
    inside = distance < RADIUS
    head = 0.3 * ((distance > 70) & (distance < 76))
    data = head + inside * (0.5 + 0.4 * ((voxels[..., 0] < -10) & (voxels[..., 1] > 10)))
    paths = folder / 'image.nii.gz', folder / 'mask.nii.gz'
    for path, values in zip(paths, (data.astype('f4'), inside.astype('u1')), strict=True):
        image = nib.Nifti1Image(values, affine)
        wanted = nib.orientations.axcodes2ornt(orientation)
        now = nib.io_orientation(affine)
        image.as_reoriented(nib.orientations.ornt_transform(now, wanted)).to_filename(path)
    return paths


def tiles(svg: Path) -> list[dict]:
    """Label, size in mm, rasters and outlines (bounding boxes in mm) of every tile."""
    found = []
    for group in ET.parse(svg).iter(f'{SVG}g'):
        if group.get('class') != 'dm-tile':
            continue
        images = {i.get('class'): i for i in group.iter(f'{SVG}image')}
        first = next(iter(images.values()))
        paths = {}
        for path in group.iter(f'{SVG}path'):
            numbers = np.array(re.findall(r'-?[\d.]+', path.get('d')), float).reshape(-1, 2)
            paths[path.get('class')] = numbers
        found.append(
            {
                'label': group.find(f'{SVG}text').text,
                'size': (float(first.get('width')), float(first.get('height'))),
                'uris': {name: image.get('href') for name, image in images.items()},
                'outlines': paths,
            }
        )
    return found


def pixels(uri: str) -> np.ndarray:
    assert uri.startswith('data:image/jpeg;base64,')
    raw = base64.b64decode(uri.partition(',')[2])
    return np.asarray(Image.open(io.BytesIO(raw)), dtype=float)


def check_self_contained(svg: Path, limit: int = 400_000) -> None:
    text = svg.read_text(encoding='utf-8')
    assert len(text) < limit
    assert 'http' not in text.replace('http://www.w3.org/2000/svg', '')
    assert '<script' not in text
    assert not re.search(r'(?:href|src)="(?!data:image/jpeg;base64,)', text)


@pytest.mark.parametrize('grid', GRIDS)
def test_contours_keep_proportions(tmp_path, grid):
    image, mask = ball(tmp_path, grid)
    svg = plot_contours(image, mask, tmp_path / 'out.svg')
    check_self_contained(svg)
    thickness = max(GRIDS[grid][0])
    shown = tiles(svg)
    assert len(shown) == 18
    for plane in range(3):
        widest = 0.0
        for tile in shown[6 * plane : 6 * plane + 6]:
            extent = np.ptp(tile['outlines']['dm-brain'], axis=0)
            assert extent[0] == pytest.approx(extent[1], abs=1.2 * thickness)
            widest = max(widest, extent.max())
            raster = pixels(tile['uris']['dm-image'])
            assert np.allclose(np.array(raster.shape[::-1]) * PIXEL, tile['size'], atol=PIXEL)
        # the cuts nearest to the centre lie 0.1 × 2 × 0.8 × RADIUS from it
        assert widest == pytest.approx(2 * np.sqrt(1 - 0.16**2) * RADIUS, abs=1.5 * thickness)


@pytest.mark.parametrize('grid', ['isotropic', 'axial 3 mm', 'sagittal 3 mm'])
def test_left_is_left_and_anterior_is_up(tmp_path, grid):
    shown = tiles(plot_contours(*ball(tmp_path, grid), tmp_path / 'out.svg'))
    axial = pixels(shown[2]['uris']['dm-image'])
    height, width = axial.shape
    half = axial[: height // 2], axial[height // 2 :]
    bright = half[0][:, : width // 2].mean()
    others = half[0][:, width // 2 :], half[1][:, : width // 2], half[1][:, width // 2 :]
    assert all(bright > 1.2 * other.mean() for other in others)


def test_labels_are_world_positions(tmp_path):
    shown = tiles(plot_contours(*ball(tmp_path, 'axial 3 mm'), tmp_path / 'out.svg'))
    z, y, x = (
        np.array([float(t['label'][2:].replace('−', '-')) for t in shown[6 * i : 6 * i + 6]])
        for i in range(3)
    )
    for positions, centre in ((z, 8), (y, -30), (x, 12)):
        assert positions.mean() == pytest.approx(centre, abs=1.6)
        assert np.ptp(positions) == pytest.approx(2 * RADIUS * 0.8, abs=4)


def test_storage_order_does_not_change_a_figure(tmp_path):
    image, mask = ball(tmp_path)
    plain = plot_contours(image, mask, tmp_path / 'plain.svg').read_text()
    for codes in ('LPI', 'SRA', 'ALS'):
        for path in (image, mask):
            stored = nib.load(path)
            stored = nib.Nifti1Image(np.asarray(stored.dataobj), stored.affine)
            change = nib.orientations.ornt_transform(
                nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(codes)
            )
            stored.as_reoriented(change).to_filename(path)
        assert plot_contours(image, mask, tmp_path / 'other.svg').read_text() == plain


def test_mask_may_have_another_grid(tmp_path):
    fine, coarse = tmp_path / 'fine', tmp_path / 'coarse'
    fine.mkdir()
    coarse.mkdir()
    image, _ = ball(fine)
    _, mask = ball(coarse, 'axial 3 mm')
    shown = tiles(plot_contours(image, mask, tmp_path / 'out.svg'))
    assert np.ptp(shown[2]['outlines']['dm-brain'], axis=0) == pytest.approx([118, 118], abs=4)


def test_lesions_get_their_own_outline(tmp_path):
    image, mask = ball(tmp_path)
    brain = nib.load(mask)
    lesion = np.zeros(brain.shape, 'u1')
    lesion[46:50, 65:69, 65:69] = 1  # 6 mm wide, between the cuts of an even spread
    nib.Nifti1Image(lesion, brain.affine).to_filename(tmp_path / 'lesion.nii.gz')
    svg = plot_contours(image, mask, tmp_path / 'out.svg', lesions=tmp_path / 'lesion.nii.gz')
    marked = [t['outlines']['dm-lesion'] for t in tiles(svg)]
    for plane in range(3):  # some cut of every plane meets it
        seen = [np.ptp(path, axis=0) for path in marked[6 * plane : 6 * plane + 6] if len(path)]
        assert len(seen) == 1
        assert np.allclose(seen[0], 6, atol=1)
    assert 'Lesions' in svg.read_text()
    assert 'Lesions' not in plot_contours(image, mask, tmp_path / 'plain.svg').read_text()


def test_alignment_shows_the_shift(tmp_path):
    image, mask = ball(tmp_path)
    moved = nib.load(image)
    affine = moved.affine.copy()
    affine[0, 3] += 10
    before = tmp_path / 'before.nii.gz'
    nib.Nifti1Image(np.asarray(moved.dataobj), affine).to_filename(before)
    svg = plot_alignment(image, before, image, mask, tmp_path / 'out.svg')
    check_self_contained(svg)
    shown = tiles(svg)
    assert len(shown) == 12
    for tile in shown[:8]:  # axial and coronal: the shift lies in the plane
        fixed, earlier, after = (
            pixels(tile['uris'][f'dm-{name}']) for name in ('fixed', 'before', 'after')
        )
        assert np.array_equal(fixed, after)
        shift = round(10 / PIXEL)
        assert abs(fixed - earlier).mean() > 5
        # the JPEG blocks differ, hence the margin
        assert abs(fixed[:, 30 : -30 - shift] - earlier[:, 30 + shift : -30]).mean() < 8


def psr_map(folder: Path, value: float) -> tuple[Path, Path]:
    _, mask = ball(folder, 'axial 3 mm')
    brain = nib.load(mask)
    path = folder / 'psr.nii.gz'
    data = (value * np.asarray(brain.dataobj)).astype('f4')
    nib.Nifti1Image(data, brain.affine).to_filename(path)
    return path, mask


def test_psr_has_the_colour_of_its_scale_up_to_the_rim(tmp_path):
    svg = plot_psr(*psr_map(tmp_path, 8.0), tmp_path / 'out.svg', vmax=16)
    check_self_contained(svg)
    shown = tiles(svg)
    assert len(shown) == 24
    expected = 255 * np.array(mpl.colormaps['viridis'](0.5)[:3])
    for tile in shown:
        rgb = pixels(tile['uris']['dm-map'])
        height, width, _ = rgb.shape
        assert np.allclose(rgb[height // 2, width // 2], expected, atol=12)
        assert np.allclose(rgb[0, 0], 255, atol=12)
        # every pixel lies between the one colour and white: no dark rim of interpolated
        # zeros, whose green would lie below 80
        assert rgb.min(axis=(0, 1)) == pytest.approx(expected, abs=45)


def test_psr_states_scale_unit_and_stamp(tmp_path):
    psr, mask = psr_map(tmp_path, 8.0)
    text = plot_psr(psr, mask, tmp_path / 'out.svg', vmax=16).read_text()
    assert 'PSR (%)' in text
    assert 'SYNTHETIC · NOT MEASURED' in text
    assert re.findall(r'text-anchor="(?:start|middle|end)">(≥ \d+|\d+)<', text) == [
        *(str(tick) for tick in range(0, 17, 2))
    ]
    assert '≥ 6' in plot_psr(psr, mask, tmp_path / 'low.svg', vmax=6).read_text()


def test_psr_scale_can_follow_the_data(tmp_path):
    svg = plot_psr(
        *psr_map(tmp_path, 1.7), tmp_path / 'sd.svg', vmax=None, label='SD', cmap='magma', stamp='X'
    )
    text = svg.read_text()
    assert 'SD from 0 to 2 on' in text
    assert '>X<' in text


def test_gradients_of_two_figures_do_not_clash(tmp_path):
    psr, mask = psr_map(tmp_path, 8.0)
    texts = [plot_psr(psr, mask, tmp_path / f'{n}.svg').read_text() for n in 'ab']
    ids = [re.search(r'<linearGradient id="([^"]+)"', text)[1] for text in texts]
    assert ids[0] != ids[1]
    assert all(f'url(#{one})' in text for one, text in zip(ids, texts, strict=True))


def test_title_cannot_inject(tmp_path):
    title = '</title><script>alert(1)</script>'
    svg = plot_contours(*ball(tmp_path), tmp_path / 'out.svg', title)
    check_self_contained(svg)
    assert ET.parse(svg).getroot().find(f'{SVG}title').text == title


def test_same_input_same_bytes(tmp_path):
    psr, mask = psr_map(tmp_path, 8.0)
    first = plot_psr(psr, mask, tmp_path / 'out.svg').read_bytes()
    assert plot_psr(psr, mask, tmp_path / 'out.svg').read_bytes() == first


def test_empty_mask_is_named(tmp_path):
    image, mask = ball(tmp_path)
    nothing = nib.load(mask)
    nib.Nifti1Image(np.zeros(nothing.shape, 'u1'), nothing.affine).to_filename(mask)
    with pytest.raises(ValueError, match='the mask is empty'):
        plot_contours(image, mask, tmp_path / 'out.svg')
    assert not (tmp_path / 'out.svg').exists()


def test_series_is_refused(tmp_path):
    _, mask = ball(tmp_path)
    series = tmp_path / 'series.nii.gz'
    nib.Nifti1Image(np.zeros((9, 9, 9, 2), 'f4'), np.eye(4)).to_filename(series)
    with pytest.raises(ValueError, match=r'series\.nii\.gz.* 4-D'):
        plot_psr(series, mask, tmp_path / 'out.svg')


def test_real_thick_slices(real_data, tmp_path):
    anat = real_data / 'openms/sub-long01/ses-01/anat'
    t1w, flair = (anat / f'sub-long01_ses-01_{suffix}.nii.gz' for suffix in ('T1w', 'FLAIR'))
    mask = next(real_data.glob('openms/derivatives/brainmasks/sub-long01/ses-01/**/*_mask.nii.gz'))
    contours = plot_contours(t1w, mask, tmp_path / 'contours.svg')
    check_self_contained(contours)
    check_self_contained(plot_alignment(t1w, flair, flair, mask, tmp_path / 'alignment.svg'))
    axial, coronal, sagittal = (
        max((np.ptp(t['outlines']['dm-brain'], axis=0) for t in shown), key=np.sum)
        for shown in np.array_split(np.array(tiles(contours), dtype=object), 3)
    )
    assert 120 < axial[0] < 160  # an adult brain: about 140 mm wide, 170 mm long, 117 mm covered
    assert 150 < axial[1] < 190
    assert coronal[0] == pytest.approx(axial[0], abs=15)
    assert sagittal[0] == pytest.approx(axial[1], abs=15)
    assert coronal[1] == pytest.approx(117, abs=10)
    assert sagittal[1] == pytest.approx(117, abs=10)


def test_real_psr(real_data, tmp_path):
    psr = nib.load(real_data / 'sir-psr/PSR.nii.gz')
    mask = np.asarray(nib.load(real_data / 'sir-psr/brain_mask.nii.gz').dataobj).astype('u1')
    nib.Nifti1Image(mask, psr.affine).to_filename(tmp_path / 'mask.nii.gz')
    svg = plot_psr(real_data / 'sir-psr/PSR.nii.gz', tmp_path / 'mask.nii.gz', tmp_path / 'psr.svg')
    check_self_contained(svg)


@given(st.floats(1e-3, 1e4))
def test_ticks_are_few_and_even(vmax):
    ticks = nice_ticks(vmax)
    assert ticks[0] == 0
    assert ticks[-1] <= vmax * (1 + 1e-6)
    assert vmax - ticks[-1] < ticks[1]
    assert 3 <= len(ticks) <= 9
    assert np.allclose(np.diff(ticks), ticks[1], rtol=1e-3)


@given(st.floats(1e-3, 1e6))
def test_rounding_up_is_close(value):
    assert value <= round_up(value) <= 2 * value * (1 + 1e-9)
