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
    FWHM_PER_SIGMA,
    LineSpreadOperator,
    line_spread_operator,
)
from data_pipeline.instrument.nirspec import GRATINGS, PRISM
from data_pipeline.instrument.reference import HAND_OVERS, arm_shares, reference_instrument

__all__ = [
    "FWHM_PER_SIGMA",
    "GRATINGS",
    "HAND_OVERS",
    "PRISM",
    "Instrument",
    "InstrumentEntry",
    "LineSpreadOperator",
    "arm_shares",
    "instrument_for",
    "instrument_names",
    "line_spread_operator",
    "load_instrument",
    "reference_instrument",
    "register_instrument",
]
