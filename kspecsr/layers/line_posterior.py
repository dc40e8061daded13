"""Posterior of line fluxes: the spectrum's exact likelihood, a learned prior (docs/design.md, lines)."""

from functools import cache

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument.prism_pixels import CORRELATED_NOISE, LINE_FWHM
from data_pipeline.lines import list_of
from data_pipeline.lines.design import DENSITY_DOUBLETS, tied_lines
from kspecsr.layers.direct_line_fit import RIDGE, SYSTEMATIC, PrismColumns
from kspecsr.layers.line_tokens import LineDecoder
from kspecsr.results.joint_lines import LEAST_SIGNAL

# One-sigma priors of what moves all lines together: the width of the line-spread function [natural log], and
# the zero point in units of that width. As the training examples have them (`FeedConfig`).
_WIDTH = 0.08
_ZERO_POINT = 0.15 / (LINE_FWHM / 2.3548)
_FARTHEST = 6.0  # widths from a line's centre beyond which its derivatives are 0
_SHARP = 3.0  # of the soft rectifier that keeps the prior's mean positive
# Logarithms of one-sigma widths over cosh(arcsinh of the prior's mean), the lowest and the highest: of the
# prior, wide so that absent lines can be known to be absent, and of the likelihood's own error per line.
_LOG_PRIOR, _LOG_ERROR = (-8.0, 1.5), (-7.0, 1.0)
_WIDEST = 300.0  # isolated errors: a wider prior would cost float32 its digits, and none is needed
_LOG_TRUST = 1.5  # largest change of the log of a spectrum's trust
_LARGEST = 5.0  # shared part of a prior's error over its own
_LEAST_KNOWN = 3e-3  # on a diagonal of 1 at most: fluxes that the spectrum does not tell apart
_JITTER = 1e-6  # on a unit diagonal: what float32 needs
RANK = 4  # numbers that the priors of all lines share: brightness, ionisation, metallicity, dust
INFORMATION = ("precision", "score", "start", "in_range", "misfit")  # that the posterior takes
# raw numbers per line: prior mean, log of its sigma, log trust, offset and log error of the data, and how it
# goes with the shared numbers
HEADS = 5 + RANK


@cache
def free_fluxes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """What is free in the posterior: every line but the weaker ones of doublets that atomic physics fixes.

    Args:
        count: K, the number of lines, which tells the list.

    Returns:
        (K, F) flux of each line of the list per free flux, float32, and (F,) index of the line that each free
        flux is of.
    """
    lines = list_of(count)
    tied = tied_lines(lines, DENSITY_DOUBLETS)
    leader = np.array(
        [tied.line[tied.column == f][np.argmax(tied.share[tied.column == f])] for f in range(tied.columns)]
    )
    return tied.matrix(len(lines)).astype("float32"), leader


def fluxes_of_lines(flux, covariance, tie):
    """Fluxes (B, K), their errors and correlations (B, K, K) from free fluxes (B, F) and their covariance.

    ``tie`` is (K, F).
    """
    both = ops.matmul(ops.matmul(tie, covariance), tie.T)
    error = ops.sqrt(ops.maximum(ops.einsum("bkk->bk", both), 1e-30))
    correlation = ops.clip(both / error[:, :, None] / error[:, None, :], -1.0, 1.0)
    return ops.matmul(flux, tie.T), error, correlation


def of_free_fluxes(values, known):
    """Free fluxes (B, F) from fluxes of lines (B, K), of which those with ``known`` 1 (not 0) count."""
    tie, _ = free_fluxes(known.shape[1])
    return ops.matmul(values * known, tie) / ops.maximum(ops.matmul(known, tie**2), 1e-12)


