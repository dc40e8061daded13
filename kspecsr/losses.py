"""Loss terms: the likelihood that all stages share, and the terms of the third (docs/design.md, losses)."""

import math

import numpy as np
from keras import ops

from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.pixel_grid import cubic_weights
from kspecsr.results.redshift import BIN_WIDTH

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


_FAR = 100.0  # squared deviation, in sigmas


def _saturated(square):
    """Squares of deviations, which count by their logarithm beyond ten sigma."""
    # one spectrum that no model describes would outweigh a batch
    return ops.where(square < _FAR, square, _FAR * (1.0 + ops.log(ops.maximum(square, _FAR) / _FAR)))


def gaussian_nll(target, mean, variance):
    """Negative log-likelihood of each value; arrays of one shape, the variance positive.

    Beyond ten sigma, where a normal distribution has no tails, a deviation counts by its logarithm. The
    variance is that of the prediction plus that of the target's own noise, so that the predicted error is the
    uncertainty of the true spectrum and not of a noisy copy of it.
    """
    return 0.5 * (_saturated((target - mean) ** 2 / variance) + ops.log(variance)) + HALF_LOG_TWO_PI


def masked_mean(values, use):
    """Mean over the entries that count, by a bool or a weight for each; 0 where none does."""
    use = ops.cast(use, values.dtype)
    # The `where` comes first: 0 times a NaN of a masked pixel is NaN, in the gradient as well. The least
    # weight keeps a batch in which nothing counts from dividing by 0.
    return ops.sum(ops.where(use > 0, values, 0.0) * use) / ops.maximum(ops.sum(use), 1e-6)


def spectrum_nll(target, target_error, target_mask, mean, error):
    """Mean negative log-likelihood over the good pixels of a batch, (B, N) each.

    ``target_error`` is 0 for the noise-free truth; ``target_mask`` is True where bad.
    """
    nll = gaussian_nll(target, mean, error**2 + target_error**2)
    return masked_mean(nll, ops.logical_not(target_mask))


def redshift_nll(log_probability, redshift, step, second=None):
    """Mean negative log-likelihood of log(1 + z) over the spectra whose redshift is known.

    Of two sources in a slit each is the answer with probability 1/2: both belong among the modes of P(z).

    A cross-entropy whose target is softened by a Gaussian of one bin: P(z) is the mixture of normals in
    log(1 + z) at the bins, and this is minus its log density.

    Args:
        log_probability: (B, Z).
        redshift: (B,) true; NaN where unknown.
        step: of log(1 + z) between bins.
        second: (B,) that of a second source; NaN where there is none, None where there are none.
    """
    nll = _redshift_nll(log_probability, redshift, step)
    if second is not None:
        both = 0.5 * (nll + _redshift_nll(log_probability, second, step))
        nll = ops.where(ops.isfinite(second), both, nll)
    return masked_mean(nll, ops.isfinite(redshift))


def _redshift_nll(log_probability, redshift, step):
    """(B,) negative log-likelihood of log(1 + z); a finite number without a redshift, too."""
    known = ops.isfinite(redshift)
    # A number for unknown ones too, whose loss is masked: NaN would reach the gradient through the mask.
    x = ops.log1p(ops.where(known, redshift, 0.0))
    bins = (np.arange(log_probability.shape[-1]) * step).astype("float32")
    place = (x[:, None] - bins) / (BIN_WIDTH * step)
    component = -0.5 * place**2 - HALF_LOG_TWO_PI - float(np.log(BIN_WIDTH * step))
    return -ops.logsumexp(log_probability + component, axis=-1)


def no_redshift_loss(none_logit, redshift, object_class):
    """Mean cross-entropy of there being no redshift; (B,) each.

    What counts is where the class is known, 0 or more: elsewhere a missing ``redshift`` (NaN) may be one that
    nobody has measured.
    """
    none = 1.0 - ops.cast(ops.isfinite(redshift), "float32")
    return masked_mean(ops.softplus(none_logit) - none * none_logit, object_class >= 0)


def class_loss(log_probability, object_class):
    """Mean cross-entropy of classes (B, C); ``object_class`` (B,) is a number, negative where unknown."""
    wanted = ops.one_hot(ops.cast(ops.maximum(object_class, 0.0), "int32"), log_probability.shape[-1])
    return masked_mean(-ops.sum(wanted * log_probability, axis=-1), object_class >= 0)


_HIGH_PASS = 61  # pixels of the running mean that is taken off
_MISMATCH = 0.05  # of the amplitude: the prism's line-spread function is known to a few per cent


