import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boilerplate.distribution import plot_distribution

SVG = '{http://www.w3.org/2000/svg}'


def density(svg, number):
    """Points (x, height) of the density of one tissue; x from 0 to the length of the axis."""
    paths = [p.get('d') for p in ET.parse(svg).iter(f'{SVG}path') if 'L' in p.get('d')]
    points = np.array(re.findall(r'-?[\d.]+', paths[number]), float).reshape(-1, 2)
    return points[:, 0], -points[:, 1]


def test_density_peaks_where_the_values_lie(tmp_path):
    rng = np.random.default_rng(0)
    values = {'GM': rng.normal(4, 1, 20_000), 'WM': rng.normal(12, 1, 20_000)}
    svg = plot_distribution(values, tmp_path / 'out.svg', vmax=16)
    for number, centre in enumerate((4, 12)):
        x, height = density(svg, number)
        assert 16 * x[height.argmax()] / x.max() == pytest.approx(centre, abs=0.4)
        assert 16 * np.average(x, weights=height) / x.max() == pytest.approx(centre, abs=0.2)
        assert height.max() == pytest.approx(46, abs=0.1)


def test_says_median_and_quartiles(tmp_path):
    text = plot_distribution({'WM': np.linspace(8, 16, 101)}, tmp_path / 'out.svg').read_text()
    assert '>12.0</tspan>' in text
    assert '>10.0 – 14.0</tspan>' in text
    assert 'WM median 12.0' in text


def test_axis_grows_with_the_values(tmp_path):
    ticks = {}
    for name, top in {'small': 10, 'large': 23}.items():
        svg = plot_distribution({'WM': np.full(50, float(top))}, tmp_path / f'{name}.svg')
        ticks[name] = re.findall(r'text-anchor="middle">([\d.]+)<', svg.read_text())
    assert ticks['small'][-1] == '16'
    assert float(ticks['large'][-1]) >= 20


def test_tissues_without_voxels_are_left_out(tmp_path):
    values = {'WM': np.ones(9), 'Lesions': np.zeros(0)}
    assert 'Lesions' not in plot_distribution(values, tmp_path / 'out.svg').read_text()
    with pytest.raises(ValueError, match='no tissue has a voxel'):
        plot_distribution({'Lesions': np.zeros(0)}, tmp_path / 'none.svg')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-5, 100, width=32)), st.text())
def test_any_values_and_name_give_valid_svg(tmp_path, values, name):
    if any(ord(character) < 32 or ord(character) in (0xFFFE, 0xFFFF) for character in name):
        name = 'x'  # not allowed in XML at all
    svg = plot_distribution({name: values}, tmp_path / 'out.svg')
    assert 'nan' not in re.sub(r'<text.*?</text>|aria-label="[^"]*"', '', svg.read_text())
    texts = [''.join(t.itertext()) for t in ET.parse(svg).iter(f'{SVG}text')]
    assert name in texts
