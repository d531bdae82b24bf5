"""Brain extraction: a small 3D UNet that was trained on synthetic heads of random contrast.

The idea is that of SynthStrip (Hoopes et al. 2022, NeuroImage 260:119474): the network predicts
the signed distance to the brain's surface, and has learned it from label maps painted with random
intensities, so that it assumes no contrast. Ours works on a 2 mm grid, and its heads come from
`demist_app.phantom`; `demist_app.training.brain_extraction` trained it.

"Brain" is parenchyma, ventricles and the cerebrospinal fluid inside the hull of the sulci.
"""

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from demist_app.imaging.volumes import InputError
from demist_app.memory import reusing_freed
from demist_app.threads import torch_threads

SPACING = 2.0
"""Grid spacing of the network, mm."""
MULTIPLE = 16
"""Grid sizes of the network are multiples of this."""
SMALLEST = 64
"""Smallest grid size at which the bottom of the network still has something to normalise."""
DISTANCE_SCALE = 5.0
"""Distance in mm to which an output of 1 corresponds."""
VOLUME_RANGE = (900.0, 1900.0)
"""Plausible volume of an adult's brain with its ventricles and sulci, ml."""


class BrainNet(nn.Module):
    """UNet from an image to the signed distance to the brain's surface.

    2×2×2 voxels are folded into channels first and unfolded last, so that all convolutions run
    at 4 mm while the surface keeps its 2 mm.
    """

    def __init__(self, features: tuple[int, ...]) -> None:
        super().__init__()
        self.unet = BasicUNet(3, in_channels=8, out_channels=8, features=features)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image in [0, 1] (batch, 1, x, y, z) to distances in units of 5 mm."""
        folded = self.unet(pixelunshuffle(image, spatial_dims=3, scale_factor=2))
        return pixelshuffle(folded, spatial_dims=3, scale_factor=2)


@cache
def load_network(bundle: Path | None = None) -> BrainNet:
    """Return the trained network.

    Parameters
    ----------
    bundle : Path, optional
        Folder of a bundle; the shipped one by default.

    Raises
    ------
    ValueError
        If the weights are not those that the bundle's metadata name.
    """
    bundle = bundle or Path(str(resources.files('demist_app'))) / 'data' / 'brainmask'
    metadata = json.loads((bundle / 'configs' / 'metadata.json').read_text(encoding='utf-8'))
    weights = bundle / 'models' / 'model.safetensors'
    expected = metadata['sha256']['models/model.safetensors']
    if hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        raise ValueError(f'{weights} was changed or cut short: install demist anew')
    network = BrainNet(tuple(metadata['features']))
    network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return network.eval()


def scale_intensity(image: Tensor) -> Tensor:
    """Map zero to the 99.5th percentile of the positive voxels onto [0, 1], and clip.

    The percentile is taken over every voxel above zero, so that padding does not count.
    """
    positive = image[image > 0]
    rank = max(1, round(0.995 * positive.numel()))
    return (image / positive.kthvalue(rank).values).clamp(0, 1)


def to_network_grid(data: NDArray[np.float32], zooms: tuple[float, ...]) -> Tensor:
    """Resample a RAS-oriented volume of voxel size `zooms` (mm) to the network's 2 mm grid.

    The grid spans the same box, hence its spacing is 2 mm but for rounding. Axes that get coarser
    are smoothed first.

    Returns
    -------
    Tensor
        Shape (1, 1, x, y, z).
    """
    sigma = [0.5 * np.sqrt(max((SPACING / zoom) ** 2 - 1, 0)) for zoom in zooms]
    size = [max(1, round(n * zoom / SPACING)) for n, zoom in zip(data.shape, zooms, strict=True)]
    smooth = ndimage.gaussian_filter(data, sigma, mode='nearest')
    return functional.interpolate(torch.from_numpy(smooth)[None, None], size, mode='trilinear')


def pad_for_network(image: Tensor) -> Tensor:
    """Append zeros so that the last three axes are multiples of 16, and at least 64."""
    pads = [max(n + (-n) % MULTIPLE, SMALLEST) - n for n in reversed(image.shape[-3:])]
    return functional.pad(image, [value for pad in pads for value in (0, pad)])


@torch.inference_mode()
def brain_distance(network: nn.Module, image: Tensor) -> Tensor:
    """Predict the signed distance to the brain's surface (mm, negative inside).

    The mean over the image and its mirror image.

    Parameters
    ----------
    network : nn.Module
    image : Tensor
        On the network's grid, RAS, any intensity scale, shape (1, 1, x, y, z).
    """
    x, y, z = image.shape[-3:]
    padded = pad_for_network(scale_intensity(image))
    mirrored = network(padded.flip(2)).flip(2)
    distance: Tensor = (network(padded) + mirrored) * (DISTANCE_SCALE / 2)
    return distance[..., :x, :y, :z]


def extract_brain(
    image: nib.Nifti1Image, threads: int, network: nn.Module | None = None
) -> nib.Nifti1Image:
    """Segment the brain in a head scan of any contrast.

    Parameters
    ----------
    image : Nifti1Image
        3D, finite; any orientation and voxel size.
    threads : int
        CPU threads to use.
    network : nn.Module, optional
        The shipped one by default.

    Returns
    -------
    Nifti1Image
        uint8 mask on the image's own grid: one piece without holes.

    Raises
    ------
    InputError
        If no brain is found.
    """
    orientation = io_orientation(image.affine)
    data = apply_orientation(np.asanyarray(image.dataobj, dtype=np.float32), orientation)
    zooms = nib.affines.voxel_sizes(image.affine)[np.argsort(orientation[:, 0])]
    with torch_threads(threads), reusing_freed():
        coarse = to_network_grid(np.ascontiguousarray(data), tuple(zooms))
        distance = brain_distance(network or load_network(), coarse)
        solid = torch.from_numpy(_largest_piece(distance[0, 0].numpy() < 0))
        clean = torch.where(solid, distance.clamp(max=-0.01), distance.clamp(min=0.01))
        fine = functional.interpolate(clean, data.shape, mode='trilinear')[0, 0]
    back = ornt_transform(axcodes2ornt('RAS'), orientation)
    mask = apply_orientation((fine < 0).numpy().astype(np.uint8), back)
    return nib.Nifti1Image(mask, image.affine)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    if count == 0:
        raise InputError('no brain was found in the scan: look at it, or give a brain mask')
    largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(largest))


def mask_warnings(mask: nib.Nifti1Image) -> list[str]:
    """Return what is suspicious about a brain mask, one sentence each.

    Warned of are volumes outside 900–1,900 ml and brains that reach the edge of the volume.
    """
    data = np.asanyarray(mask.dataobj) > 0
    volume = data.sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    warnings = []
    low, high = VOLUME_RANGE
    if not low <= volume <= high:
        warnings.append(
            f'The brain mask holds {volume:.0f} ml; {low:.0f} to {high:.0f} ml are plausible: '
            'check its outline.'
        )
    if any(np.take(data, end, axis).any() for axis in range(3) for end in (0, -1)):
        warnings.append(
            'The brain mask reaches the edge of the scan: part of the brain may lie outside.'
        )
    return warnings
