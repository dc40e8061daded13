"""Line fluxes, errors and presence of a method, and which lines they can be judged on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_pipeline.lines import load_lines
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.line_noise import line_signal_to_noise

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


def measured_lines(held_out: HeldOut, made: Reconstruction) -> dict[str, np.ndarray]:
    """A method's lines, compact.

    Args:
        held_out: galaxies.
        made: what the method gave; one without line fluxes is given them by `fitted_lines`.

    Returns:
        ``line_flux``, ``line_flux_error`` [1e-20 erg/s/cm2] and ``line_presence``, (B, K) float32; NaN for
        lines out of range and for what is not given.
    """
    shape = held_out.line_flux.shape
    given = {
        "line_flux": made.line_flux,
        "line_flux_error": made.line_flux_error,
        "line_presence": made.line_presence,
    }
    judged = np.ones(shape, bool) if made.line_in_range is None else np.asarray(made.line_in_range, bool)
    return {
        name: np.full(shape, np.nan, np.float32)
        if values is None
        else np.where(judged & np.isfinite(values), values, np.nan).astype(np.float32)
        for name, values in given.items()
    }


def judged_lines(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: the true flux is known and the prism saw the line.

    Args:
        columns: of the held-out galaxies. ``line_snr`` is 0 where the line's prism pixel is bad.
    """
    flux, snr = np.asarray(columns["line_flux"]), np.asarray(columns["line_snr"])
    return np.asarray(columns["line_known"], bool) & ((snr != 0) | (flux == 0))


def detected_lines(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B, K) bool: flux over error above 3; False where not measured.

    Args:
        measured: with ``line_flux`` and ``line_flux_error``.
    """
    flux, error = measured["line_flux"], measured["line_flux_error"]
    with np.errstate(invalid="ignore"):
        return (error > 0) & (flux > DETECTED * error)


def prism_line_noise(held_out: HeldOut) -> np.ndarray:
    """(B, K) error [1e-20 erg/s/cm2] that the prism allows an isolated line; NaN where it did not see it."""
    ones = np.ones(held_out.line_flux.shape)
    snr = line_signal_to_noise(
        held_out.prism_error, held_out.prism_mask, ones, held_out.line_known, held_out.redshift
    )
    return np.where(snr > 0, 1.0 / np.where(snr > 0, snr, 1.0), np.nan)


def line_wavelengths(redshift: np.ndarray) -> np.ndarray:
    """(B, K) observed wavelengths [um]; NaN without a redshift."""
    return load_lines().wavelength * (1.0 + np.asarray(redshift, float)[:, None])


def tied_columns(line_name: str) -> list[int]:
    """Columns of a line and of the other half of its doublet.

    Raises:
        KeyError: for an unknown line.
    """
    lines = load_lines()
    column = lines.index(line_name)
    partners = [i for i, name in enumerate(lines.partner) if name == line_name]
    return [column, *([lines.index(lines.partner[column])] if lines.partner[column] else partners)]
