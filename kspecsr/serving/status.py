"""The status code of a served spectrum: one bit for each flag."""

from __future__ import annotations

from kspecsr.flags import (
    FLAG_MEANINGS,
    LOW_SN,
    NO_CLEAR_REDSHIFT,
    NO_COVERAGE,
    NO_LINE_IN_RANGE,
    NOT_FINITE,
)

# what only a served model can meet: in Python these are errors before the networks run
INVALID_WAVELENGTH = "INVALID_WAVELENGTH"
INVALID_REDSHIFT = "INVALID_REDSHIFT"

STATUS_BITS = {
    NO_COVERAGE: 1,
    LOW_SN: 2,
    NO_CLEAR_REDSHIFT: 4,
    NO_LINE_IN_RANGE: 8,
    NOT_FINITE: 16,
    INVALID_WAVELENGTH: 32,
    INVALID_REDSHIFT: 64,
}
STATUS_MEANINGS = {
    **FLAG_MEANINGS,
    INVALID_WAVELENGTH: "fewer than four wavelengths, or they neither rise nor fall throughout",
    INVALID_REDSHIFT: "the redshift is negative or infinite",
}


def flags_of(status: int) -> tuple[str, ...]:
    """Names of the bits that are set; none means that lines are reported.

    Raises:
        ValueError: for bits that this version does not know.
    """
    if status < 0 or status > sum(STATUS_BITS.values()):
        raise ValueError(
            f"status {status}: expected 0-{sum(STATUS_BITS.values())}; was the model exported by another "
            "version of kspecsr?"
        )
    return tuple(name for name, bit in STATUS_BITS.items() if status & bit)
