"""What scanners, preprocessing and brain masks may do to a scan; nothing here changes its PSR."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

THICK_FLAIR = 0.6
THICK_T1W = 0.15
AXIAL = 0.7


def degrade(images: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Make one scan out of a clean pair of images, as preprocessing would leave it.

    Contrast (gamma), remaining bias field, slice thickness up to 5 mm, blur, noise, an imperfect
    brain mask and an imperfect 99.5th percentile.

    Parameters
    ----------
    images : Tensor, shape (2, X, Y, Z)
        T1w and FLAIR; the 99.5th percentile inside the brain is 1.
    mask : Tensor, shape (X, Y, Z)
        Brain.
    rng : Generator

    Returns
    -------
    Tensor, shape (2, X, Y, Z)
        In [0, 1], 0 outside the perturbed mask.
    """
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
    scans = []
    for image, thick in zip(images, (THICK_T1W, THICK_FLAIR), strict=True):
        scan = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.10)))
        scan = scan * torch.exp(_smooth(scan.shape, 60.0, rng.uniform(0, 0.05), noise))
        scan = _blur(scan, float(rng.uniform(0, 0.12)))
        axis = 2 if rng.random() < AXIAL else int(rng.integers(2))
        slices = scan.shape[axis]
        if rng.random() < thick:
            slices = max(2, round(slices / rng.uniform(1.5, 5.0)))
        scan = _resize(scan, axis, slices, 'area')
        sd = float(rng.uniform(0.002, 0.035))
        scan = torch.hypot(
            scan + sd * torch.randn(scan.shape, generator=noise),
            sd * torch.randn(scan.shape, generator=noise),
        )
        scan = _resize(scan, axis, image.shape[axis], 'linear')
        scans.append((scan * float(np.exp(rng.normal(0, 0.03)))).clamp(0, 1))
    return torch.stack(scans) * perturb(mask, rng, noise)


def perturb(mask: Tensor, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    """Move the border of a brain mask by up to about two voxels, differently in each place.

    Parameters
    ----------
    mask : Tensor, shape (X, Y, Z)
    rng : Generator
    noise : torch.Generator

    Returns
    -------
    Tensor, shape (X, Y, Z)
        0 or 1.
    """
    soft = functional.avg_pool3d(mask.float()[None, None], 5, stride=1, padding=2)[0, 0]
    # 0.3 < 1 - 0.7: no holes where the whole neighbourhood is brain
    wobble = _smooth(mask.shape, 10.0, rng.uniform(0.0, 0.25), noise).clamp(-0.29, 0.29)
    return (soft + wobble > float(rng.uniform(0.3, 0.7))).float() * (soft > 0)


def _smooth(
    shape: torch.Size | tuple[int, ...], length: float, sd: float, noise: torch.Generator
) -> Tensor:
    """Gaussian noise of about `length` voxels."""
    coarse = [max(2, round(n / length) + 1) for n in shape]
    field = sd * torch.randn((1, 1, *coarse), generator=noise)
    return functional.interpolate(field, tuple(shape), mode='trilinear', align_corners=True)[0, 0]


def _blur(scan: Tensor, side: float) -> Tensor:
    """Convolve with (side, 1 - 2 side, side) along every axis."""
    for axis in range(3):
        neighbours = torch.roll(scan, 1, axis) + torch.roll(scan, -1, axis)
        scan = (1 - 2 * side) * scan + side * neighbours
    return scan


def _resize(scan: Tensor, axis: int, size: int, mode: str) -> Tensor:
    """Resample one axis: mean over slabs ('area'), or linear interpolation."""
    if scan.shape[axis] == size:
        return scan
    rows = scan.movedim(axis, -1)
    flat = rows.reshape(-1, 1, rows.shape[-1])
    flat = functional.interpolate(flat, size, mode=mode)
    return flat.reshape(*rows.shape[:-1], size).movedim(-1, axis)
