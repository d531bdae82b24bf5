"""Telling scans unlike all training scans, at a stated rate of false alarms.

A unit has three distances from the training units: those of its T1w and FLAIR intensities, and that
of the latent z_c the model is conditioned on. Each is divided by its median over training units;
the largest of the three is the unit's score. What a new unit's score looks like is known from
training units whose participant was left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demist_app.model.intensities import CHANNELS, Image, deviation, profile

FALSE_ALARMS = 0.01
"""Share of units like the training units that may raise an alarm."""
LATENT = 'latent'
_INSIDE = 0.5  # share of a latent voxel that is brain

Array = NDArray[np.float64]


def latent_profile(z_c: Image, mask: NDArray[np.bool_], factor: int) -> Array:
    """Return quantiles of z_c inside the brain, shape (L, 19).

    Parameters
    ----------
    z_c : ndarray, shape (L, x, y, z)
        Normalised, as `demist_app.model.demist.Demist.encode_cond` gives it.
    mask : ndarray of bool, shape (factor · x, factor · y, factor · z)
        Brain, padded as the scans were.
    factor : int
        Voxels along the edge of a latent voxel.
    """
    x, y, z = z_c.shape[1:]
    share = mask.reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5))
    return profile(z_c, share > _INSIDE)


def left_out(profiles: Sequence[Array], participants: Sequence[str]) -> Array:
    """Return the distance of every training unit from those of all other participants.

    Parameters
    ----------
    profiles : sequence of ndarray, shape (channels, quantiles)
        As `demist_app.model.intensities.profile` or `latent_profile` returns them.
    participants : sequence of str
        Whose they are; of at least three.

    Returns
    -------
    ndarray, shape (units, channels)
    """
    stack, owners = np.stack(profiles), np.asarray(participants)
    found = np.empty(stack.shape[:2])
    for owner in np.unique(owners):
        own = owners == owner
        mean, sd = stack[~own].mean(axis=0), stack[~own].std(axis=0)
        found[own] = [deviation(one, mean, sd) for one in stack[own]]
    return found


def distances(intensities: Array, latent: Array) -> dict[str, Array]:
    """Name the three distances of units.

    Parameters
    ----------
    intensities : ndarray, shape (units, 2)
    latent : ndarray, shape (units, L)
        Per channel; their root mean square is the distance of z_c.
    """
    together = np.sqrt(np.mean(latent**2, axis=1))
    return dict(zip(CHANNELS, intensities.T, strict=True)) | {LATENT: together}


def alarm(found: Mapping[str, Array], rate: float = FALSE_ALARMS) -> dict[str, Any]:
    """Set the threshold, for a bundle's metadata.

    Parameters
    ----------
    found : mapping of str to ndarray, shape (units,)
        `distances` of training units that were left out.
    rate : float
        Share of units like these that may raise an alarm.

    Returns
    -------
    dict
        ``typical``: the median of each distance; ``threshold`` of the score; ``false_alarm_rate``:
        the rate at which a unit like these passes it, which is larger than asked for where fewer
        than 1 / rate − 1 units are known (the conformal quantile: Vovk et al., Algorithmic Learning
        in a Random World, 2005); ``units``.
    """
    typical = {name: float(np.median(values)) for name, values in found.items()}
    scores = np.sort(np.max([values / typical[name] for name, values in found.items()], axis=0))
    n = len(scores)
    place = min(n, int(np.ceil((n + 1) * (1 - rate))))
    return {
        'typical': typical,
        'threshold': float(scores[place - 1]),
        'false_alarm_rate': 1 - place / (n + 1),
        'units': n,
    }


def outlyingness(found: Mapping[str, float], known: Mapping[str, Any]) -> float:
    """Return the score of one unit: an alarm where it passes the threshold.

    Parameters
    ----------
    found : mapping of str to float
        Its distances by the names `distances` gives them.
    known : mapping
        As `alarm` returns it.
    """
    return float(max(value / known['typical'][name] for name, value in found.items()))