@keras.saving.register_keras_serializable("kspecsr")
class LineInformation(PrismColumns):
    """What a prism spectrum says about the fluxes of its lines, all at once, at a known redshift.

    The likelihood of the free fluxes x, after continuum, line-spread width, zero point and error of the
    redshift are marginalised, is normal: its precision and the gradient of its logarithm are what is put out.
    The continuum has hat functions and breaks with priors so broad that they do not matter. Width and places
    are linear about the direct fit, with priors of their own.

    Args:
        knots, stars: of `PrismColumns`.

    Inputs:
        flux, error, good, amplitude: (B, P) of `PrismNormalisation`.
        fit_flux, model: of `DirectLineFit`, (B, K) and (B, P); the point of expansion.
        wavelength, prism_sigma: (B, K) of `LinePositions`; in_range: (B, K), 1 where good pixels see it too.
        redshift, relative_error: (B,) redshift, and error of 1 + z over it.

    Returns:
        Dictionary in units of each free flux's isolated error: ``precision`` (B, F, F); ``score`` (B, F), the
        gradient of the log-likelihood at ``start`` (B, F), the fit's fluxes; ``unit`` (B, F) [scale x
        Angstrom]; ``in_range`` (B, F), 1 or 0; ``misfit`` (B,), chi-square per degree of freedom of the most
        likely fluxes, at least 1: what the columns cannot describe, be it a width or an error that is wrong.
    """

    def call(
        self,
        flux,
        error,
        good,
        amplitude,
        fit_flux,
        model,
        wavelength,
        prism_sigma,
        in_range,
        redshift,
        relative_error,
        *more,
    ):
        weight = good / (CORRELATED_NOISE**2 * (error**2 + (SYSTEMATIC * amplitude) ** 2))  # (B, P)
        columns = self._lines(wavelength, prism_sigma, in_range, *more)  # (B, F, P)
        moved = self._derivatives(
            ops.maximum(fit_flux, 0.0) * in_range, wavelength, prism_sigma, relative_error, *more
        )
        nuisance = ops.concatenate([self._continuum(redshift), moved], axis=1)  # (B, n, P)
        root = ops.sqrt(weight)[:, None, :]
        lines, unit, seen = _unit_norm(columns * root)
        smooth, size, used = _unit_norm(nuisance * root)
        # a continuum column has a ridge alone; one that moves lines was multiplied by its prior's sigma
        moving = np.arange(smooth.shape[1]) >= smooth.shape[1] - moved.shape[1]
        ridge = ops.where(moving, size**2, RIDGE) + 1.0 - used  # (B, n)
        normal = ops.matmul(smooth, ops.transpose(smooth, (0, 2, 1)))
        normal = normal + ops.expand_dims(ridge, 1) * np.eye(smooth.shape[1], dtype="float32")
        left = ((flux - model) * root[:, 0])[..., None]
        cross = ops.matmul(smooth, ops.concatenate([ops.transpose(lines, (0, 2, 1)), left], axis=2))
        half = ops.solve_triangular(ops.cholesky(normal), cross, lower=True)  # (B, n, F + 1)
        count = lines.shape[1]
        precision = ops.matmul(lines, ops.transpose(lines, (0, 2, 1)))
        precision = precision - ops.matmul(ops.transpose(half[..., :count], (0, 2, 1)), half[..., :count])
        score = ops.matmul(lines, left) - ops.matmul(
            ops.transpose(half[..., :count], (0, 2, 1)), half[..., count:]
        )
        start = of_free_fluxes(fit_flux, in_range)
        square = ops.sum(left[..., 0] ** 2, axis=-1) - ops.sum(half[..., count] ** 2, axis=-1)
        found = {
            "precision": precision,
            "score": score[..., 0],
            "start": ops.pad(start, ((0, 0), (0, count - start.shape[1]))) / unit * seen,
            "unit": unit,
            "in_range": seen,
            "misfit": _misfit(precision, score, square, good, smooth.shape[1]),
        }
        return {name: ops.stop_gradient(value) for name, value in found.items()}

    def _lines(self, wavelength, prism_sigma, in_range):
        """(B, F, P) columns of free fluxes of 1; the direct fit knows the first of them."""
        profile = self._profiles(wavelength, prism_sigma) * in_range[..., None]  # (B, K, P)
        return ops.matmul(free_fluxes(wavelength.shape[1])[0].T, profile)

    def _derivatives(self, flux, wavelength, sigma, relative_error, *_):
        """(B, 3, P) change of the model by one prior sigma of zero point, redshift and line-spread width."""
        scaled = (self._edges - wavelength[..., None]) / sigma[..., None]  # (B, K, P + 1)
        near = ops.clip(scaled, -_FARTHEST, _FARTHEST)
        density = ops.exp(-0.5 * near**2) * np.float32(1.0 / np.sqrt(2.0 * np.pi))
        # derivatives of the cumulative profile by its centre [sigma], by log wavelength, and by log sigma
        by_centre = -ops.einsum("bk,bke->be", flux, density)
        by_redshift = -ops.einsum("bk,bke->be", flux * wavelength / sigma, density)
        by_width = -ops.einsum("bk,bke->be", flux, density * near)
        moved = ops.stack(
            [_ZERO_POINT * by_centre, relative_error[:, None] * by_redshift, _WIDTH * by_width], axis=1
        )
        return (moved[..., 1:] - moved[..., :-1]) / self._width