def high_pass(x):
    """(B, N) less its running mean, which near an end is the mean of the pixels within the spectrum.

    Computed from cumulative sums: the gradient of a pooling this wide is as slow as that of a large
    convolution.
    """
    pixels, half = x.shape[-1], _HIGH_PASS // 2
    level = ops.mean(x, axis=-1, keepdims=True)  # taken off first: sums of small numbers keep their digits
    total = ops.cumsum(ops.pad(x - level, ((0, 0), (half + 1, half))), axis=-1)
    place = np.arange(pixels)
    count = np.minimum(place + half + 1, pixels) - np.maximum(place - half, 0)
    return x - level - (total[:, _HIGH_PASS:] - total[:, :pixels]) / count.astype("float32")


def line_shape_loss(flux, target, good, line_mask, amplitude):
    """High-pass mismatch inside the line mask, over the high-pass signal there (paper section 3.3).

    Not weighted by noise, which would blind it at the cores of bright lines. All (B, N): ``good`` is 1 or 0,
    ``line_mask`` 0-1, and the local amplitude keeps faint spectra from dominating.
    """
    target = ops.where(good > 0, target, flux)  # gaps neither count nor leave an edge
    weight = line_mask * good
    difference = ops.abs(high_pass(flux - target))
    # The share of the amplitude keeps windows without any line from dividing noise by nothing.
    size = ops.abs(high_pass(ops.stop_gradient(target))) + 0.2 * amplitude
    ratio = ops.sum(weight * difference, axis=-1) / ops.maximum(ops.sum(weight * size, axis=-1), 1e-6)
    return ops.mean(ratio)


def outside_losses(correction, amplitude, line_mask):
    """Roughness and size of the correction (B, N) outside the line mask (paper section 3.3)."""
    relative = correction / amplitude
    outside = 1.0 - line_mask
    curvature = relative[:, 2:] - 2.0 * relative[:, 1:-1] + relative[:, :-2]
    # Logarithmic beyond 3 %: a real edge (a break) costs little more than noise-like wiggles do.
    rough = ops.log1p((30.0 * curvature) ** 2)
    return masked_mean(rough, outside[:, 1:-1]), masked_mean(ops.log1p(relative**2), outside)


def residual_l1(correction, amplitude):
    """Mean absolute correction in units of the local amplitude (paper section 3.4)."""
    return ops.mean(ops.abs(correction / amplitude))


def continuum_loss(continuum, target, known, line_mask, amplitude):
    """Mismatch of the continuum (B, N), weighted to pixels under lines; ``known`` (B,) is 1 or 0."""
    # Absolute, smoothed at 1 % of the amplitude: a square would be all about the few worst galaxies.
    off = ops.sqrt(1e-4 + ((continuum - target) / amplitude) ** 2)
    return masked_mean(off, known[:, None] * (0.1 + line_mask))


def consistency_loss(flux, error, good, model):
    """Robust chi-square of the degraded output ``model`` against the prism, (B, P) each, ``good`` 1 or 0.

    The square root saturates like a Cauchy likelihood: outlier pixels and a line-spread function that differs
    from the median one must not pull the output.
    """
    floor = _MISMATCH * ops.sqrt(flux**2 + np.float32(1e-12))
    # The floor grows with the flux: at S/N of 1,000 the tabulated line-spread function is the larger error,
    # and would be learned into the lines.
    chi = (flux - model) ** 2 / (PIXEL_NOISE_VARIANCE * error**2 + floor**2)
    return masked_mean(ops.log1p(chi), good)


_PLACE = 3e-4  # of 1 + z: about the scatter of inferred redshifts


def pixels_between(redshift, true_redshift, right, sampling):
    """(B,) pixels of the logarithmic grid from the true redshift to that at which lines are drawn.

    ``right`` is 1 where the lines are the right ones; elsewhere nothing is moved. ``sampling`` is in pixels
    per unit of ln(wavelength).
    """
    moved = right > 0
    # `redshift` itself in place of an unknown one: a quotient of 1, and no NaN in what is left out.
    ratio = ops.where(moved, (1.0 + redshift) / (1.0 + ops.where(moved, true_redshift, redshift)), 1.0)
    return sampling * ops.log(ratio)


def position_loss(redshift, true_redshift, judged):
    """Distance of lines from their true positions over the usual scatter; linear for large distances.

    Redshifts (B,) at which lines are drawn, and true ones, NaN without one; ``judged`` is 1 where the
    redshift was inferred and is about right, else 0.
    """
    true = ops.where(judged > 0, true_redshift, redshift)
    off = ops.log((1.0 + redshift) / (1.0 + true)) / _PLACE
    return masked_mean(ops.sqrt(1.0 + off**2) - 1.0, judged)


def shifted(values, pixels):
    """Values (B, N) moved redward by (B,) pixels, by four-point cubic interpolation; ends are held."""
    count = values.shape[1]
    whole = ops.floor(pixels)
    t = (1.0 - (pixels - whole))[:, None]  # of the way from the second of four pixels to the third
    # The first of the four pixels lies one to the left of the interval that holds the place.
    first = np.arange(count, dtype="int32") - ops.cast(whole, "int32")[:, None] - 1
    row = ops.arange(ops.shape(values)[0], dtype="int32")[:, None] * count
    flat = ops.reshape(values, (-1,))

    def at(step):
        return ops.take(flat, ops.clip(first + step, 0, count - 1) + row)

    return sum(weight * at(step) for step, weight in zip((-1, 0, 1, 2), cubic_weights(t), strict=True))


