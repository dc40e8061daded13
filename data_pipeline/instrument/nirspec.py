"""NIRSpec prism and medium gratings as JADES releases them."""

from __future__ import annotations

from data_pipeline.instrument.instrument import InstrumentEntry, register_instrument
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL

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
