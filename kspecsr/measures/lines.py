"""Emission lines of the held-out galaxies: what the prism allows, and which of them a method is judged on."""

from collections.abc import Mapping

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, FWHM_PER_SIGMA, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import LINE_FWHM
from data_pipeline.lines import list_of, load_lines
from kspecsr.measures.held_out import HeldOut, Reconstruction

DETECTED = 3.0  # sigma
PRESENT = 0.5  # presence above which a method says that there is a line
STRONG = 5.0  # S/N in the prism of lines that are to be recovered

# Lines that get figures of their own.
KEY_LINES = (
    "[OII]_3727",
    "[OII]_3730",
    "Hbeta",
    "[OIII]_4960",
    "[OIII]_5008",
    "Halpha",
    "[NII]_6585",
    "[SII]_6718",
    "[SII]_6733",
    "[SIII]_9533",
    "HeI_10833",
)


def line_signal_to_noise(
    prism_error: np.ndarray,
    prism_mask: np.ndarray,
    line_flux: np.ndarray,
    line_known: np.ndarray,
    redshift: np.ndarray,
) -> np.ndarray:
    """Flux over the matched-filter error of an isolated, unresolved line in white noise.

    In released prism pixels such a line is 3 pixels wide.

    Args:
        prism_error: (B, P) one sigma, flux density.
        prism_mask: (B, P) bool, True = bad.
        line_flux: (B, K) flux density x Angstrom.
        line_known: (B, K) bool.
        redshift: (B,), NaN where there is none.

    Returns:
        (B, K); 0 where the flux is unknown or the line's pixel is bad.
    """
    prism = load_instrument(PRISM)
    width = np.diff(prism.bounds, axis=0)[0] * ANGSTROM_PER_UM
    centre = line_wavelengths(redshift, np.shape(line_flux)[1])
    known = np.asarray(line_known).astype(bool) & np.isfinite(centre)
    pixel = np.searchsorted(prism.wavelength, np.where(known, centre, prism.wavelength[0]))
    pixel = np.clip(pixel, 0, prism.wavelength.size - 1)
    error = np.take_along_axis(np.asarray(prism_error, dtype=float), pixel, axis=1)
    bad = np.take_along_axis(np.asarray(prism_mask).astype(bool), pixel, axis=1)
    sigma = LINE_FWHM / FWHM_PER_SIGMA  # pixels
    noise = error * width[pixel] * np.sqrt(2.0 * np.sqrt(np.pi) * sigma)
    return np.where(known & ~bad, np.asarray(line_flux, dtype=float) / noise, 0.0)


def prism_line_noise(held_out: HeldOut) -> np.ndarray:
    """(B, K) error [1e-20 erg/s/cm2] that the prism allows an isolated line; NaN where it did not see it."""
    ones = np.ones(held_out.line_flux.shape)
    snr = line_signal_to_noise(
        held_out.prism_error, held_out.prism_mask, ones, held_out.line_known, held_out.redshift
    )
    return np.where(snr > 0, 1.0 / np.where(snr > 0, snr, 1.0), np.nan)


def line_wavelengths(redshift: np.ndarray, count: int) -> np.ndarray:
    """(B, K) observed wavelengths [um] of the list that has ``count`` lines; NaN without a redshift."""
    return list_of(count).wavelength * (1.0 + np.asarray(redshift, float)[:, None])


def tied_columns(line_name: str) -> list[int]:
    """Columns of a line and of the other half of its doublet.

    Raises:
        KeyError: for an unknown line.
    """
    lines = load_lines()
    column = lines.index(line_name)
    partners = [i for i, name in enumerate(lines.partner) if name == line_name]
    return [column, *([lines.index(lines.partner[column])] if lines.partner[column] else partners)]


def measured_lines(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """A method's lines, compact.

    Args:
        held_out: galaxies.
        reconstruction: output of the method; one without line fluxes gets them from `fitted_lines`.

    Returns:
        ``line_flux``, ``line_flux_error`` [1e-20 erg/s/cm2] and ``line_presence``, (B, K) float32; NaN for
        lines out of range and for what the method does not give.
    """
    shape, in_range = held_out.line_flux.shape, reconstruction.line_in_range
    in_range = np.ones(shape, bool) if in_range is None else np.asarray(in_range, bool)
    found = {}
    for name in ("line_flux", "line_flux_error", "line_presence"):
        values = getattr(reconstruction, name)
        values = np.full(shape, np.nan) if values is None else values
        found[name] = np.where(in_range & np.isfinite(values), values, np.nan).astype(np.float32)
    return found


def judged_lines(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: the true flux is known and the prism saw the line.

    Args:
        columns: small columns of the held-out galaxies; ``line_snr`` is 0 where the line's pixel is bad.
    """
    flux, snr = np.asarray(columns["line_flux"]), np.asarray(columns["line_snr"])
    return np.asarray(columns["line_known"], bool) & ((snr != 0) | (flux == 0))


def detected_lines(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: flux over error above 3; False where not measured.

    Args:
        measured: of `measured_lines`.
    """
    flux, error = measured["line_flux"], measured["line_flux_error"]
    with np.errstate(invalid="ignore"):
        return (error > 0) & (flux > DETECTED * error)
