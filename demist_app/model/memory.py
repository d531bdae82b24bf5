"""Memory: what synthesis will take, what a device has, and how it shows that it is short."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from demist_app.model.bundle import WEIGHTS, Bundle
from demist_app.model.presets import Preset
from demist_app.model.windows import decoding_bytes, denoising_bytes

USUAL_BRAIN = (160, 192, 160)
"""Grid that memory is asked for before the brain is known, mm; most adults need less."""
_LIBRARIES_GB = 0.7  # resident in a worker that has imported torch, MONAI and the interfaces
_SHORT = re.compile(
    r"out of memory|not enough memory|can(?:'|no)t allocate memory|_ALLOC_FAILED", re.IGNORECASE
)


class ShortOfMemoryError(MemoryError):
    """The memory of a device does not suffice.

    Attributes
    ----------
    part : str
        What for, as a participle: ``denoising``.
    """

    def __init__(self, part: str, device: torch.device) -> None:
        super().__init__(f'the memory of the {named(device)} does not suffice for {part}')
        self.part = part


@contextmanager
def noting_shortage(part: str, device: torch.device) -> Iterator[None]:
    """Turn the ways in which memory can be short, of which there are many, into one exception.

    Raises
    ------
    ShortOfMemoryError
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or _SHORT.search(str(error)):
            raise ShortOfMemoryError(part, device) from error
        raise


def predicted_gb(bundle: Bundle) -> float:
    """Return the memory that synthesis of a usual brain takes on the CPU, 10^9 bytes.

    Parameters
    ----------
    bundle : Bundle
        Of network ``demist``.
    """
    preset = Preset.from_dict(bundle.metadata['preset'])
    voxels = math.prod(n // preset.autoencoder.factor for n in USUAL_BRAIN)
    peak = voxels * max(
        decoding_bytes(preset.autoencoder),
        denoising_bytes(preset.denoiser, spatial='spatial' in preset.streams.active),
    )
    stored = (bundle.path / WEIGHTS).stat().st_size
    # in half precision on disk; when loaded, they are read, widened and copied into the networks
    return _LIBRARIES_GB + (2 * stored + max(3 * stored, peak)) / 1e9


def free_bytes(device: torch.device, memory_gb: float | None) -> float:
    """Return the memory that is free.

    Parameters
    ----------
    device : torch.device
    memory_gb : float or None
        What this process may fill on the CPU, 10^9 bytes, with all it holds now.
    """
    if device.type == 'cuda':
        torch.cuda.empty_cache()  # what an earlier brain took counts as used
        return float(torch.cuda.mem_get_info(device)[0])
    free = float(psutil.virtual_memory().available)
    if memory_gb is not None:
        free = min(free, 1e9 * memory_gb - psutil.Process().memory_info().rss)
    return free


def named(device: torch.device) -> str:
    """Return the name of a device, for people."""
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