_RIGHT = 0.004  # |dz| / (1 + z) up to which the tokens look at the right lines
_WRONG = 0.01  # beyond this they look at other lines or at none: nothing is present there


def redshift_is(redshift, true_redshift):
    """Whether the redshift used by the tokens is right, and whether it is wrong, (B,) 1 or 0 each.

    Between the two limits it is neither: such spectra are not used for lines. Without a true redshift there
    is no source, and any redshift is wrong.
    """
    known = ops.isfinite(true_redshift)
    true = ops.where(known, true_redshift, 0.0)
    off = ops.abs(redshift - true) / (1.0 + true)
    right = ops.logical_and(known, off < _RIGHT)
    wrong = ops.logical_or(ops.logical_not(known), off > _WRONG)
    return ops.cast(right, "float32"), ops.cast(wrong, "float32")


def line_flux_nll(line_flux, line_error, use, mean, sigma, unit):
    """Mean negative log-likelihood of arcsinh(flux / unit) over the lines (B, K) that count.

    ``line_error`` is that of a measurement, 0 for the truth; ``use`` is 1 or 0; ``mean`` and ``sigma`` are
    predicted; ``unit`` is the line's own noise.
    """
    unit = ops.maximum(unit, 1e-6)
    ratio = ops.clip(line_flux / unit, -1e5, 1e5)
    # By the derivative of arcsinh: the error of a measured flux in the coordinate in which the likelihood is.
    own = line_error / unit / ops.sqrt(1.0 + ratio**2)  # error of the arcsinh
    return masked_mean(gaussian_nll(ops.arcsinh(ratio), mean, sigma**2 + own**2), use)


def joint_nll(target, target_error, use, mean, covariance):
    """Mean over a batch of the negative log-likelihood of several normal numbers together, per number.

    Args:
        target: (B, F).
        target_error: (B, F), 0 for the truth.
        use: (B, F) 1 or 0; the others are marginalised.
        mean: (B, F) predicted.
        covariance: (B, F, F) predicted.
    """
    identity = np.eye(target.shape[-1], dtype="float32")
    both = use[:, :, None] * use[:, None, :]
    total = covariance * both + identity * ops.where(use > 0, target_error**2, 1.0)[:, None, :]
    size = ops.rsqrt(ops.einsum("bii->bi", total))
    # on a unit diagonal, with the jitter that float32 needs
    factor = ops.cholesky(total * size[:, :, None] * size[:, None, :] + 1e-6 * identity)
    off = ops.solve_triangular(factor, ((target - mean) * use * size)[..., None], lower=True)[..., 0]
    nll = 0.5 * _saturated(off**2) + ops.log(ops.einsum("bii->bi", factor) / size) + HALF_LOG_TWO_PI
    return masked_mean(nll, use)


def joint_loss(target, target_error, use, mean, covariance):
    """Half of `joint_nll`, and half of the same with each number by itself; arguments as there.

    Both are lowest at the truth. Along what all numbers share errors are large: without the second half a
    bias of all of them would cost next to nothing.
    """
    variance = ops.einsum("bii->bi", covariance) + target_error**2
    alone = masked_mean(gaussian_nll(target, mean, variance), use)
    return 0.5 * (joint_nll(target, target_error, use, mean, covariance) + alone)


def presence_loss(detectable, logit, use):
    """Cross-entropy of presence (B, K): a line that the reference would detect at 3 sigma is present."""
    # From the logit: a sigmoid rounds to 1 in float32 beyond 17, and its logarithm is then none.
    return masked_mean(ops.softplus(logit) - detectable * logit, use)


_WIDTH_WEIGHT = 0.2  # of the width of broad lines: known of few spectra, and never to 2 %


def broad_line_loss(logit, log_velocity, log_sigma, velocity, use):
    """Cross-entropy of there being broad lines, and likelihood of their width's logarithm; (B,) each.

    ``velocity`` is the true one [km/s], 0 without broad lines, NaN where unknown; ``use`` is 1 or 0.
    """
    use = use * ops.cast(ops.isfinite(velocity), "float32")
    true = ops.where(use > 0, velocity, 0.0)
    has = ops.cast(true > 0, "float32")
    width = gaussian_nll(ops.log(ops.maximum(true, 1.0)), log_velocity, ops.exp(2.0 * log_sigma))
    chance = ops.softplus(logit) - has * logit
    return masked_mean(chance, use) + _WIDTH_WEIGHT * masked_mean(width, use * has)
