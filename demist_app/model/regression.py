"""Synthesis with a network that gives PSR in one pass."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demist_app.memory import reusing_freed
from demist_app.model.bundle import Bundle, understood
from demist_app.model.demist import bfloat16_pays
from demist_app.model.predictor import REGRESSION, Image, Prediction
from demist_app.model.residuals import residual_sd
from demist_app.model.settings_file import build
from demist_app.model.sliding import Brain, in_windows, settle_device
from demist_app.model.translation import TRANSLATORS, translate
from demist_app.threads import torch_threads


class RegressionPredictor:
    """A network of `demist_app.model.translation` behind the common interface.

    Parameters
    ----------
    network : Module
    patch : int
        Edge (mm) of the patches that it was trained on.
    psr_scale : float
        Percent of PSR where it gives 1.
    table : ndarray, shape (25,), optional
        Of `demist_app.model.residuals.Residuals`.
    """

    def __init__(
        self,
        network: nn.Module,
        patch: int,
        psr_scale: float,
        table: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.patch = patch
        self.psr_scale = psr_scale
        self.table = table

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Load the model of a bundle.

        Raises
        ------
        BundleError
            If this version of demist does not understand its settings, or the weights do not fit.
        """
        with understood(bundle):
            kind, network_of = TRANSLATORS[bundle.metadata['network']]
            settings = build(kind, bundle.metadata['settings'], 'settings')
            tensors = {name: torch.from_numpy(t) for name, t in bundle.tensors().items()}
            table = tensors.pop('residual_sd').numpy()
            network = network_of(settings)
            network.load_state_dict(tensors)
            return cls(network, settings.stage.patch, bundle.metadata['psr_scale'], table)

    def predict(
        self,
        images: Image,
        mask: NDArray[np.bool_],
        *,
        device: str = 'cpu',
        threads: int = 1,
        **_: Any,
    ) -> Prediction:
        """Synthesise PSR; see `Predictor.predict`."""
        place, warnings = settle_device(device)
        brain = Brain(images, mask)
        with torch_threads(threads), reusing_freed():
            values = self.inside(brain, place)
        return Prediction(
            mean=brain.volume(values),
            sd=None if self.table is None else brain.volume(residual_sd(values, self.table)),
            facts={
                'Sampler': REGRESSION,
                'Draws': 1,
                'Window': f'{self.patch} mm',
                'Device': str(place),
            },
            warnings=warnings,
        )

    @torch.inference_mode()
    def inside(self, brain: Brain, place: torch.device) -> NDArray[np.float32]:
        """Return the PSR inside the brain, (N,), percent."""
        network = self.network.to(place)

        def run(window: Tensor) -> Tensor:
            with torch.autocast(place.type, torch.bfloat16, enabled=bfloat16_pays(place)):
                return translate(network, window).float()

        shares = in_windows(run, brain.images.to(place), self.patch)
        return self.psr_scale * brain.inside(shares.clamp(0, 1))
