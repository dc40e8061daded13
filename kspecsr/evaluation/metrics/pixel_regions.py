"""Which pixels of the unified grid lie in the core or the wing of a line, and which are continuum."""

from __future__ import annotations

import numpy as np

from kspecsr.evaluation.held_out import HeldOut
from kspecsr.evaluation.metrics.line_regions import line_places

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
