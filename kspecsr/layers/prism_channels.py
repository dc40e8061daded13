"""Normalisation of prism spectra, the input channels of the networks, and unit conversions."""

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.layers.geometry import GridLayer, prism_wavelength


@keras.saving.register_keras_serializable("kspecsr")
class PrismChannels(keras.layers.Layer):
    """Channels on the prism's pixels: flux, S/N, error, what is masked, and where on the detector.

    Inputs:
        flux, error, good, amplitude: (B, P) of `PrismNormalisation`.

    Output shape:
        (B, P, 7).
    """

    def call(self, flux, error, good, amplitude):
        centre = prism_wavelength()
        # A convolution does not know where it is, and R(lambda) and the noise depend on it.
        place = np.linspace(-1.0, 1.0, centre.size)
        # pixels are not evenly spaced in log wavelength: dispersion differs by a factor of four
        # The 5.5 brings it to order one, as the other channels are.
        dispersion = np.log(np.gradient(centre) / centre) + 5.5
        fixed = np.stack([place, dispersion], axis=-1).astype("float32")
        fixed = ops.broadcast_to(fixed, (ops.shape(flux)[0], *fixed.shape))
        channels = ops.stack(
            [
                # Compressed: a line a thousand times the continuum would otherwise own the first layer's
                # gradients. The linear flux comes again below, in units of its surroundings.
                ops.arcsinh(flux),
                0.3 * ops.arcsinh(flux / error) * good,
                0.3 * ops.log(error),
                good,
                flux / amplitude * good,
            ],
            axis=-1,
        )
        return ops.concatenate([channels, fixed], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class ToGridChannels(keras.layers.Layer):
    """Stacks maps into channels, (B, n) each to (B, n, maps)."""

    def call(self, *maps):
        return ops.stack(maps, axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class SubPixelPhase(GridLayer):
    """Add features of the position of each unified-grid pixel within its prism pixel.

    Interpolated features know the prism's pixels only; a line is sharper than those.

    Input shape:
        (B, N, C).

    Output shape:
        The same.
    """

    def build(self, input_shape):
        """Weights from phase and pixel size to the channels."""
        self._phase = _phase_channels(self.grid).astype("float32")
        self.kernel = self.add_weight(
            shape=(self._phase.shape[1], input_shape[-1]), initializer="glorot_uniform", name="kernel"
        )

    def call(self, x):
        phase = ops.cast(ops.convert_to_tensor(self._phase), x.dtype)
        return x + ops.matmul(phase, ops.cast(self.kernel, x.dtype))


def _phase_channels(grid) -> np.ndarray:
    """(N, 5) sines and cosines of the phase and of its double, log of grid pixels per prism pixel."""
    wavelength = UnifiedGrid(*grid).wavelength
    place = load_instrument(PRISM).position(wavelength)
    per_pixel = 1.0 / np.maximum(np.gradient(place), 1e-6)
    angle = 2.0 * np.pi * (place - np.floor(place))
    waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    return np.stack([*waves, np.log(per_pixel) - 2.0], axis=-1)


@keras.saving.register_keras_serializable("kspecsr")
class SignalToNoise(keras.layers.Layer):
    """Compressed S/N per pixel, 0 where bad.

    Inputs:
        flux, error, good: (B, P).

    Output shape:
        (B, P).
    """

    def call(self, flux, error, good):
        return 0.5 * ops.arcsinh(flux / error) * good


_LEAST_ERROR = 1e-4  # of the spectrum's scale: float32 squares below it mean nothing
_REACH = 2.5  # pixels over which the local amplitude is averaged, a little less than the line-spread FWHM


@keras.saving.register_keras_serializable("kspecsr")
class PrismNormalisation(keras.layers.Layer):
    """Normalises prism spectra so that everything after it is free of the flux unit.

    A pixel is good where it is not masked and flux and error are finite and the error positive. The scale is
    the geometric mean over good pixels of sqrt(flux^2 + error^2): neither one bright line nor the noisy ends
    of the range set it. All outputs but ``scale`` and ``good`` are in units of the scale.

    Inputs:
        flux: (B, P) any unit of order one.
        error: (B, P) one sigma.
        mask: (B, P) bool, True = bad.

    Returns:
        Dictionary of ``scale`` (B, 1); ``flux``, filled from good neighbours where bad (B, P); ``error``
        (B, P), large where bad; ``good`` (B, P), 1 or 0; ``amplitude`` (B, P), root mean square of flux and
        error in the neighbourhood, the natural unit of corrections.
    """

    def build(self, *_):
        """Fixed averaging kernels over the pixels."""
        # Matrices over all pairs of pixels, not convolutions: masked neighbours are left out and the rest is
        # weighted anew, which no fixed kernel does. 706 x 706 is small.
        distance = np.abs(np.subtract.outer(np.arange(self._pixels), np.arange(self._pixels)))
        # Steep, so that a gap takes its values from its rims; never 0, so that the widest gap has some.
        fill = 1.0 / (0.25 + distance.astype(float)) ** 4
        # The faint tail only matters in gaps wider than the Gaussian.
        near = np.exp(-0.5 * (distance / _REACH) ** 2) + 1e-6 / (1.0 + distance) ** 2
        self._fill = (fill / fill.sum(axis=1, keepdims=True)).astype("float32").T
        self._near = (near / near.sum(axis=1, keepdims=True)).astype("float32").T

    @property
    def _pixels(self) -> int:
        return prism_wavelength().size

    def call(self, flux, error, mask):
        usable = ops.logical_and(ops.isfinite(flux), ops.logical_and(ops.isfinite(error), error > 0))
        good_pixel = ops.logical_and(ops.logical_not(ops.cast(mask, "bool")), usable)
        good = ops.cast(good_pixel, "float32")  # (B, P)
        flux, error = ops.where(good_pixel, flux, 0.0), ops.where(good_pixel, error, 1.0)
        # the logarithm of the larger number first: its square may overflow
        largest = ops.maximum(ops.abs(flux), error)
        ratio = ops.minimum(ops.abs(flux), error) / largest
        log_size = ops.log(largest) + 0.5 * ops.log1p(ratio * ratio)
        count = ops.maximum(ops.sum(good, axis=-1, keepdims=True), 1.0)
        scale = ops.exp(ops.sum(good * log_size, axis=-1, keepdims=True) / count)  # (B, 1)
        # The floor is relative to the scale: a spectrum a thousand times fainter is treated alike.
        flux, error = flux / scale, ops.maximum(error / scale, _LEAST_ERROR)
        seen = ops.matmul(good, self._fill)
        filled = ops.matmul(flux * good, self._fill) / ops.maximum(seen, 1e-20)
        near = ops.maximum(ops.matmul(good, self._near), 1e-20)
        square = ops.matmul(good * (flux * flux + error * error), self._near) / near
        amplitude = ops.sqrt(square + _LEAST_ERROR**2)
        return {
            "scale": scale,
            "flux": ops.where(good_pixel, flux, filled),
            # Large but finite: S/N channels go to 0 there without a division by 0, and `good` says the rest.
            "error": ops.where(good_pixel, error, 10.0 * amplitude),
            "good": good,
            "amplitude": amplitude,
        }


@keras.saving.register_keras_serializable("kspecsr")
class Divide(keras.layers.Layer):
    """x / scale.

    Inputs:
        x: (B, n); scale: (B, 1).
    """

    def call(self, x, scale):
        return x / scale


@keras.saving.register_keras_serializable("kspecsr")
class Multiply(keras.layers.Layer):
    """x * scale.

    Inputs:
        x: (B, n); scale: (B, 1).
    """

    def call(self, x, scale):
        return x * scale


@keras.saving.register_keras_serializable("kspecsr")
class BrightestPixel(keras.layers.Layer):
    """Largest absolute flux or error of a spectrum's good pixels.

    Inputs:
        flux, error, good: (B, P).

    Output shape:
        (B, 1).
    """

    def call(self, flux, error, good):
        # With the error, so that the cap does not vanish for a spectrum that is only noise.
        return ops.max(good * (ops.abs(flux) + error), axis=-1, keepdims=True) + 1e-3


@keras.saving.register_keras_serializable("kspecsr")
class UnitConversion(keras.layers.Layer):
    """Multiplies by a fixed factor, in float32.

    Args:
        factor: e.g. 1e20 from erg/s/cm2/A to the unit inside the networks.
    """

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = float(factor)

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
