import numpy as np
import pytest
import torch

from demist_app.phantom.fields import Field, exponential, gaussian_noise, upsample


def grid(n: int, spacing: float = 1.0, origin: float = 0.0) -> np.ndarray:
    axis = origin + spacing * np.arange(n, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing='ij'))


def test_sampling_is_exact_for_linear_functions_and_clamps_outside():
    xyz = grid(9, 2.0, -5.0)
    values = (3 * xyz[0] - 2 * xyz[1] + xyz[2])[None]
    field = Field(torch.from_numpy(values), (-5.0, -5.0, -5.0), 2.0)
    points = np.random.default_rng(0).uniform(-5, 11, (3, 4, 5, 6)).astype(np.float32)
    expected = 3 * points[0] - 2 * points[1] + points[2]
    np.testing.assert_allclose(field.at(points)[0], expected, atol=1e-4)
    far = np.full((3, 1, 1, 1), 99, np.float32)
    assert field.at(far)[0, 0, 0, 0] == pytest.approx(values.flat[-1])


def test_upsample_keeps_corners_and_planes():
    plane = np.linspace(0, 10, 6, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), np.float32)
    bigger = upsample(plane, (11, 7, 4))
    np.testing.assert_allclose(bigger[:, 0, 0], np.linspace(0, 10, 11), atol=1e-5)


@pytest.mark.parametrize('correlation', [4.0, 8.0])
def test_noise_has_unit_variance_and_the_asked_correlation(correlation):
    noise = gaussian_noise(np.random.default_rng(1), (96, 96, 96), correlation, 2.0)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    lag = int(correlation / 2.0)
    similar = np.mean(noise[lag:] * noise[:-lag])
    assert similar == pytest.approx(np.exp(-0.5), abs=0.03)


def test_exponential_of_the_negative_velocity_is_the_inverse():
    velocity = 3 * gaussian_noise(np.random.default_rng(2), (3, 30, 30, 30), 25.0, 5.0)
    origin = (0.0, 0.0, 0.0)
    there = exponential(Field(torch.from_numpy(velocity), origin, 5.0), 7)
    back = exponential(Field(torch.from_numpy(-velocity), origin, 5.0), 7)
    points = grid(10, 5.0, 50.0)
    moved = points + there.at(points)
    assert np.abs(moved - points).max() > 3
    np.testing.assert_allclose(moved + back.at(moved), points, atol=0.35)
