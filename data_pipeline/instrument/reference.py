"""The reference that super-resolution aims at: the three gratings as one instrument on the unified grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipeline.instrument.instrument import Instrument, load_instrument
from data_pipeline.instrument.line_spread import LineSpreadOperator
from data_pipeline.instrument.nirspec import GRATINGS, PRISM
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid

# Where one grating hands over to the next: the overlaps of the nominal ranges [um].
HAND_OVERS = {("G140M", "G235M"): (1.66, 1.89), ("G235M", "G395M"): (2.87, 3.17)}


def arm_shares(wavelength: np.ndarray) -> dict[str, np.ndarray]:
    """Part that each grating takes in the reference spectrum: 1 where it is in charge, a ramp at hand-overs.

    Args:
        wavelength: (n,) [um].

    Returns:
        Disperser to (n,) shares, which add up to 1.
    """
    rise = [np.interp(wavelength, hand_over, (0.0, 1.0)) for hand_over in HAND_OVERS.values()]
    return {"G140M": 1.0 - rise[0], "G235M": rise[0] * (1.0 - rise[1]), "G395M": rise[1]}


@lru_cache(maxsize=8)
def reference_instrument(grid: UnifiedGrid = UNIFIED_GRID, illumination: str = "uniform") -> Instrument:
    """The stitched medium gratings on a unified grid (paper section 3.1).

    Its line-spread function is that of the grating in charge. At a hand-over the variance crosses over with
    the shares, as it does in an average of the two.

    Args:
        grid: the unified grid.
        illumination: as in `load_instrument`.
    """
    wavelength = grid.wavelength
    gratings = [load_instrument(name, illumination) for name in GRATINGS]
    shares = arm_shares(wavelength)
    variance = sum(shares[g.disperser] * g.fwhm(wavelength) ** 2 for g in gratings)
    return Instrument(
        name="nirspec-medium-stitched",
        disperser="G140M+G235M+G395M",
        filter="+".join(g.filter for g in gratings),
        wavelength=wavelength,
        bounds=grid.bounds,
        table_wavelength=wavelength,
        table_resolving_power=wavelength / np.sqrt(variance),
        illumination=illumination,
        scale=1.0,
    )


@lru_cache(maxsize=8)
def degrading_operator(grid: UnifiedGrid = UNIFIED_GRID, scale: float | None = None) -> LineSpreadOperator:
    """From a spectrum at the reference's resolution on a unified grid to the prism's pixels.

    Args:
        grid: the unified grid.
        scale: factor on the tabulated prism resolving power; None for what reduced spectra show.
    """
    prism = load_instrument(PRISM, scale=scale)
    return prism.line_spread_operator(grid.bounds, seen_by=reference_instrument(grid))
