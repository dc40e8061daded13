"""Layers of the redshift network: channels in log wavelength, correlation with templates, P(z)."""

import keras
import numpy as np
from keras import ops
from scipy.fft import next_fast_len

from data_pipeline.lines import load_lines
from kspecsr.results.redshift import BIN_WIDTH

_SURROUNDINGS = 121  # steps of the running mean that is taken off the channels
_LINE_WIDTH = 1.5  # steps, of the lines that the templates start from


@keras.saving.register_keras_serializable("kspecsr")
class RedshiftChannels(keras.layers.Layer):
    """Channels on log wavelength from the first stage's output and the prism's S/N.

    Everything is zero where the prism has no data, so that a shifted spectrum gives shifted channels.

    Args:
        pooling: pixels of the unified grid per step.

    Inputs:
        flux, error: (B, N) of the first stage.
        scale: (B, 1).
        prism: (B, N, 2) S/N (arcsinh) and good pixels of the prism, up-sampled.

    Returns:
        Channels (B, M, 5) and coverage (B, M, 1), 1 or 0, with M = N // pooling.
    """

    def __init__(self, pooling, **options):
        super().__init__(**options)
        self.pooling = int(pooling)

    def call(self, flux, error, scale, prism):
        coverage = ops.cast(self._pooled(prism[..., 1]) > 0.5, "float32")
        # In units of the spectrum's own scale, so that a galaxy ten times as bright has the same redshift.
        mean = self._pooled(flux / scale) * coverage
        # Its logarithm and its inverse are taken below.
        sigma = ops.maximum(self._pooled(error / scale), 1e-5)
        around = ops.average_pool(mean[..., None], _SURROUNDINGS, strides=1, padding="same")[..., 0]
        channels = ops.stack(
            [
                ops.arcsinh(mean),
                0.2 * ops.log(sigma),
                0.5 * ops.arcsinh(mean / sigma),
                0.5 * ops.arcsinh((mean - around) / sigma),
                self._pooled(prism[..., 0]),
            ],
            axis=-1,
        )
        return channels * coverage[..., None], coverage[..., None]

    def _pooled(self, x):
        length = x.shape[1] // self.pooling
        x = ops.reshape(x[:, : length * self.pooling], (-1, length, self.pooling))
        return ops.mean(x, axis=-1)

    def get_config(self):
        return {**super().get_config(), "pooling": self.pooling}


