"""Line tokens: numbers and windows per line in, line parameters out."""

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import SPEED_OF_LIGHT
from kspecsr.layers.geometry import prism_wavelength

HEADS = 7  # raw numbers per line: flux, log sigma, presence, log width, shift, log spread, log place error
# Sharper than the usual 1: at S/N near 0 a soft rectifier lifts every absent line, by ln(2) / sharpness in
# units of its noise.
_SHARP = 3.0  # of the soft rectifier that keeps fluxes positive
# Of arcsinh(flux / noise): from 1 % of a bright flux to 4.5 times the noise. The likelihood of one confident
# miss would otherwise outweigh a batch.
_LOG_SIGMA = (-4.5, 1.5)
# Power of presence that multiplies a line's flux. The mean is a posterior mean already, absent lines among
# what it averages over: times presence itself, faint lines lose half of their flux and blends get noisier.
_GATE = 0.2
_REACH = 3.0  # sigma of the redshift by which all lines may be shifted together
# 6 km/s: at a given redshift the error of the place is 0, and the line's error would have no part to learn
# from.
_PLACE = 2e-5  # least error of a line's place, as a fraction of the wavelength
_MOST_LOST = 0.7  # of a line's peak, where its place is uncertain by more than its width


@keras.saving.register_keras_serializable("kspecsr")
class LineScalars(keras.layers.Layer):
    """Numbers known about each line besides its window: direct fit, position, redshift.

    The error of the redshift is no input: lines would be drawn broader for uncertain redshifts, where it is
    the errors that have to grow (`LineDecoder`).

    Args:
        direct_fit: whether the fit's flux and error are inputs.

    Inputs:
        fit: flux, error and isolated error of `DirectLineFit`, (B, K) each [scale x Angstrom].
        positions: prism pixel, wavelength and whether in range, (B, K) each.
        redshift: (B,).

    Output shape:
        (B, K, 10).
    """

    def __init__(self, direct_fit=True, **options):
        super().__init__(**options)
        self.direct_fit = bool(direct_fit)

    def call(self, flux, error, unit, prism_pixel, wavelength, in_range, redshift):
        # Times 0 rather than left out: networks with and without the fit have the same shapes, and one
        # ablation is one switch.
        known = 1.0 if self.direct_fit else 0.0
        # A line on a pixel's centre and one on its edge leave different pixels; sine and cosine, so that 0.99
        # and 0.01 are neighbours.
        phase = 2.0 * np.pi * (prism_pixel - ops.floor(prism_pixel))
        z = ops.log1p(redshift)[:, None] * ops.ones_like(flux)
        scalars = ops.stack(
            [
                # arcsinh is linear for faint and logarithmic for bright lines, and takes negative fluxes,
                # which the fit gives to absent lines.
                known * ops.arcsinh(flux / unit),
                known * ops.arcsinh(flux / ops.maximum(error, 1e-12)),
                known * ops.log(ops.maximum(error / unit, 1e-3)),
                0.3 * ops.log(unit),
                ops.sin(phase),
                ops.cos(phase),
                prism_pixel * (2.0 / prism_wavelength().size) - 1.0,
                ops.log(wavelength),
                z,
                in_range,
            ],
            axis=-1,
        )
        return scalars * in_range[..., None]

    def get_config(self):
        return {**super().get_config(), "direct_fit": self.direct_fit}


