"""Would the prism have seen what it saw, had the output been the truth? Chi-square of the degraded output."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from kspecsr.measures.estimate import RESAMPLES, Estimate, estimates_of_sums, median_estimate
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.splits import WAVELENGTH, bin_of, galaxy_splits, labels
from kspecsr.results.prism_input import degraded_to_prism

_WAVES = len(WAVELENGTH) - 1
POOR = 2.0  # chi-square per pixel


def measure(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """Sums of squared residuals of the degraded output over the prism's errors.

    The same operator degrades the output of every method, whatever the method says of itself. Released prism
    pixels are interpolated, so that a right model has a chi-square of `PIXEL_NOISE_VARIANCE` per pixel: it is
    divided by that.

    Args:
        held_out: galaxies.
        made: flux of a method.

    Returns:
        float32, by wavelength (`splits.WAVELENGTH`): ``prism_squares`` (B, W) and ``prism_pixels`` (B, W), of
        which `chi_square` is the ratio.
    """
    model = degraded_to_prism(np.asarray(made.flux, float), held_out.grid)
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


def summarise(
    columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Medians over galaxies of the chi-square per pixel, with its distribution: ``prism_chi_square``.

    ``prism_chi_square_poor`` is the share of galaxies above 2. Split by continuum S/N, redshift and
    wavelength.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `measure`.
        resamples: of the bootstrap over galaxies.
    """
    galaxy, total = columns["galaxy"], chi_square(measured)
    cases = [("", total), *((label, np.where(rows, total, np.nan)) for label, rows in galaxy_splits(columns))]
    cases += [
        (f"[{label}]", chi_square(measured, wave)) for wave, label in enumerate(labels("wave", WAVELENGTH))
    ]
    found = {}
    for label, values in cases:
        estimate = median_estimate(galaxy, values, resamples=resamples)
        if estimate.n > 0:
            found[f"prism_chi_square{label}"] = estimate
        rows = np.column_stack([values > POOR, np.isfinite(values)]).astype(float)
        poor = {f"prism_chi_square_poor{label}": lambda sums: sums[..., 0] / sums[..., 1]}
        found |= estimates_of_sums(galaxy, rows, poor, resamples)
    return found
