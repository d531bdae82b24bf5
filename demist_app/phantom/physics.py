"""Closed-form signal equations: SIR-qMT, MPRAGE and FLAIR.

Times are in seconds, rates in 1/s, angles in degrees. PSR is the pool size ratio F = M0m / M0f as
a fraction (the macromolecular pool *fraction* is F / (1 + F)).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.floating]


@dataclass(frozen=True)
class SirProtocol:
    """Selective inversion recovery: inversion times, delays, and what the fit assumes.

    The defaults are those of the public 3 T data of Sisco and Dortch.
    """

    inversion_times: tuple[float, ...] = (0.015, 0.015, 0.278, 1.007)
    delays: tuple[float, ...] = (0.684, 4.121, 2.730, 0.010)
    k_mf: float = 12.5
    macromolecular_saturation: float = 0.83
    polarity: tuple[int, ...] = (-1, -1, -1, 1)


@dataclass(frozen=True)
class Mprage:
    """Magnetisation-prepared rapid gradient echo."""

    repetition_time: float
    inversion_time: float
    flip_angle: float
    echo_time: float = 0.003
    echo_spacing: float = 0.0071
    train_length: int = 176
    inversion_efficiency: float = 0.96


@dataclass(frozen=True)
class Flair:
    """Inversion-recovery turbo spin echo; the inversion time nulls `nulled_r1`."""

    repetition_time: float
    echo_time: float
    nulled_r1: float = 0.265
    inversion_time: float = field(init=False)

    def __post_init__(self) -> None:
        full = np.exp(-self.repetition_time * self.nulled_r1)
        object.__setattr__(self, 'inversion_time', float(np.log(2 / (1 + full)) / self.nulled_r1))


def sir_signal(
    psr: ArrayLike,
    r1f: ArrayLike,
    sf: ArrayLike,
    protocol: SirProtocol,
    *,
    k_mf: ArrayLike | None = None,
    sm: ArrayLike | None = None,
) -> Values:
    """Signed SIR signal for unit equilibrium magnetisation, R1m = R1f.

    Bi-exponential recovery of both pools during the delay from saturation, an inversion pulse
    (free pool times `sf`, macromolecular pool times `sm`), recovery during the inversion time.
    Li et al. 2010, Magn Reson Med 64:491; Dortch et al. 2011, Magn Reson Med 66:1346.

    Parameters
    ----------
    psr
        Pool size ratio as a fraction.
    r1f
        Longitudinal rate of the free pool (1/s).
    sf
        Inversion efficiency of the free pool (-1 is perfect).
    protocol
        Inversion times and delays.
    k_mf, sm
        Exchange rate (1/s) and macromolecular saturation; by default what the fit assumes.

    Returns
    -------
    Values
        Shape (number of inversion times, *broadcast shape of the parameters).
    """
    psr, r1f, sf = np.asarray(psr), np.asarray(r1f), np.asarray(sf)
    k_mf = np.asarray(protocol.k_mf if k_mf is None else k_mf, dtype=psr.dtype)
    sm = np.asarray(protocol.macromolecular_saturation if sm is None else sm, dtype=psr.dtype)
    k_fm = k_mf * psr
    # With R1m = R1f the rates of the general solution are R1f and R1f + k_fm + k_mf, and only
    # the difference of the pools after the inversion feeds the fast one.
    gap = k_fm + k_mf
    signals = []
    for ti, td in zip(protocol.inversion_times, protocol.delays, strict=True):
        # Both pools start saturated, so they recover alike, at the slow rate.
        recovered = 1 - np.exp(-r1f * td)
        fast = (sf - sm) * recovered * k_fm / gap
        slow = sf * recovered - 1 - fast
        signals.append((fast * np.exp(-gap * ti) + slow) * np.exp(-r1f * ti) + 1)
    return np.stack(np.broadcast_arrays(*signals))


def fit_sir(magnitudes: Values, protocol: SirProtocol, iterations: int = 15) -> Values:
    """Fit PSR, R1f, S_f and M0 to SIR magnitudes, voxel by voxel.

    Levenberg-Marquardt on the four residuals with k_mf, S_m and R1m = R1f fixed by the protocol;
    signs are restored from the protocol's polarity. Dortch et al. 2018, NeuroImage 179:108.

    Parameters
    ----------
    magnitudes
        Shape (4, voxels), any positive scale.

    Returns
    -------
    Values
        Rows PSR (fraction, 0-0.5), R1f (1/s), S_f, M0 (scale of the input); shape (4, voxels).
    """
    scale = np.maximum(magnitudes.max(0), 1e-12)
    target = magnitudes / scale * np.asarray(protocol.polarity)[:, None]
    low = np.array([0.0, 0.1, -1.05, 0.2])[:, None]
    high = np.array([0.5, 3.0, -0.3, 4.0])[:, None]
    parameters = np.tile(np.array([0.08, 0.8, -0.92, 1.1])[:, None], magnitudes.shape[1])

    def model(p: Values) -> Values:
        return np.asarray(p[3] * sir_signal(p[0], p[1], p[2], protocol))

    damping = np.full(magnitudes.shape[1], 1e-2)
    value = model(parameters)
    cost = ((target - value) ** 2).sum(0)
    step = 1e-5
    for _ in range(iterations):
        jacobian = np.empty((4, 4, magnitudes.shape[1]))
        for k in range(3):
            shifted = parameters.copy()
            shifted[k] += step
            jacobian[:, k] = (model(shifted) - value) / step
        jacobian[:, 3] = value / parameters[3]
        normal = np.einsum('ijv,ikv->vjk', jacobian, jacobian)
        gradient = np.einsum('ijv,iv->vj', jacobian, target - value)
        diagonal = np.einsum('vjj->vj', normal)
        diagonal += damping[:, None] * diagonal + 1e-10
        update = np.linalg.solve(normal, gradient[..., None])[..., 0].T
        proposal = np.clip(parameters + update, low, high)
        proposed = model(proposal)
        proposed_cost = ((target - proposed) ** 2).sum(0)
        better = proposed_cost <= cost
        parameters = np.where(better, proposal, parameters)
        value = np.where(better, proposed, value)
        cost = np.where(better, proposed_cost, cost)
        damping = np.where(better, damping / 10, damping * 10)
    parameters[3] *= scale
    return parameters


def mprage_signal(
    r1: ArrayLike, pd: ArrayLike, r2star: ArrayLike, sequence: Mprage, b1: ArrayLike = 1.0
) -> Values:
    """Steady-state MPRAGE signal at the centre of the echo train.

    Inversion, recovery, a spoiled gradient-echo train of `train_length` pulses and a dead time,
    repeated to the steady state (Deichmann et al. 2000, NeuroImage 12:112).

    Parameters
    ----------
    r1, pd, r2star
        Longitudinal rate (1/s), proton density, effective transverse rate (1/s).
    sequence
        The protocol.
    b1
        Relative transmit field, scales the flip angle.
    """
    r1, b1 = np.asarray(r1), np.asarray(b1)
    alpha = np.deg2rad(sequence.flip_angle) * b1
    tau, n, centre = sequence.echo_spacing, sequence.train_length, sequence.train_length // 2
    before = sequence.inversion_time - centre * tau
    dead = sequence.repetition_time - before - n * tau
    eta = sequence.inversion_efficiency
    short = np.exp(-tau * r1)
    u = short * np.cos(alpha)
    s = (1 - short) / (1 - u)
    ea, ed = np.exp(-before * r1), np.exp(-dead * r1)
    un = u**n
    m = ((1 - ed) + ed * ((1 - ea) * un + s * (1 - un))) / (1 + eta * ea * ed * un)
    uc = u**centre
    train = ((1 - ea) - eta * m * ea) * uc + s * (1 - uc)
    decay = np.exp(-sequence.echo_time * np.asarray(r2star))
    return np.asarray(pd * np.sin(alpha) * decay * np.abs(train))


def flair_signal(
    r1: ArrayLike, pd: ArrayLike, t2: ArrayLike, psr: ArrayLike, sequence: Flair
) -> Values:
    """FLAIR signal: inversion recovery, T2 decay, and MT saturation by the refocusing train.

    The train of refocusing pulses saturates bound protons: signal times (1 - 1.2 PSR).

    Parameters
    ----------
    r1, pd, t2, psr
        Longitudinal rate (1/s), proton density, T2 (s), pool size ratio (fraction).
    sequence
        The protocol.
    """
    r1 = np.asarray(r1)
    recovery = (
        1 - 2 * np.exp(-sequence.inversion_time * r1) + np.exp(-sequence.repetition_time * r1)
    )
    decay = np.exp(-sequence.echo_time / np.asarray(t2))
    return np.asarray(pd * np.abs(recovery) * decay * (1 - 1.2 * np.asarray(psr)))
