"""NIRSpec prism and medium gratings as JADES releases them."""

from functools import lru_cache

import numpy as np

from data_pipeline.instrument.instrument import (
    Instrument,
    InstrumentEntry,
    load_instrument,
    register_instrument,
)
from data_pipeline.instrument.line_spread import LineSpreadOperator
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid

GRATINGS = ("nirspec-g140m", "nirspec-g235m", "nirspec-g395m")
PRISM = "nirspec-prism"

# What reduced JADES spectra show relative to the tabulated uniform-slit curves: 1.22 (16-84 %: 1.16-1.29)
# for the prism and 0.93 for the gratings, from 21 lines in 24 pairs.
_PRISM_SCALE = 1.22
_GRATING_SCALE = 0.93

register_instrument(
    InstrumentEntry(
        name=PRISM,
        disperser="PRISM",
        filter="CLEAR",
        wavelength_range=(0.6025, 5.4524),
        curves={"uniform": "nirspec_prism_uniform.ecsv", "point": "nirspec_prism_point.ecsv"},
        scales={"uniform": _PRISM_SCALE},
        pixels="jades_prism_pixels.ecsv",
        detector_pixels_per_pixel=DETECTOR_PIXELS_PER_PIXEL,
        source="JDox; de Graaff et al. 2024; JADES DR4 pixel grid",
    )
)
for _grating, _filter, _range in (
    ("g140m", "F070LP", (0.70, 2.20)),
    ("g235m", "F170LP", (1.66, 4.00)),
    ("g395m", "F290LP", (2.87, 5.48)),
):
    register_instrument(
        InstrumentEntry(
            name=f"nirspec-{_grating}",
            disperser=_grating.upper(),
            filter=_filter,
            wavelength_range=_range,
            curves={"uniform": f"nirspec_{_grating}_uniform.ecsv", "point": f"nirspec_{_grating}_point.ecsv"},
            scales={"uniform": _GRATING_SCALE},
            source="JDox; de Graaff et al. 2024; coverage as in the JADES release",
        )
    )


# Where one grating hands over to the next: the overlaps of the nominal ranges [um].
HAND_OVERS = {("G140M", "G235M"): (1.66, 1.89), ("G235M", "G395M"): (2.87, 3.17)}


def arm_shares(wavelength: np.ndarray) -> dict[str, np.ndarray]:
    """Disperser to its weights (n,) in the reference spectrum: 1 in its own range, a ramp at hand-overs."""
    rise = [np.interp(wavelength, hand_over, (0.0, 1.0)) for hand_over in HAND_OVERS.values()]
    return {"G140M": 1.0 - rise[0], "G235M": rise[0] * (1.0 - rise[1]), "G395M": rise[1]}


@lru_cache(maxsize=8)
def reference_instrument(grid: UnifiedGrid = UNIFIED_GRID) -> Instrument:
    """The stitched medium gratings on a unified grid (paper section 3.1).

    Its line-spread function is that of the grating used. At a hand-over the variances are averaged with the
    same weights as the spectra.
    """
    wavelength = grid.wavelength
    gratings = [load_instrument(name) for name in GRATINGS]
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
        illumination="uniform",
        scale=1.0,
    )


@lru_cache(maxsize=8)
def degrading_operator(grid: UnifiedGrid = UNIFIED_GRID, scale: float | None = None) -> LineSpreadOperator:
    """From a spectrum at the reference's resolution on a unified grid to the prism's pixels.

    ``scale`` is the factor on the tabulated prism resolving power; None for what reduced spectra show.
    """
    prism = load_instrument(PRISM, scale=scale)
    return prism.line_spread_operator(grid.bounds, seen_by=reference_instrument(grid))