@keras.saving.register_keras_serializable("kspecsr")
class LineDecoder(keras.layers.Layer):
    """Decode raw numbers per line to flux, error, width, position and presence.

    A flux is predicted in arcsinh of flux over the line's own noise, so that one head serves S/N 1 and 1,000,
    as a correction to the direct fit. All lines may be shifted together, by no more than the redshift's error
    makes likely: at a redshift that is given, by nothing.

    Args:
        direct_fit: whether fluxes start from the fit's.
        velocity_shift: largest shift of all lines together, as a fraction of the wavelength.
        line_shift: largest further shift of one line.
        max_velocity_sigma: broadest line [km/s].

    Inputs:
        raw: (B, K, 7); shift: (B, 1) raw common shift; fit_flux, fit_error, unit: (B, K); wavelength,
        reference_sigma [um], in_range: (B, K); relative_error: (B,) of 1 + z.

    Returns:
        Dictionary of (B, K): ``mean`` and ``sigma`` of arcsinh(flux / unit); ``presence`` and its ``logit``;
        ``flux``, times a gate, presence to a small power, and ``flux_error``, which allows for what the gate
        took away [scale x Angstrom]; ``spread`` and ``place_error`` [um] for `LineRendering`;
        ``wavelength`` and ``width`` [um]; ``prior_weight``; and ``shift`` (B,), the common one.
    """

    def __init__(
        self, direct_fit=True, velocity_shift=0.003, line_shift=0.0007, max_velocity_sigma=2500.0, **options
    ):
        super().__init__(**options)
        self.direct_fit = bool(direct_fit)
        self.velocity_shift, self.line_shift = float(velocity_shift), float(line_shift)
        self.max_velocity_sigma = float(max_velocity_sigma)

    def call(
        self, raw, shift, fit_flux, fit_error, unit, wavelength, reference_sigma, in_range, relative_error
    ):
        # A negative fit says as little as 0: the softplus after it could not undo a large negative start.
        start = ops.arcsinh(ops.maximum(fit_flux, 0.0) / unit) if self.direct_fit else 0.0
        mean = ops.softplus(_SHARP * (start + raw[..., 0])) / _SHARP
        # Shifted so that an untrained head, whose raw numbers are near 0, states half of the noise.
        sigma = ops.exp(ops.clip(raw[..., 1] - 0.7, *_LOG_SIGMA))
        logit = raw[..., 2]
        presence = ops.sigmoid(logit) * in_range
        gate = ops.exp(_GATE * ops.log_sigmoid(logit)) * ops.cast(presence > 0, "float32")
        flux = unit * ops.sinh(mean)
        flux_sigma = unit * ops.cosh(mean) * sigma
        # mean square of (true flux - gate x flux): what the gate takes away may yet be there
        error = ops.sqrt(flux_sigma**2 + ((1.0 - gate) * flux) ** 2)
        # As design.md defines PRIOR_WEIGHT; negative where the network is less sure than the fit, which is no
        # prior at all.
        owed = 1.0 - (flux_sigma / ops.maximum(fit_error, 1e-12)) ** 2
        return {
            "mean": mean,
            "sigma": sigma,
            "logit": logit,
            "presence": presence,
            "prior_weight": ops.clip(owed, 0.0, 1.0) * in_range,
            **self._drawn(
                raw, shift, gate * flux, error, wavelength, reference_sigma, in_range, relative_error
            ),
        }

    def _drawn(self, raw, shift, flux, error, wavelength, reference_sigma, in_range, relative_error):
        """Fluxes with the places and widths at which they are drawn, from the last four raw numbers."""
        # An untrained head starts at 55 km/s; the median of the simulated narrow lines is 52.
        velocity = ops.minimum(55.0 * ops.exp(ops.clip(raw[..., 3], -3.0, 5.0)), self.max_velocity_sigma)
        relative_error = relative_error[:, None]
        common = ops.minimum(_REACH * relative_error, self.velocity_shift) * ops.tanh(shift)  # (B, 1)
        wavelength = wavelength * (1.0 + common + self.line_shift * ops.tanh(raw[..., 4]))
        # In quadrature with the instrument, so that no line can be drawn narrower than the gratings would see
        # it.
        width = ops.sqrt(reference_sigma**2 + (velocity / SPEED_OF_LIGHT * wavelength) ** 2)
        # Relative to the redshift's own error, which the network may scale by e^2 either way: the two are
        # strongly correlated, and a free number would have to learn that first.
        place = (relative_error + _PLACE) * ops.exp(ops.clip(raw[..., 6], -2.0, 2.0)) * wavelength
        # a line that lies elsewhere is missing here: the square of the displacement takes from its peak
        lost = flux * ops.minimum(0.5 * (place / width) ** 2, _MOST_LOST)
        # Errors of pixels and errors of the flux part ways: a line whose width is wrong has the right flux
        # and wrong pixels.
        height = error * ops.exp(ops.clip(raw[..., 5], -3.0, 3.0))
        spread = ops.sqrt(height**2 + lost**2)
        return {
            "flux": flux,
            "flux_error": error * in_range,
            "spread": spread * in_range,
            "place_error": ops.minimum(place, width),
            "wavelength": wavelength,
            "width": width,
            "shift": common[:, 0],
        }

    def get_config(self):
        names = ("direct_fit", "velocity_shift", "line_shift", "max_velocity_sigma")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kspecsr")
class WindowChannels(keras.layers.Layer):
    """Channels from which the windows of lines are sampled.

    Inputs:
        flux, error, good, amplitude, base, model: (B, P); sr1_flux, sr1_error: (B, N).

    Returns:
        On the prism's pixels (B, P, 5), and on the unified grid (B, N, 2).
    """

    def call(self, flux, error, good, amplitude, base, model, sr1_flux, sr1_error):
        on_prism = ops.stack(
            [
                # Residuals with and without the fitted lines: the first shows the line, the second what the
                # fit could not explain.
                0.5 * ops.arcsinh((flux - base) / error) * good,
                0.5 * ops.arcsinh((flux - model) / error) * good,
                (flux - base) / amplitude * good,
                0.3 * ops.log(error / amplitude),
                good,
            ],
            axis=-1,
        )
        on_grid = ops.stack(
            [ops.arcsinh(sr1_flux / sr1_error) * 0.5, 0.3 * ops.log(ops.maximum(sr1_error, 1e-6))], axis=-1
        )
        return on_prism, on_grid


@keras.saving.register_keras_serializable("kspecsr")
class LinesAttend(keras.layers.Layer):
    """Lines in range as an attention mask.

    Input shape:
        (B, K).

    Output shape:
        (B, 1, K) bool.
    """

    def call(self, in_range):
        return in_range[:, None, :] > 0.5


@keras.saving.register_keras_serializable("kspecsr")
class CommonShift(keras.layers.Layer):
    """Common shift of all lines, as their weighted vote: an error of the redshift moves them together.

    Inputs:
        votes: (B, K, 2) shift and logit of its weight; in_range: (B, K).

    Output shape:
        (B, 1).
    """

    def call(self, votes, in_range):
        # Lines out of range must not vote; -1e4 is none in float32 and still finite in half precision.
        weight = ops.softmax(votes[..., 1] - 1e4 * (1.0 - in_range), axis=-1)
        return ops.sum(weight * votes[..., 0] * in_range, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("kspecsr")
class LineIdentity(keras.layers.Layer):
    """Adds a learned vector per line: doublet partners look alike but are not (paper section 3.3).

    Input shape:
        (B, K, D).

    Output shape:
        The same.
    """

    def build(self, input_shape):
        """One vector per line."""
        self.embedding = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.3),
            name="embedding",
        )

    def call(self, tokens):
        return tokens + self.embedding
