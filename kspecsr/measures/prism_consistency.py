"""Chi-square of the output as the prism would have seen it, against what it saw."""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from kspecsr.measures.estimate import WHOLE, Block, median, share
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_parts, labels
from kspecsr.results.prism_input import degraded_to_prism

_WAVES = len(WAVELENGTH) - 1
POOR = 2.0  # chi-square per pixel


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Sums of squared residuals of the degraded output over the prism's errors.

    The same operator degrades the output of every method, whatever the method says of itself. Released prism
    pixels are interpolated, so that a right model has a chi-square of `PIXEL_NOISE_VARIANCE` per pixel: it is
    divided by that.

    Args:
        held_out: galaxies.
        reconstruction: flux of a method.

    Returns:
        float32, by wavelength (`splits.WAVELENGTH`): ``prism_squares`` (B, W) and ``prism_pixels`` (B, W), of
        which `chi_square` is the ratio.
    """
    model = degraded_to_prism(np.asarray(reconstruction.flux, float), held_out.grid)
    good = ~held_out.prism_mask & np.isfinite(model)
    residual = np.where(good, held_out.prism_flux - np.where(good, model, 0.0), 0.0)
    square = (residual / np.where(good, held_out.prism_error, 1.0)) ** 2 / PIXEL_NOISE_VARIANCE
    wave = bin_of(load_instrument(PRISM).wavelength, WAVELENGTH)
    member = (wave[:, None] == np.arange(_WAVES)).astype(float)
    return {
        "prism_squares": (square @ member).astype(np.float32),
        "prism_pixels": (good @ member).astype(np.float32),
    }


def chi_square(measured: Mapping[str, np.ndarray], wave: int | None = None) -> np.ndarray:
    """(B,) chi-square per pixel, as `kspecsr.results.prism_input.prism_chi_square`; NaN without pixels.

    Args:
        measured: of `measure`.
        wave: wavelength bin; None for all.
    """
    bins = slice(None) if wave is None else slice(wave, wave + 1)
    squares = np.asarray(measured["prism_squares"], float)[:, bins].sum(axis=1)
    pixels = np.asarray(measured["prism_pixels"], float)[:, bins].sum(axis=1)
    return squares / np.where(pixels > 0, pixels, np.nan)


def blocks(columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> Iterator[Block]:
    """Medians over galaxies of the chi-square per pixel, with its distribution: ``prism_chi_square``.

    ``prism_chi_square_poor`` is the share of galaxies above 2. By continuum S/N, redshift and wavelength.
    """
    # the first column is of all wavelengths, the others of one bin each
    values = np.stack([chi_square(measured, wave) for wave in (None, *range(_WAVES))], axis=1)
    place = np.arange(1 + _WAVES)[None]
    waves = [(f"[{label}]", place == i) for i, label in enumerate(labels("wave", WAVELENGTH), start=1)]
    galaxies = [(label, chosen & (place == 0)) for label, chosen in (WHOLE, *galaxy_parts(columns))]
    yield (
        [
            median("prism_chi_square", values),
            share("prism_chi_square_poor", values > POOR, np.isfinite(values)),
        ],
        [*galaxies, *waves],
    )