def _misfit(precision, score, square, good, nuisances):
    """Chi-square per degree of freedom (B,) of the most likely fluxes, at least 1.

    ``square`` (B,) is chi-square at the point of expansion, after the nuisances.
    """
    count = precision.shape[-1]
    factor = ops.cholesky(precision + _LEAST_KNOWN * np.eye(count, dtype="float32"))
    gained = ops.sum(ops.solve_triangular(factor, score, lower=True)[..., 0] ** 2, axis=-1)
    freedom = ops.maximum(ops.sum(good, axis=-1) - count - nuisances, 30.0)
    return ops.maximum((square - gained) / freedom, 1.0)


def _unit_norm(columns):
    """Columns (B, n, P) of unit norm, what they were divided by is 1 / size; zero ones stay zero.

    Returns:
        Columns, size (B, n), 1 for a zero one, and 1 or 0 for a zero one (B, n).
    """
    norm = ops.sqrt(ops.sum(columns**2, axis=-1))
    seen = ops.cast(norm > 1e-6, "float32")
    size = ops.where(norm > 1e-6, 1.0 / ops.maximum(norm, 1e-6), 1.0)
    return columns * (size * seen)[..., None], size, seen


@keras.saving.register_keras_serializable("kspecsr")
class LinePosterior(keras.layers.Layer):
    """Normal posterior of all free fluxes from a prior per line and the spectrum's exact likelihood.

    The prior has a mean and an error for each line, and some numbers that all lines share: correlations are
    the spectrum's and those of galaxies. What the spectrum measures is the flux and something that the linear
    model lacks (stellar absorption, wings): an offset and an error per line. Noise may be larger or smaller
    than stated: the precision is multiplied by one trust per spectrum. All numbers come from the tokens; with
    a mean that may follow the spectrum as it likes, the network can do what a head without the likelihood
    does.

    Inputs:
        raw: (B, F, 9).
        precision, score, start, in_range, misfit: of `LineInformation`. Where the most likely fluxes do not
        describe the spectrum, its likelihood counts for as much less.

    Returns:
        Dictionary in isolated errors: ``mean`` (B, F) and ``covariance`` (B, F, F); out of range 0 and a unit
        diagonal. ``prior_weight`` (B, F), the prior's share of each line's posterior precision, 0-1.
    """

    def call(self, raw, precision, score, start, in_range, misfit):
        level = ops.softplus(_SHARP * (ops.arcsinh(ops.maximum(start, 0.0)) + raw[..., 0])) / _SHARP
        scale = ops.cosh(level)
        mean = ops.sinh(level)
        sigma = ops.minimum(scale * ops.exp(ops.clip(raw[..., 1] - 0.7, *_LOG_PRIOR)), _WIDEST)
        own = scale * ops.exp(ops.clip(raw[..., 4] - 3.0, *_LOG_ERROR))
        offset = 0.3 * scale * raw[..., 3]
        lines = ops.maximum(ops.sum(in_range, axis=-1, keepdims=True), 1.0)
        vote = ops.sum(raw[..., 2] * in_range, axis=-1, keepdims=True) / lines
        trust = (ops.exp(_LOG_TRUST * ops.tanh(vote)) / misfit[:, None])[..., None]  # (B, 1, 1)
        seen = ops.expand_dims(in_range, -1)
        shared = sigma[..., None] * _LARGEST * ops.tanh(raw[..., HEADS - RANK :] / _LARGEST) * seen
        identity = np.eye(raw.shape[1], dtype="float32")
        variance = sigma**2 + ops.sum(shared**2, axis=-1)  # of the prior
        # prior of what is measured, flux and offset together, on a unit diagonal; in its own sigmas the
        # posterior precision is 1 + data, whose lowest eigenvalue is 1
        size = ops.sqrt(variance + own**2)
        loss = own / size  # the offset's share of it, as an amplitude
        scaled = shared / size[..., None]
        prior = ops.matmul(scaled, ops.transpose(scaled, (0, 2, 1)))
        prior = prior + identity * ((sigma / size) ** 2 + loss**2)[:, None, :]
        factor = ops.cholesky(prior + _JITTER * identity)
        lower = _inverse_of_lower(factor)
        data = trust * precision * size[:, :, None] * size[:, None, :]
        data = ops.matmul(ops.transpose(factor, (0, 2, 1)), ops.matmul(data, factor))
        root = ops.matmul(_inverse_of_one_plus(data), ops.transpose(factor, (0, 2, 1)))
        covariance = ops.matmul(factor, root)  # of what is measured
        gradient = trust[..., 0] * (score + ops.einsum("bij,bj->bi", precision, start - mean - offset))
        change = ops.einsum("bij,bj->bi", covariance, size * gradient)
        # of a deviation of what is measured, the flux's: 1 - V S^-1, and V - V S^-1 V is left to it
        taken = ops.matmul(ops.transpose(lower, (0, 2, 1)), lower) * (loss**2)[:, :, None]
        gain = identity - taken
        covariance = ops.matmul(gain, ops.matmul(covariance, ops.transpose(gain, (0, 2, 1))))
        covariance = covariance + (identity - taken) * (loss**2)[:, None, :]
        covariance = 0.5 * (covariance + ops.transpose(covariance, (0, 2, 1)))
        covariance = covariance * size[:, :, None] * size[:, None, :]
        change = size * ops.einsum("bij,bj->bi", gain, change)
        spread = ops.einsum("bii->bi", covariance)
        pairs = seen * ops.transpose(seen, (0, 2, 1))
        return {
            "mean": (mean + change) * in_range,
            "covariance": covariance * pairs + identity * (1.0 - in_range)[:, None, :],
            "prior_weight": ops.clip(spread / variance, 0.0, 1.0) * in_range,
        }


