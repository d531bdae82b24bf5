"""What every model offers the synthesis step, and how a bundle becomes one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from demist_app.model.bundle import Bundle, BundleError
from demist_app.model.linear import LinearPredictor

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A synthetic PSR map in percent.

    Attributes
    ----------
    mean : ndarray of float32, shape (X, Y, Z)
        Expected PSR; zero outside the mask.
    sd : ndarray of float32, shape (X, Y, Z)
        Standard deviation of what the PSR of a voxel might be, given the scans.
    draws : int
        Number of maps the mean was taken over; 1 for models without sampling.
    sampler : str
        How they were drawn.
    """

    mean: Image
    sd: Image
    draws: int
    sampler: str


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
    ) -> Prediction:
        """Synthesise PSR.

        Parameters
        ----------
        images : ndarray of float32, shape (2, X, Y, Z)
            T1w and FLAIR on a 1 mm RAS grid, scaled to [0, 1] inside the brain.
        mask : ndarray of bool, shape (X, Y, Z)
            Brain.
        n_samples, seed : int
            Number of draws and their seed; models without sampling ignore both.
        device : str
            ``cpu`` or ``cuda[:N]``.
        """
        ...


class _Linear:
    """`LinearPredictor` behind the common interface."""

    def __init__(self, model: LinearPredictor) -> None:
        self.model = model

    def predict(
        self,
        images: Image,
        mask: NDArray[np.bool_],
        *,
        n_samples: int,  # noqa: ARG002 - the model is deterministic
        seed: int,  # noqa: ARG002
        device: str,  # noqa: ARG002
    ) -> Prediction:
        mean, sd = self.model.predict(images, mask)
        return Prediction(mean=mean, sd=sd, draws=1, sampler='none (regression)')


def load_predictor(bundle: Bundle) -> Predictor:
    """Build the predictor a bundle describes.

    Raises
    ------
    BundleError
        If this version of demist does not know the network.
    """
    network = bundle.metadata.get('network')
    if network == 'linear':
        return _Linear(LinearPredictor.from_tensors(bundle.tensors()))
    raise BundleError(
        f'{bundle.path} holds a network of type {network!r}, which this version of demist '
        'cannot run: update demist'
    )
