"""Where emission lines lie on the unified grid: cores of bright lines, and continuum free of lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.measures.held_out import HeldOut

VELOCITY_FWHM = 100.0  # km/s, of a usual galaxy's lines; adds in quadrature to the reference's resolution
CORE_REACH = 1.5  # FWHM on either side
CONTINUUM_REACH = 6.0
CORE_SNR = 5.0  # of the line in the prism, were it alone
CONTINUUM_SNR = 1.0


@dataclass(frozen=True)
class LinePlaces:
    """Lines on the unified grid.

    Attributes:
        grid: unified grid.
        known: (B, K) bool, False without a redshift.
        pixel: (B, K) place of the centre in pixels from the first; -1 where not known.
        fwhm: (B, K) expected full width at half maximum in the reference [pixels]; 1 where not known.
    """

    grid: UnifiedGrid
    known: np.ndarray
    pixel: np.ndarray
    fwhm: np.ndarray

    def within(self, chosen: np.ndarray, reach: float) -> np.ndarray:
        """(B, N) bool: pixels within ``reach`` FWHM of a chosen line.

        Args:
            chosen: (B, K) bool.
            reach: in FWHM, on either side.
        """
        row, line = np.nonzero(chosen & self.known)
        centre, half = self.pixel[row, line], reach * self.fwhm[row, line]
        size = self.grid.size
        first = np.clip(np.ceil(centre - half), 0, size).astype(np.int64)
        end = np.clip(np.floor(centre + half) + 1, 0, size).astype(np.int64)
        change = np.zeros((len(self.known), size + 1), np.int16)
        np.add.at(change, (row, first), 1)
        np.add.at(change, (row, end), -1)
        return np.cumsum(change[:, :-1], axis=1, dtype=np.int16) > 0


def line_places(grid: UnifiedGrid, redshift: np.ndarray, known: np.ndarray) -> LinePlaces:
    """Where the lines of some galaxies are expected.

    Args:
        grid: unified grid.
        redshift: (B,) NaN where unknown.
        known: (B, K) bool: the line is covered and its flux is known.
    """
    known = known & np.isfinite(redshift)[:, None]
    factor = np.where(np.isfinite(redshift), 1.0 + redshift, 1.0)
    observed = np.where(known, load_lines().wavelength * factor[:, None], grid.start)
    power = reference_instrument(grid).resolving_power(observed)
    fwhm = grid.sampling * np.hypot(1.0 / power, VELOCITY_FWHM / SPEED_OF_LIGHT)
    pixel = grid.sampling * np.log(observed / grid.start)
    return LinePlaces(grid, known, np.where(known, pixel, -1.0), np.where(known, fwhm, 1.0))


REGIONS = ("core", "wing", "continuum")
NO_REGION = -1
CORE, WING, CLEAR = 1.0, 4.0, 6.0  # FWHM on either side of a line
LINE_SNR, CLEAR_SNR = 3.0, 1.0  # lines that make cores and wings, and those that continuum is clear of


def pixel_regions(held_out: HeldOut) -> np.ndarray:
    """Region of each pixel.

    ``core`` is within one FWHM of a line whose S/N in the prism is above 3, ``wing`` from there to four,
    ``continuum`` beyond six of every known line with S/N above 1; the FWHM is the reference's with 100 km/s
    of the galaxy (`line_places`).

    Args:
        held_out: galaxies.

    Returns:
        (B, N) int8, index into `REGIONS`; -1 for pixels of none, and for galaxies without a redshift,
        whose lines are unknown.
    """
    places = line_places(held_out.grid, held_out.redshift, held_out.line_known)
    region = np.full((len(held_out), held_out.grid.size), NO_REGION, np.int8)
    region[~places.within(held_out.line_snr > CLEAR_SNR, CLEAR)] = REGIONS.index("continuum")
    region[places.within(held_out.line_snr > LINE_SNR, WING)] = REGIONS.index("wing")
    region[places.within(held_out.line_snr > LINE_SNR, CORE)] = REGIONS.index("core")
    region[~np.isfinite(held_out.redshift)] = NO_REGION
    return region
