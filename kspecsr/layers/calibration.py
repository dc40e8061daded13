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
