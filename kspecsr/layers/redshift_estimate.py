"""A redshift and its error from the main mode of P(z)."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.predictive import BIN_WIDTH


@keras.saving.register_keras_serializable("kspecsr")
class RedshiftEstimate(keras.layers.Layer):
    """Mean and standard deviation of P(z) around its highest bin, or the redshift that is given.

    P(z) is a normal of its own per bin (`kspecsr.predictive.BIN_WIDTH`).

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
        """See the class."""
        offsets = np.arange(-self.reach, self.reach + 1)
        highest = ops.cast(ops.argmax(log_probability, axis=-1), "int32")[:, None]
        wanted = highest + offsets.astype("int32")
        index = ops.clip(wanted, 0, log_probability.shape[-1] - 1)
        beyond = ops.cast(ops.not_equal(wanted, index), "float32")  # no bin counts twice at the ends
        weight = ops.softmax(ops.take_along_axis(log_probability, index, axis=1) - 1e4 * beyond, axis=-1)
        # around the highest bin, where float32 resolves a thousandth of a step
        place = ops.cast(index - highest, "float32")
        mean = ops.sum(weight * place, axis=-1)
        variance = ops.sum(weight * (place - mean[:, None]) ** 2, axis=-1) + BIN_WIDTH**2
        inferred = ops.expm1((ops.cast(highest[:, 0], "float32") + mean) * self.step)
        error = (1.0 + inferred) * self.step * ops.sqrt(variance)
        known = ops.logical_and(ops.isfinite(given), given > -0.9)  # what is no redshift is inferred
        return ops.where(known, ops.where(known, given, 0.0), inferred), ops.where(known, 0.0, error)

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "step": self.step, "reach": self.reach}
