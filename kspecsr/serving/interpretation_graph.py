"""From the networks' outputs to what is reported: `kspecsr.interpretation` as TensorFlow ops."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from kspecsr.consistency import PIXEL_NOISE_VARIANCE, seen_on_grid
from kspecsr.flags import NO_COVERAGE, FlagThresholds
from kspecsr.layers import PrismDegradation, plain_grid
from kspecsr.prism_input import prism_wavelength
from kspecsr.result import ModelIdentity
from kspecsr.serving.flags_graph import find_flags_graph
from kspecsr.serving.output_mask_graph import output_mask_graph
from kspecsr.serving.redshift_modes_graph import confidence_and_error
from kspecsr.serving.status import STATUS_BITS

_SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error")
_BLANKED = ("flux", "flux_error", "wavelength", "fwhm", "equivalent_width", "prior_weight")
Tensors = dict[str, tf.Tensor]


class InterpretationGraph:
    """What `kspecsr.interpretation.Interpreter` does with one spectrum, for batches and inside a graph.

    Args:
        identity: which model.
        bins: (Z,) ln(1 + z) of P(z).
        thresholds: below what a spectrum is flagged.
    """

    def __init__(self, identity: ModelIdentity, bins: np.ndarray, thresholds: FlagThresholds):
        grid = identity.grid
        self.bins = np.asarray(bins, dtype=np.float64)
        self.thresholds = thresholds
        self.wavelength = grid.wavelength
        prism = prism_wavelength()
        self._on_range = (prism >= grid.start) & (prism <= grid.stop)
        self._interior = seen_on_grid(grid)
        self._degradation = PrismDegradation(plain_grid(grid), dtype="float32")

    def redshift(self, prism: tuple, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        """Redshift with error, confidence and P(z), and the flags as far as they go.

        Args:
            prism: flux, error (B, P) float64 and mask (B, P) bool.
            outputs: ``redshift`` (B,) and ``redshift_probability`` (B, Z) of the networks.
            given: (B,) float64, redshifts that the caller gave; NaN for none.

        Returns:
            ``redshift``, ``redshift_error``, ``redshift_confidence``, ``status`` (B,) and
            ``redshift_probability`` (B, Z).
        """
        summary = self._summary(outputs, given)
        known = tf.math.is_finite(given)
        flags = find_flags_graph(
            prism, self._on_range, summary["redshift_confidence"], known, self.thresholds
        )
        return {**_reported(summary, flags, known), "status": _status(flags)}

    def everything(self, prism: tuple, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        """All that is reported.

        Args:
            prism: as above.
            outputs: of the composed model.
            given: as above.

        Returns:
            As above, and spectra (B, N), ``line_*`` (B, K), ``chi_square`` (B,), ``prism_model`` (B, P).
        """
        flux, error, mask = prism
        lost = output_mask_graph(mask, self.wavelength)
        lines = self._lines(outputs, lost)
        summary = self._summary(outputs, given)
        known = tf.math.is_finite(given)
        finite = tf.math.is_finite(outputs["flux"]) & tf.math.is_finite(outputs["flux_error"])
        flags = find_flags_graph(
            prism,
            self._on_range,
            summary["redshift_confidence"],
            known,
            self.thresholds,
            tf.reduce_sum(tf.cast(lines["line_in_range"], tf.int32), axis=1),
            tf.reduce_all(finite | lost, axis=1),
        )
        flagged = tf.reduce_any(tf.stack(list(flags.values())), axis=0)[:, None]
        nan = tf.constant(np.nan, tf.float32)
        for name in _BLANKED:
            lines[f"line_{name}"] = tf.where(flagged, nan, lines[f"line_{name}"])
        lines["line_presence"] = tf.where(flagged, 0.0, lines["line_presence"])
        model = tf.where(self._interior, self._degradation(outputs["sr1_flux"]), nan)
        alone = {
            **outputs,
            "flux": outputs["sr1_flux"],
            "flux_error": outputs["sr1_error"],
            "continuum": tf.fill(tf.shape(outputs["continuum"]), nan),
        }
        spectra = {
            name: tf.where(lost, nan, tf.where(flagged, alone[name], outputs[name])) for name in _SPECTRA
        }
        chi_square = tf.cast(_chi_square(flux, error, mask, model), tf.float32)
        return {
            **spectra,
            **lines,
            **_reported(summary, flags, known),
            "prism_model": tf.where(flagged, model, outputs["prism_model"]),
            "chi_square": tf.where(flagged[:, 0], chi_square, outputs["chi_square"]),
            "status": _status(flags),
        }

    def _summary(self, outputs: Mapping[str, tf.Tensor], given: tf.Tensor) -> Tensors:
        redshift = tf.where(tf.math.is_finite(given), given, tf.cast(outputs["redshift"], tf.float64))
        probability = tf.cast(outputs["redshift_probability"], tf.float64)
        probability = tf.where(tf.math.is_finite(probability), probability, tf.zeros_like(probability))
        total = tf.reduce_sum(probability, axis=1, keepdims=True)
        probability = tf.math.divide_no_nan(probability, total)
        confidence, error = confidence_and_error(probability, self.bins, redshift)
        return {
            "redshift": redshift,
            "redshift_error": error,
            "redshift_confidence": confidence,
            "redshift_probability": probability,
        }

    def _lines(self, outputs: Mapping[str, tf.Tensor], lost: tf.Tensor) -> Tensors:
        """Lines, blank where their centre does not lie on data."""
        lines = {name: outputs[name] for name in outputs if name.startswith("line_")}
        size = self.wavelength.size
        centre = tf.cast(lines["line_wavelength"], tf.float64)
        place = tf.reshape(
            tf.searchsorted(tf.constant(self.wavelength), tf.reshape(centre, [-1])), tf.shape(centre)
        )
        place = tf.clip_by_value(place, 1, size - 1)
        before, after = (tf.gather(self.wavelength, place - step) for step in (1, 0))
        place -= tf.cast((centre - before) < (after - centre), tf.int32)
        flux, error = lines["line_flux"], lines["line_flux_error"]
        in_range = tf.not_equal(lines["line_in_range"], 0) & ~tf.gather(lost, place, batch_dims=1)
        in_range &= tf.math.is_finite(flux) & tf.math.is_finite(error) & (error > 0)
        nan = tf.constant(np.nan, tf.float32)
        for name in _BLANKED:
            lines[f"line_{name}"] = tf.where(in_range, lines[f"line_{name}"], nan)
        lines["line_presence"] = tf.where(in_range, lines["line_presence"], tf.zeros_like(flux))
        return {**lines, "line_in_range": in_range}


def _reported(summary: Tensors, flags: Tensors, known: tf.Tensor) -> Tensors:
    """The redshift as results state it: none without coverage, no error where it was given."""
    nothing = flags[NO_COVERAGE] & ~known
    nan = tf.constant(np.nan, tf.float64)
    zero = tf.zeros_like(summary["redshift"])
    error = tf.where(known, zero, summary["redshift_error"])
    changed = {
        "redshift": tf.where(nothing, nan, summary["redshift"]),
        "redshift_error": tf.where(nothing, nan, error),
        "redshift_confidence": tf.where(nothing, zero, summary["redshift_confidence"]),
        "redshift_probability": tf.where(nothing[:, None], zero[:, None], summary["redshift_probability"]),
    }
    return {name: tf.cast(values, tf.float32) for name, values in changed.items()}


def _status(flags: Tensors) -> tf.Tensor:
    return tf.add_n([STATUS_BITS[name] * tf.cast(values, tf.int32) for name, values in flags.items()])


def _chi_square(flux: tf.Tensor, error: tf.Tensor, mask: tf.Tensor, model: tf.Tensor) -> tf.Tensor:
    """Per good prism pixel, as `kspecsr.consistency.prism_chi_square`."""
    model = tf.cast(model, tf.float64)
    good = ~mask & tf.math.is_finite(model)
    residual = tf.where(good, (flux - model) / error, tf.zeros_like(flux))
    count = tf.reduce_sum(tf.cast(good, tf.float64), axis=1)
    return tf.reduce_sum(residual**2, axis=1) / count / PIXEL_NOISE_VARIANCE