@keras.saving.register_keras_serializable("kspecsr")
class LogCorrelation(keras.layers.Layer):
    """One score per redshift: features against templates, shifted in log wavelength.

    In log wavelength a redshift is a translation. Features F on m steps from
    log(start) and templates T in the rest frame give ``score[k] = sum_i F[i] T[i - k]``, at all k by FFT.
    Between whole steps the correlation is interpolated as what it is, band-limited: by zeros appended to its
    Fourier transform. Redshifts are measured to a fraction of a step, and features need not be finer for it.

    Args:
        steps: redshifts at log(1 + z) = 0, step, 2 step ...
        step: of log wavelength.
        start: wavelength of the first feature [um].
        groups: scores per redshift; the channels are shared out between them.
        finer: redshifts per step; Z = finer (steps - 1) + 1.
        lines: name of the list that the templates start from.

    Input shape:
        (B, M, T), T a multiple of ``groups``.

    Output shape:
        (B, Z, groups).
    """

    def __init__(self, steps, step, start, groups, finer=1, lines="first", **options):
        super().__init__(**options)
        self.steps, self.step = int(steps), float(step)
        self.start, self.groups, self.finer = float(start), int(groups), int(finer)
        self.lines = str(lines)

    def build(self, input_shape):
        """Templates, which start from the lines with random strengths."""
        _, length, channels = input_shape
        if channels % self.groups:
            raise ValueError(
                f"{self.name}: expected a multiple of {self.groups} channels, got input shape {input_shape}"
            )
        # The rest frame must reach from the blue end at the highest redshift to the red end at z = 0.
        self._rest = length + self.steps - 1
        # No shorter than the rest frame: the circular correlation of a shorter transform would let large
        # redshifts wrap around into small ones.
        self._length = 2 * next_fast_len(-(-self._rest // 2), real=True)  # even, of small factors
        self.templates = self.add_weight(
            shape=(channels, self._rest), initializer=self._initial_templates, name="templates"
        )

    def _initial_templates(self, shape, dtype=None):
        # Seeded apart from Keras: two stages built in another order start from the same templates.
        random = np.random.default_rng(self.steps)
        rest = np.log(self.start) + (np.arange(shape[1]) - (self.steps - 1)) * self.step
        place = (np.log(load_lines(self.lines).wavelength)[:, None] - rest) / (_LINE_WIDTH * self.step)
        lines = np.exp(-0.5 * place**2)  # (K, R)
        strength = random.normal(0.0, 0.1, (shape[0], lines.shape[0]))
        return ops.cast(strength @ lines + random.normal(0.0, 0.003, shape), dtype)

    def call(self, features):
        signal = ops.transpose(features, (0, 2, 1))  # (B, T, M)
        signal_real, signal_imag = ops.rfft(signal, fft_length=self._length)
        real, imag = ops.rfft(self.templates, fft_length=self._length)
        # Products of complex numbers by hand: Keras has no complex tensors, and its transforms return pairs.
        product_real = signal_real * real + signal_imag * imag  # conjugate(F) T
        product_imag = signal_real * imag - signal_imag * real
        grouped = (-1, self.groups, features.shape[-1] // self.groups, self._length // 2 + 1)
        # Summed before the inverse transform, which is linear: one transform per group instead of one per
        # channel.
        product_real = ops.sum(ops.reshape(product_real, grouped), axis=2)
        product_imag = ops.sum(ops.reshape(product_imag, grouped), axis=2)
        lags = self._interpolated(product_real, product_imag)
        # a lag is steps - 1 - k: the rest frame of the largest redshift begins first
        wanted = self.finer * (self.steps - 1) + 1
        return ops.transpose(ops.flip(lags[..., :wanted], axis=-1), (0, 2, 1))

    def _interpolated(self, real, imag):
        """(B, groups, lags) the inverse transform, with ``finer`` values per step."""
        if self.finer == 1:
            return ops.irfft((real, imag), fft_length=self._length)
        length = self.finer * self._length
        beyond = length // 2 - self._length // 2
        # the highest frequency stands for itself and its negative, which are two now
        share = np.ones(self._length // 2 + 1, "float32")
        share[-1] = 0.5
        real, imag = (ops.pad(part * share, ((0, 0), (0, 0), (0, beyond))) for part in (real, imag))
        return self.finer * ops.irfft((real, imag), fft_length=length)

    def get_config(self):
        names = ("steps", "step", "start", "groups", "finer", "lines")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kspecsr")
class LogProbability(keras.layers.Layer):
    """Normalised log probability over redshift bins from scores.

    Inputs:
        scores: (B, Z, G); refined: (B, Z, 1).

    Output shape:
        (B, Z).
    """

    def call(self, scores, refined):
        return ops.log_softmax(ops.sum(scores, axis=-1) + refined[..., 0], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class WholeSpectrum(keras.layers.Layer):
    """What of a spectrum says whether it has a redshift at all: features without their place, and P(z).

    Inputs:
        features: (B, M, T), 0 where there is no data.
        coverage: (B, M, 1), 1 or 0.
        log_probability: (B, Z).

    Returns:
        (B, 3 T + 3): mean, largest and smallest of each feature; logarithm of P(z) at its highest bin, its
        entropy, and the share of the range that is covered.
    """

    def call(self, features, coverage, log_probability):
        share = ops.mean(coverage, axis=1)
        mean = ops.mean(features, axis=1) / ops.maximum(share, 1e-3)
        peak = ops.max(log_probability, axis=-1, keepdims=True)
        entropy = -ops.sum(ops.exp(log_probability) * log_probability, axis=-1, keepdims=True)
        extremes = [ops.max(features, axis=1), ops.min(features, axis=1)]
        return ops.concatenate([mean, *extremes, peak, entropy, share], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class RedshiftEstimate(keras.layers.Layer):
    """Mean and standard deviation of P(z) around its highest bin, or the redshift that is given.

    P(z) is a normal of its own per bin (`kspecsr.results.redshift.BIN_WIDTH`).

    Args:
        step: of log(1 + z) between bins.
        reach: bins on either side of the highest one that take part.

    Inputs:
        log_probability: (B, Z).
        given: (B,), NaN where the redshift is to be inferred.

    Returns:
        Redshift (B,) and its one-sigma error (B,), 0 where it was given.
    """

    def __init__(self, step, reach=8, **options):
        super().__init__(**options)
        self.step, self.reach = float(step), int(reach)

    def call(self, log_probability, given):
        offsets = np.arange(-self.reach, self.reach + 1)
        highest = ops.cast(ops.argmax(log_probability, axis=-1), "int32")[:, None]
        wanted = highest + offsets.astype("int32")
        # Around the maximum only: the mean of a P(z) with two modes is a redshift that nobody proposed.
        index = ops.clip(wanted, 0, log_probability.shape[-1] - 1)
        beyond = ops.cast(ops.not_equal(wanted, index), "float32")  # no bin counts twice at the ends
        weight = ops.softmax(ops.take_along_axis(log_probability, index, axis=1) - 1e4 * beyond, axis=-1)
        # around the highest bin, where float32 resolves a thousandth of a step
        place = ops.cast(index - highest, "float32")
        mean = ops.sum(weight * place, axis=-1)
        variance = ops.sum(weight * (place - mean[:, None]) ** 2, axis=-1) + BIN_WIDTH**2
        # expm1, not exp - 1: the redshifts of interest differ in the fourth digit of 1 + z.
        inferred = ops.expm1((ops.cast(highest[:, 0], "float32") + mean) * self.step)
        error = (1.0 + inferred) * self.step * ops.sqrt(variance)
        known = ops.logical_and(ops.isfinite(given), given > -0.9)  # what is no redshift is inferred
        return ops.where(known, ops.where(known, given, 0.0), inferred), ops.where(known, 0.0, error)

    def get_config(self):
        return {**super().get_config(), "step": self.step, "reach": self.reach}