def _inverse_of_lower(factor):
    """Inverse of lower triangular matrices (B, F, F)."""
    identity = np.eye(factor.shape[-1], dtype="float32")
    return ops.solve_triangular(factor, ops.broadcast_to(identity, ops.shape(factor)), lower=True)


def _inverse_of_one_plus(data):
    """(1 + data)^-1 of symmetric matrices (B, F, F) without negative eigenvalues.

    Scaled to a unit diagonal first: isolated bright lines then cost float32 no digits.
    """
    identity = np.eye(data.shape[-1], dtype="float32")
    total = data + identity
    size = ops.rsqrt(ops.einsum("bii->bi", total))
    scaled = total * size[:, :, None] * size[:, None, :]
    lower = _inverse_of_lower(ops.cholesky(scaled + _JITTER * identity))
    inverse = ops.matmul(ops.transpose(lower, (0, 2, 1)), lower)
    return inverse * size[:, :, None] * size[:, None, :]


@keras.saving.register_keras_serializable("kspecsr")
class JointLineDecoder(LineDecoder):
    """Decodes lines whose fluxes have a joint posterior: errors, presence, places and widths.

    Args:
        **options: of `LineDecoder`.

    Inputs:
        raw: (B, K, 7) as for `LineDecoder`, the first two without meaning here; shift: (B, 1) raw common
        shift; mean, covariance, prior_weight: of `LinePosterior`; unit: (B, F); wavelength, reference_sigma
        [um], in_range: (B, K); relative_error: (B,) of 1 + z.

    Returns:
        As `LineDecoder`, but for mean and sigma ``correlation`` (B, K, K) of the errors. A flux, which cannot
        be negative, is at least 0.3 of its error (`kspecsr.results.joint_lines`).
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
    ):
        tie, _ = free_fluxes(raw.shape[1])
        covariance = covariance * unit[:, :, None] * unit[:, None, :]
        flux, error, correlation = fluxes_of_lines(mean * unit, covariance, tie)
        flux = ops.maximum(flux, LEAST_SIGNAL * error) * in_range
        logit = raw[..., 2]
        return {
            "logit": logit,
            "presence": ops.sigmoid(logit) * in_range,
            "prior_weight": ops.matmul(prior_weight, np.sign(tie).T) * in_range,
            "correlation": correlation,
            **self._drawn(raw, shift, flux, error, wavelength, reference_sigma, in_range, relative_error),
        }
