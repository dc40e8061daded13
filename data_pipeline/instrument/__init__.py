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
