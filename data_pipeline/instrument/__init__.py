"""Instruments: pixel grids, resolving power and line-spread operators (NumPy and SciPy only)."""

from data_pipeline.instrument.instrument import (
    Instrument,
    InstrumentEntry,
    instrument_for,
    instrument_names,
    load_instrument,
    register_instrument,
)
from data_pipeline.instrument.line_spread import (
    ANGSTROM_PER_UM,
    FWHM_PER_SIGMA,
    SPEED_OF_LIGHT,
    LineSpreadOperator,
    line_spread_operator,
)
from data_pipeline.instrument.nirspec import (
    GRATINGS,
    HAND_OVERS,
    PRISM,
    arm_shares,
    degrading_operator,
    reference_instrument,
)

__all__ = [
    "ANGSTROM_PER_UM",
    "FWHM_PER_SIGMA",
    "GRATINGS",
    "HAND_OVERS",
    "PRISM",
    "SPEED_OF_LIGHT",
    "Instrument",
    "InstrumentEntry",
    "LineSpreadOperator",
    "arm_shares",
    "degrading_operator",
    "instrument_for",
    "instrument_names",
    "line_spread_operator",
    "load_instrument",
    "reference_instrument",
    "register_instrument",
]
