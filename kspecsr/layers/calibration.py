"""Calibration of errors and P(z) inside the graph, so that exported models are calibrated too."""

import keras
import numpy as np
from keras import ops

from kspecsr.layers.geometry import look_up


@keras.saving.register_keras_serializable("kspecsr")
class ErrorCalibration(keras.layers.Layer):
    """Multiply errors by a factor that depends on S/N (`kspecsr.configuration.calibration.ErrorScale`).

    Args:
        start: log10(S/N) of the first knot.
        step: of log10(S/N) between knots.
        factor: factors at the knots.

    Inputs:
        value, error: any shape, errors positive.

    Output shape:
        That of ``error``.
    """

    def __init__(self, start, step, factor, **options):
        super().__init__(**options)
        self.start, self.step = float(start), float(step)
        self.factor = [float(value) for value in factor]

    def call(self, value, error):
        # The floors keep the logarithm and the quotient finite where a flux or an error is exactly 0; S/N of
        # 1e-4 is far below the first knot, where the table holds its end.
        ratio = ops.maximum(ops.abs(value) / ops.maximum(error, 1e-30), 1e-4)
        place = (ops.log(ratio) * np.float32(1.0 / np.log(10.0)) - self.start) / self.step
        # A look-up interpolates between two nodes, so that one factor alone is written twice.
        table = np.array(self.factor if len(self.factor) > 1 else self.factor * 2, "float32")
        return error * look_up(place, table)

    def get_config(self):
        return {**super().get_config(), "start": self.start, "step": self.step, "factor": self.factor}


@keras.saving.register_keras_serializable("kspecsr")
class SameShare(keras.layers.Layer):
    """Errors of parts by the factor of their whole's.

    Inputs:
        error, whole, before: one shape; of the part, and of the whole with and without its calibration.

    Output shape:
        The same.
    """

    def call(self, error, whole, before):
        return error * ops.where(before > 0, whole / ops.where(before > 0, before, 1.0), 1.0)


@keras.saving.register_keras_serializable("kspecsr")
class PixelErrorCalibration(keras.layers.Layer):
    """Errors of the spectrum from the part without lines, and the part of the lines.

    Args:
        continuum, lines: arguments of an `ErrorCalibration` each.

    Inputs:
        flux, error, continuum, continuum_error: (B, N).

    Returns:
        Error of the flux and error of the continuum, (B, N) each.
    """

    def __init__(self, continuum, lines, **options):
        super().__init__(**options)
        self.continuum, self.lines = dict(continuum), dict(lines)
        self._continuum = ErrorCalibration(**continuum, dtype="float32")
        self._lines = ErrorCalibration(**lines, dtype="float32")

    def call(self, flux, error, continuum, continuum_error):
        drawn = flux - continuum
        # of the ratio: squares of small fluxes are below what float32 holds
        share = ops.sqrt(ops.maximum(1.0 - (continuum_error / error) ** 2, 0.0))
        plain = self._continuum(continuum, continuum_error)
        lines = self._lines(drawn, share * error)
        # As a hypotenuse, scaled by the larger part: whatever the unit, no square leaves float32.
        larger = ops.maximum(plain, lines)
        return larger * ops.sqrt((plain / larger) ** 2 + (lines / larger) ** 2), plain

    def get_config(self):
        return {**super().get_config(), "continuum": self.continuum, "lines": self.lines}


@keras.saving.register_keras_serializable("kspecsr")
class RedshiftCalibration(keras.layers.Layer):
    """log P(z) times an exponent, normalised again.

    Args:
        exponent: above 1 makes P(z) narrower.

    Input shape:
        (B, Z).
    """

    def __init__(self, exponent, **options):
        super().__init__(**options)
        self.exponent = float(exponent)

    def call(self, log_probability):
        return ops.log_softmax(self.exponent * log_probability, axis=-1)

    def get_config(self):
        return {**super().get_config(), "exponent": self.exponent}


@keras.saving.register_keras_serializable("kspecsr")
class FitProbability(keras.layers.Layer):
    """Share of simulated spectra of a spectrum's S/N that the output describes worse than this one.

    Logarithms of chi-squares are linear in log10(S/N) between knots and constant beyond; that of the share is
    linear in the logarithm of chi-square, beyond the last one of the table, too, on the slope of its last
    two. Below the first it is the first share.

    Args:
        place, share, chi_square: see `kspecsr.configuration.calibration.FitTable`.

    Inputs:
        chi_square: (B,).
        flux, error, mask: (B, P) of the prism, True = bad.

    Output shape:
        (B,), NaN where ``chi_square`` is.
    """

    def __init__(self, place, share, chi_square, **options):
        super().__init__(**options)
        self.place, self.share, self.chi_square = list(place), list(share), [list(row) for row in chi_square]

    def call(self, chi_square, flux, error, mask):
        place, table = np.array(self.place, "float32"), np.log(np.array(self.chi_square, "float32"))
        share = np.log(np.array(self.share, "float32"))
        level = ops.log(ops.maximum(median_signal_to_noise(flux, error, mask), 1e-4)) / np.log(10.0)
        part = ops.clip((level[:, None] - place[:-1]) / np.diff(place), 0.0, 1.0)
        usual = table[:1] + ops.matmul(part, np.diff(table, axis=0))
        step = (ops.log(ops.maximum(chi_square, 1e-6))[:, None] - usual[:, :-1]) / (
            usual[:, 1:] - usual[:, :-1]
        )
        most = np.append(np.ones(share.size - 2, "float32"), np.float32(np.inf))  # the last one goes on
        passed = ops.minimum(ops.maximum(step, 0.0), most)
        probability = ops.exp(share[0] + ops.sum(passed * np.diff(share), axis=-1))
        return ops.where(ops.isfinite(chi_square), probability, np.float32(np.nan))

    def get_config(self):
        return {
            **super().get_config(),
            "place": self.place,
            "share": self.share,
            "chi_square": self.chi_square,
        }


def median_signal_to_noise(flux, error, mask):
    """(B,) median S/N of good pixels, of flux, error and mask (B, P), True = bad; infinite without any."""
    ratio = ops.sort(ops.where(mask, np.float32(np.inf), flux / ops.where(mask, 1.0, error)), axis=-1)
    count = ops.sum(ops.where(mask, 0, 1), axis=-1, keepdims=True)
    low, high = ((count - below) // 2 for below in (1, 0))
    pair = [ops.take_along_axis(ratio, ops.maximum(at, 0), axis=-1) for at in (low, high)]
    return 0.5 * (pair[0] + pair[1])[:, 0]
