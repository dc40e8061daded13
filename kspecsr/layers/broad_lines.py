"""Broad components of permitted lines: columns of the same linear problem, one width per spectrum."""

from functools import cache

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import FWHM_PER_SIGMA, SPEED_OF_LIGHT
from data_pipeline.lines import list_of
from kspecsr.layers.line_posterior import JointLineDecoder, LineInformation, fluxes_of_lines, free_fluxes
from kspecsr.results.joint_lines import LEAST_SIGNAL

# Permitted lines besides those of hydrogen that have broad components; the second of a pair is tied.
_PERMITTED = (
    "NV_1239",
    "CIV_1548",
    "HeII_1640",
    "MgII_2796",
    "HeI_4027",
    "HeII_4687",
    "HeI_5017",
    "HeI_5878",
    "HeI_7067",
    "OI_8449",
    "HeI_10833",
)


@cache
def broad_fluxes(count: int) -> np.ndarray:
    """(K, G) broad flux of each line of the list that has ``count`` per free broad flux, float32."""
    lines = list_of(count)
    leaders = [k for k, name in enumerate(lines.names) if name in _PERMITTED or np.isfinite(lines.case_b[k])]
    tie = np.zeros((len(lines), len(leaders)), "float32")
    for column, k in enumerate(leaders):
        tie[k, column] = 1.0
        if lines.partner[k]:
            tie[lines.index(lines.partner[k]), column] = 1.0 / lines.ratio[k]
    return tie


# one sigma [km/s]: FWHM 500 to 8,000, the logarithm's middle and half range
_LOG_VELOCITY = (float(np.log(850.0)), 1.4)
_LOG_ERROR = (-4.0, 1.0)  # of the logarithm of the width
_SEEN_NARROW = 2.0  # flux of a broad line over that of the direct fit, which takes it for a narrow one


@cache
def broad_lines(count: int) -> np.ndarray:
    """(R,) positions, in the list that has ``count``, of the lines that may have a broad component."""
    return np.flatnonzero(broad_fluxes(count).any(axis=1))


@keras.saving.register_keras_serializable("kspecsr")
class BroadWidth(keras.layers.Layer):
    """What a spectrum says about its broad lines as a whole.

    Input shape:
        (B, 3) raw numbers.

    Returns:
        Dictionary of (B,): ``logit`` of there being broad lines; ``log_velocity``, natural logarithm of the
        one-sigma width [km/s], and its one-sigma error ``log_sigma``, as a logarithm. For the columns
        ``velocity`` [km/s], and ``doubt``, the error of its logarithm times the chance of broad lines.
    """

    def call(self, raw):
        logit = raw[:, 0] - 2.0  # an untrained head: few galaxies have any
        log_velocity = _LOG_VELOCITY[0] + _LOG_VELOCITY[1] * ops.tanh(raw[:, 1])
        log_sigma = ops.clip(raw[:, 2] - 1.0, *_LOG_ERROR)
        return {
            "logit": logit,
            "log_velocity": log_velocity,
            "log_sigma": log_sigma,
            # a width is learned from truth: through the columns it would be drawn to what eases the fluxes
            "velocity": ops.stop_gradient(ops.exp(log_velocity)),
            "doubt": ops.stop_gradient(ops.exp(log_sigma) * ops.sigmoid(logit)),
        }


@keras.saving.register_keras_serializable("kspecsr")
class BroadWidths(keras.layers.Layer):
    """Full widths at half maximum from the logarithms of `BroadWidth`.

    Inputs:
        log_velocity, log_sigma: (B,).

    Returns:
        Dictionary of ``broad_fwhm`` and ``broad_fwhm_error`` (B,) [km/s].
    """

    def call(self, log_velocity, log_sigma):
        fwhm = FWHM_PER_SIGMA * ops.exp(log_velocity)
        return {"broad_fwhm": fwhm, "broad_fwhm_error": fwhm * ops.exp(log_sigma)}


