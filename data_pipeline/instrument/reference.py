"""The reference that super-resolution aims at: the three gratings as one instrument on the unified grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipeline.instrument.instrument import Instrument, load_instrument
from data_pipeline.instrument.nirspec import GRATINGS
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid

# Where one grating hands over to the next: the overlaps of the nominal ranges [um].
HAND_OVERS = ((1.66, 1.89), (2.87, 3.17))


@lru_cache(maxsize=8)
def reference_instrument(grid: UnifiedGrid = UNIFIED_GRID, illumination: str = "uniform") -> Instrument:
    """The stitched medium gratings on a unified grid (paper section 3.1).

    Its line-spread function is that of the grating in charge; in an overlap the variance crosses
    over linearly, as it does in an average of the two.

    Args:
        grid: the unified grid.
        illumination: as in `load_instrument`.
    """
    wavelength = grid.wavelength
    gratings = [load_instrument(name, illumination) for name in GRATINGS]
    share = [np.interp(wavelength, hand_over, (0.0, 1.0)) for hand_over in HAND_OVERS]
    weights = (1.0 - share[0], share[0] * (1.0 - share[1]), share[1])
    variance = sum(w * g.fwhm(wavelength) ** 2 for w, g in zip(weights, gratings, strict=True))
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
