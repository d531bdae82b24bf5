import re

import nibabel as nb
import numpy as np
import pytest

from boilerplate.comparison import plot_comparison


@pytest.fixture
def maps(tmp_path):
    """A measured map, one that is 2 points higher, and a mask, on a grid of 2 mm."""
    mask = np.zeros((30, 36, 30), np.float32)
    mask[4:26, 4:32, 4:26] = 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    paths = []
    for name, data in (('measured', 10 * mask), ('synthetic', 12 * mask), ('mask', mask)):
        paths.append(tmp_path / f'{name}.nii')
        nb.save(nb.Nifti1Image(data, affine), paths[-1])
    return paths


def test_every_cut_is_shown_three_times(maps, tmp_path):
    svg = plot_comparison(*maps, tmp_path / 'sub-1.svg').read_text('utf-8')
    labels = re.findall(r'>((?:measured|synthetic|difference), [yz] [+−]\d+)<', svg)
    assert len(labels) == svg.count('<image') == 18
    assert [label.partition(',')[0] for label in labels[:3]] == [
        'measured', 'synthetic', 'difference',
    ]  # fmt: skip
    assert 'Synthetic − measured (percentage points)' in svg


def test_the_difference_is_coloured_by_its_sign(maps, tmp_path):
    measured, synthetic, mask = maps
    drawn = [
        re.findall(r'href="([^"]*)"', plot_comparison(*order, tmp_path / 'x.svg').read_text())
        for order in ((measured, synthetic, mask), (synthetic, measured, mask))
    ]
    assert drawn[0][0] == drawn[1][1]  # the maps changed places
    assert drawn[0][2] != drawn[1][2]


def test_figures_of_one_page_share_no_names(maps, tmp_path):
    names = [
        set(re.findall(r' id="([^"]*)"', plot_comparison(*maps, tmp_path / name).read_text()))
        for name in ('a.svg', 'b.svg')
    ]
    assert len(names[0]) == 2
    assert not names[0] & names[1]