@keras.saving.register_keras_serializable("kspecsr")
class PooledTokens(keras.layers.Layer):
    """Largest and mean value over the lines in range.

    Inputs:
        values: (B, K, D); in_range: (B, K).

    Output shape:
        (B, 2 D).
    """

    def call(self, values, in_range):
        values = values * in_range[..., None]
        count = 1.0 + ops.sum(in_range, axis=-1, keepdims=True)
        return ops.concatenate([ops.max(values, axis=1), ops.sum(values, axis=1) / count], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class BroadLineInformation(LineInformation):
    """As `LineInformation`, with the broad components of permitted lines after the narrow lines.

    All of a spectrum have one width, which is known to an error: a nuisance like the line-spread function's.
    Without it a bright line that is wider than stated would leave residuals of a hundred sigma. F counts
    narrow and broad free fluxes (`broad_fluxes`).

    Inputs:
        ...: those of `LineInformation`; velocity, doubt: (B,) of `BroadWidth`.
    """

    def _widths(self, wavelength, prism_sigma, velocity):
        """Centres, one-sigma widths, and the part of their squares that is the velocity's, (B, R) each."""
        rows = broad_lines(wavelength.shape[1])
        centre, sigma = (ops.take(x, rows, axis=1) for x in (wavelength, prism_sigma))
        own = (velocity[:, None] / SPEED_OF_LIGHT * centre) ** 2
        width = ops.sqrt(sigma**2 + own)
        return centre, width, own / width**2

    def _derivatives(self, flux, wavelength, sigma, relative_error, velocity, doubt):
        """Those of narrow lines, and one prior sigma of the broad lines' width, (B, 4, P)."""
        moved = super()._derivatives(flux, wavelength, sigma, relative_error)
        centre, width, share = self._widths(wavelength, sigma, velocity)
        strength = _SEEN_NARROW * ops.take(flux, broad_lines(flux.shape[1]), axis=1) * share * doubt[:, None]
        near = ops.clip((self._edges - centre[..., None]) / width[..., None], -6.0, 6.0)
        density = ops.exp(-0.5 * near**2) * np.float32(1.0 / np.sqrt(2.0 * np.pi))
        by_width = -ops.einsum("bk,bke->be", strength, density * near)
        by_width = (by_width[:, 1:] - by_width[:, :-1]) / self._width
        return ops.concatenate([moved, by_width[:, None]], axis=1)

    def _lines(self, wavelength, prism_sigma, in_range, velocity, _):
        narrow = super()._lines(wavelength, prism_sigma, in_range)
        tie, takes_part = (of(wavelength.shape[1]) for of in (broad_fluxes, broad_lines))
        centre, width, _ = self._widths(wavelength, prism_sigma, velocity)
        seen = ops.take(in_range, takes_part, axis=1)
        profile = self._profiles(centre, width) * seen[..., None]
        return ops.concatenate([narrow, ops.matmul(tie[takes_part].T, profile)], axis=1)


def of_broad_fluxes(values, known):
    """Free broad fluxes (B, G) from those of lines (B, K), of which those with ``known`` 1 (not 0) count."""
    tie = broad_fluxes(known.shape[1])
    return ops.matmul(values * known, tie) / ops.maximum(ops.matmul(known, tie**2), 1e-12)


@keras.saving.register_keras_serializable("kspecsr")
class BroadLineDecoder(JointLineDecoder):
    """As `JointLineDecoder`, of lines with a narrow and a broad component.

    Inputs:
        ...: those of `JointLineDecoder`, whose posterior is of narrow and then broad free fluxes;
        log_velocity: (B,) of `BroadWidth`.

    Returns:
        As `JointLineDecoder`, whose fluxes are those of the narrow components, drawn by themselves;
        ``correlation`` is of the lines' totals. Besides: ``total`` and ``total_error``, ``broad`` and
        ``broad_error`` (B, K) [scale x Angstrom]; ``broad_width`` (B, R) [um], of `broad_lines`.
    """

    def call(
        self,
        raw,
        shift,
        mean,
        covariance,
        prior_weight,
        unit,
        wavelength,
        reference_sigma,
        in_range,
        relative_error,
        log_velocity,
    ):
        narrow, broad = free_fluxes(raw.shape[1])[0], broad_fluxes(raw.shape[1])
        covariance = covariance * unit[:, :, None] * unit[:, None, :]
        flux, split = mean * unit, narrow.shape[1]
        alone = (
            (flux[:, :split], covariance[:, :split, :split], narrow),
            (flux[:, split:], covariance[:, split:, split:], broad),
        )
        first, second = (fluxes_of_lines(*part) for part in alone)
        total, error, both = fluxes_of_lines(flux, covariance, np.concatenate([narrow, broad], axis=1))
        drawn = ops.maximum(first[0], LEAST_SIGNAL * first[1]) * in_range
        wide = ops.maximum(second[0], 0.0) * in_range
        found = self._drawn(
            raw, shift, drawn, first[1], wavelength, reference_sigma, in_range, relative_error
        )
        rows = broad_lines(raw.shape[1])
        centre = ops.take(found["wavelength"], rows, axis=1)
        spread = ops.exp(log_velocity)[:, None] / SPEED_OF_LIGHT * centre
        narrow_weight = ops.matmul(prior_weight[:, :split], np.sign(narrow).T)
        return {
            **found,
            "logit": raw[..., 2],
            "presence": ops.sigmoid(raw[..., 2]) * in_range,
            "prior_weight": narrow_weight * in_range,
            "correlation": both,
            "total": ops.maximum(total * in_range, drawn + wide),
            "total_error": error * in_range,
            "broad": wide,
            "broad_error": second[1] * in_range,
            "broad_width": ops.sqrt(ops.take(reference_sigma, rows, axis=1) ** 2 + spread**2),
        }
