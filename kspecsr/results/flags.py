"""When a spectrum is outside the model's reach: flags, and no lines are reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NO_COVERAGE = "NO_COVERAGE"
LOW_SN = "LOW_SN"
NO_CLEAR_REDSHIFT = "NO_CLEAR_REDSHIFT"
NO_LINE_IN_RANGE = "NO_LINE_IN_RANGE"
NOT_FINITE = "NOT_FINITE"

FLAG_MEANINGS = {
    NO_COVERAGE: "too few good pixels on the model's range",
    LOW_SN: "neither continuum nor any feature is detected",
    NO_CLEAR_REDSHIFT: "no mode of P(z) holds enough of it",
    NO_LINE_IN_RANGE: "no line of the list falls on data at this redshift",
    NOT_FINITE: "the network gave numbers that are not finite",
}
_FEATURE = 3  # pixels: the prism's line-spread function


@dataclass(frozen=True)
class FlagThresholds:
    """Below what a spectrum is flagged.

    Attributes:
        coverage: share of the prism pixels on the model's range that are good.
        continuum_signal_to_noise: of the inverse-variance weighted mean flux ...
        feature_signal_to_noise: ... and of the best three neighbouring pixels together: flagged below both.
        redshift_confidence: mass of the main mode of P(z).
    """

    coverage: float = 0.1
    continuum_signal_to_noise: float = 5.0
    feature_signal_to_noise: float = 6.0
    redshift_confidence: float = 0.5


def find_flags(
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    confidence: float,
    given_redshift: bool,
    lines_in_range: int,
    thresholds: FlagThresholds,
) -> tuple[str, ...]:
    """Flags of one spectrum; none means that its lines are reported.

    At a redshift that the caller gave, line fluxes are forced measurements, whose errors and upper limits say
    what is not there: LOW_SN and NO_CLEAR_REDSHIFT are not raised.

    Args:
        flux: (n,) prism flux on the pixels of the model's range.
        error: (n,) one sigma.
        mask: (n,) bool, True = bad.
        confidence: mass of the main mode of P(z).
        given_redshift: whether the caller gave the redshift.
        lines_in_range: lines of the list that fall on data.
        thresholds: limits.
    """
    good = ~mask
    if good.mean() < thresholds.coverage:
        return (NO_COVERAGE,)
    flags = []
    if not given_redshift:
        continuum, feature = detection(flux, error, mask)
        if continuum < thresholds.continuum_signal_to_noise and feature < thresholds.feature_signal_to_noise:
            flags.append(LOW_SN)
        if not confidence >= thresholds.redshift_confidence:
            flags.append(NO_CLEAR_REDSHIFT)
    if lines_in_range == 0:
        flags.append(NO_LINE_IN_RANGE)
    return tuple(flags)


def detection(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """S/N of the weighted mean flux, and of the best three neighbouring pixels together; 0 without any.

    Errors are taken as independent; those of neighbouring prism pixels are not, so that both come out up to
    1.5 times too high, which the thresholds allow for.
    """
    good = ~mask
    if not good.any():
        return 0.0, 0.0
    flux, error = np.asarray(flux, np.float64), np.asarray(error, np.float64)  # squares overflow float32
    weight = np.where(good, 1.0 / np.where(good, error, 1.0) ** 2, 0.0)
    scale = weight.max()  # fluxes of 1e-20 squared twice leave float64 no room
    weight = weight / scale
    continuum = np.sum(np.where(good, flux, 0.0) * weight) / np.sqrt(weight.sum() / scale)
    ratio = np.where(good, flux, np.nan) / np.where(good, error, 1.0)
    # the middle one of three: a single wild pixel is no feature, and neither is one beside a masked one
    middle = np.median(np.lib.stride_tricks.sliding_window_view(ratio, _FEATURE), axis=1)
    feature = np.sqrt(_FEATURE) * np.max(middle, initial=0.0, where=np.isfinite(middle))
    return float(continuum), float(feature)


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
