"""What every model offers the synthesis step, and how a bundle becomes one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demist_app.model.boosting import Trees, features
from demist_app.model.bundle import Bundle, BundleError
from demist_app.model.linear import LinearPredictor
from demist_app.model.presets import BRIDGE
from demist_app.model.residuals import PSR_MAX, residual_sd

DRAWS = 8
"""Whose mean a map is, where a model can give many and nothing else is wished."""

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A synthetic PSR map in percent.

    Attributes
    ----------
    mean : ndarray of float32, shape (X, Y, Z)
        Expected PSR; zero outside the mask.
    sd : ndarray of float32, shape (X, Y, Z), or None
        Standard deviation of what the PSR of a voxel might be, given the scans; None for one draw
        of a model that samples, which has none.
    facts : dict
        How the map was made, JSON-able, under the names of the sidecar; always ``Sampler`` and
        ``Draws``, the number of maps the mean was taken over (1 for models without sampling).
    warnings : list of str
        What did not go as planned, in sentences.
    latent : ndarray, shape (2 L,), or None
        Mean and log SD of every channel of z_c inside the brain; None for models without a latent,
        and for those whose latent depends on the windows it is made in.
    """

    mean: Image
    sd: Image | None
    facts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    latent: NDArray[np.float64] | None = None


class Predictor(Protocol):
    """The interface of a model to the app."""

    def predict(
        self,
        images: Image,
        mask: NDArray[np.bool_],
        *,
        n_samples: int,
        seed: int,
        device: str,
        threads: int = 1,
        memory_gb: float | None = None,
    ) -> Prediction:
        """Synthesise PSR.

        Parameters
        ----------
        images : ndarray of float32, shape (2, X, Y, Z)
            T1w and FLAIR on a 1 mm RAS grid, scaled to [0, 1] inside the brain.
        mask : ndarray of bool, shape (X, Y, Z)
            Brain.
        n_samples, seed : int
            Number of draws and their seed; models without sampling ignore both. Draw k is the
            same whatever the number of draws.
        device : str
            ``cpu`` or ``cuda[:N]``.
        threads : int
            Of the CPU.
        memory_gb : float, optional
            What this process may fill on the CPU, 10^9 bytes, with all it holds now; by default
            what the system has left.
        """
        ...


class _Linear:
    """`LinearPredictor` behind the common interface."""

    def __init__(self, bundle: Bundle) -> None:
        self.model = LinearPredictor.from_tensors(bundle.tensors())
        if self.model.coefficients.shape != (3,) or self.model.residual_sd.ndim != 1:
            raise ValueError('weights of another shape')

    def predict(self, images: Image, mask: NDArray[np.bool_], **_: Any) -> Prediction:
        mean, sd = self.model.predict(images, mask)
        return Prediction(mean, sd, {'Sampler': REGRESSION, 'Draws': 1})


class _Boosting:
    """`Trees` behind the common interface."""

    def __init__(self, bundle: Bundle) -> None:
        tensors = bundle.tensors()
        self.trees = Trees.from_tensors(tensors)
        self.table = tensors['residual_sd']

    def predict(self, images: Image, mask: NDArray[np.bool_], **_: Any) -> Prediction:
        mean, sd = np.zeros((2, *mask.shape), np.float32)
        predicted = self.trees.predict(features(images, mask))
        mean[mask] = np.clip(predicted, 0, PSR_MAX)
        sd[mask] = residual_sd(predicted, self.table)
        return Prediction(mean, sd, {'Sampler': REGRESSION, 'Draws': 1})


REGRESSION = 'none (regression)'
# those that do without torch
_LIGHT: dict[str, Callable[[Bundle], Predictor]] = {'linear': _Linear, 'boosting': _Boosting}


def load_predictor(bundle: Bundle) -> Predictor:
    """Build the predictor a bundle describes.

    Raises
    ------
    BundleError
        If this version of demist does not know the network, or the weights do not fit it.
    """
    network = bundle.metadata.get('network')
    if network in _LIGHT:
        try:
            return _LIGHT[network](bundle)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f'{bundle.path} holds no {network} model ({error})') from error
    if network == 'demist':
        from demist_app.model.synthesis import DiffusionPredictor  # torch: linear does without

        return DiffusionPredictor.from_bundle(bundle)
    if network in ('unet', 'klgan', 'vqvae'):
        from demist_app.model.regression import RegressionPredictor

        return RegressionPredictor.from_bundle(bundle)
    if network == 'cwdm':
        from demist_app.model.wavelet import WaveletPredictor

        return WaveletPredictor.from_bundle(bundle)
    raise BundleError(
        f'{bundle.path} holds a network of type {network!r}, which this version of demist '
        'cannot run: update demist'
    )


def sampling(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how a model samples, as `demist_app.model.presets.DiffusionPreset`; None: it does not.

    Parameters
    ----------
    metadata : mapping
        Of its bundle.
    """
    settings = metadata.get('settings', metadata.get('preset', {}))
    found: Mapping[str, Any] | None = settings.get('diffusion')
    return found


def draws_of(metadata: Mapping[str, Any], wanted: int | None = None) -> int:
    """Return of how many draws a model's map is the mean; 1 if it can give but one map.

    Parameters
    ----------
    metadata : mapping
        Of its bundle.
    wanted : int, optional
        By the user; by default `DRAWS`.
    """
    diffusion = sampling(metadata)
    if diffusion is None or diffusion['sampler'] == BRIDGE:
        return 1
    return wanted or DRAWS


def states_sd(metadata: Mapping[str, Any], draws: int) -> bool:
    """Tell whether a model states an SD for the mean of so many draws."""
    tabled = 'residual_sd' in metadata.get('uncertainty', {})
    return draws > 1 or tabled or sampling(metadata) is None


def wants_gpu(bundle: Bundle) -> bool:
    """Tell whether a model runs on a GPU at all."""
    return bundle.metadata['network'] not in _LIGHT
