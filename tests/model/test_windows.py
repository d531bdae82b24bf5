import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demist_app.model.presets import load_preset
from demist_app.model.windows import (
    Window,
    decoding_bytes,
    denoising_bytes,
    fuse,
    window_choices,
    windows,
)

extents = st.tuples(*[st.integers(1, 21)] * 3)
sizes = st.tuples(*[st.integers(1, 12)] * 3)
overlaps = st.floats(0, 0.75)


def latent(shape, channels=2, dtype=torch.float64):
    return torch.randn((1, channels, *shape), dtype=dtype)


@settings(deadline=None)
@given(extents, sizes, overlaps)
def test_windows_cover_the_volume_and_stay_inside(volume_shape, window_shape, overlap):
    count = torch.zeros(volume_shape)
    for window in windows(volume_shape, window_shape, overlap):
        assert window.size == tuple(map(min, window_shape, volume_shape))
        assert count[window.index()].shape == window.size
        count[window.index()] += 1
    assert count.min() >= 1


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 24), overlaps)
def test_neighbours_overlap_and_the_last_window_ends_at_the_edge(extent, size, overlap):
    boxes = windows((extent, 1, 1), (size, 1, 1), overlap)
    starts = [box.start[0] for box in boxes]
    size = min(size, extent)
    assert starts[0] == 0
    assert starts[-1] == extent - size
    for first, second in pairwise(starts):
        shared = first + size - second
        assert 0 <= shared < size
        assert shared >= overlap * size - 1e-9 or second == first + 1


def test_windows_by_hand():
    assert windows((10, 4, 3), (4, 4, 8), 0.5) == tuple(
        Window((start, 0, 0), (4, 4, 3)) for start in (0, 2, 4, 6)
    )


@settings(deadline=None)
@given(extents, sizes, overlaps, st.sampled_from([1, 2, 4]))
def test_weights_sum_to_one_everywhere(volume_shape, window_shape, overlap, factor):
    def one(window):
        return torch.ones(1, 1, *(factor * edge for edge in window.size))

    fused = fuse(one, volume_shape, window_shape, overlap, factor)
    assert fused.shape == (1, 1, *(factor * extent for extent in volume_shape))
    torch.testing.assert_close(fused, torch.ones_like(fused), rtol=0, atol=1e-6)


@settings(deadline=None)
@given(extents, sizes, overlaps)
def test_pointwise_function_is_that_of_the_whole(volume_shape, window_shape, overlap):
    values = latent(volume_shape)
    fused = fuse(
        lambda window: torch.tanh(values[window.index()]), volume_shape, window_shape, overlap
    )
    torch.testing.assert_close(fused, torch.tanh(values))


def test_upsampling_is_put_where_it_belongs():
    values = latent((9, 7, 5))

    def double(crop):
        return crop.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)

    fused = fuse(lambda window: double(values[window.index()]), (9, 7, 5), (4, 4, 4), 0.5, 2)
    torch.testing.assert_close(fused, double(values))


def test_one_window_is_the_prediction_to_the_bit():
    values = latent((5, 6, 7), dtype=torch.float32)
    fused = fuse(lambda window: values[window.index()], (5, 6, 7), (8, 8, 8), 0.5)
    assert torch.equal(fused, values)


def test_disagreement_of_windows_fades_without_a_step():
    """Two windows that predict 0 and 1 meet in a smooth ramp."""
    fused = fuse(
        lambda window: torch.full((1, 1, *window.size), float(window.start[0] > 0)),
        (36, 1, 1),
        (24, 1, 1),
        0.5,
    ).flatten()
    assert (fused[:12] == 0).all()
    assert (fused[24:] == 1).all()
    assert (fused.diff() >= 0).all()
    assert fused.diff().max() < 0.35
    torch.testing.assert_close(fused, 1 - fused.flip(0))


def test_weight_is_that_of_a_gaussian():
    """At the centre of the overlapped half, by hand: σ = 1, 1.5 and 2.5 voxels from the centres."""
    fused = fuse(
        lambda window: torch.full((1, 1, *window.size), float(window.start[0] > 0)),
        (12, 1, 1),
        (8, 1, 1),
        0.5,
    ).flatten()
    near, far = math.exp(-(1.5**2) / 2), math.exp(-(2.5**2) / 2)
    assert fused[5].item() == pytest.approx(far / (near + far), rel=1e-5)


def test_blending_half_precision_keeps_single():
    fused = fuse(
        lambda window: torch.ones(1, 1, *window.size, dtype=torch.bfloat16),
        (9, 9, 9),
        (4, 4, 4),
        0.5,
    )
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, torch.ones_like(fused))


def test_window_choices():
    volume = (48, 56, 44)
    assert window_choices(volume, 10, math.inf) == (
        (48, 56, 44),
        (48, 48, 44),
        (40, 40, 40),
        (32, 32, 32),
        (24, 24, 24),
        (16, 16, 16),
    )
    assert window_choices(volume, 10, 10 * 33**3)[0] == (32, 32, 32)
    assert window_choices(volume, 10, 0) == ((16, 16, 16),)
    assert window_choices((12, 8, 12), 10, 0) == ((12, 8, 12),)


MEASURE = """
import sys
from pathlib import Path
import torch
from demist_app.model.autoencoder import build_autoencoder
from demist_app.model.conditioned import Conditioned
from demist_app.model.denoiser import build_backbone
from demist_app.model.presets import load_preset

torch.set_num_threads(1)
preset = load_preset('tiny')
if sys.argv[1] == 'denoiser':
    network = Conditioned(build_backbone(preset.denoiser), preset.streams)

    def run(latent):
        conditioning = network.condition(latent, torch.zeros(1, 3))
        network(latent, torch.tensor([0]), conditioning)
else:
    run = build_autoencoder(preset.autoencoder, 1).decode


def resident(key):
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


with torch.inference_mode():
    run(torch.randn(1, 8, 8, 8, 8))
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # forget the highest so far
    run(torch.randn(1, 8, *map(int, sys.argv[2:])))
print(resident('VmHWM') - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(('network', 'shape'), [('denoiser', (36, 44, 36)), ('decoder', (24,) * 3)])
def test_predicted_memory_is_that_of_the_network(network, shape):
    preset = load_preset('tiny')
    per_voxel = {
        'denoiser': denoising_bytes(preset.denoiser, spatial=True),
        'decoder': decoding_bytes(preset.autoencoder),
    }
    measured = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', MEASURE, network, *map(str, shape)],
        env=os.environ | {'MALLOC_MMAP_THRESHOLD_': '65536'},  # what is freed is given back
        capture_output=True,
        check=True,
        text=True,
    )
    peak = int(measured.stdout.split()[-1])
    assert 0.7 < per_voxel[network] * math.prod(shape) / peak < 2


def test_larger_networks_take_more():
    tiny, small, paper = map(load_preset, ('tiny', 'small', 'paper'))
    for spatial in (False, True):
        sizes = [denoising_bytes(p.denoiser, spatial=spatial) for p in (tiny, small, paper)]
        assert sizes == sorted(set(sizes))
    assert denoising_bytes(tiny.denoiser, spatial=False) < denoising_bytes(
        tiny.denoiser, spatial=True
    )
    # 192 × 224 × 192 at the paper's size: some 14 GiB for the decoder, 2.6 for the denoiser
    volume = 48 * 56 * 48 / 2**30
    assert 14 < decoding_bytes(paper.autoencoder) * volume < 21
    assert 2.6 < denoising_bytes(paper.denoiser, spatial=True) * volume < 4
