"""When a spectrum is outside the model's reach: flags, and no lines are reported."""

import numpy as np

NO_COVERAGE = "NO_COVERAGE"
LOW_SN = "LOW_SN"
NO_CLEAR_REDSHIFT = "NO_CLEAR_REDSHIFT"
NO_LINE_IN_RANGE = "NO_LINE_IN_RANGE"
NOT_FINITE = "NOT_FINITE"
INVALID_WAVELENGTH = "INVALID_WAVELENGTH"
INVALID_REDSHIFT = "INVALID_REDSHIFT"
POOR_FIT = "POOR_FIT"

# in the order of the status bits of a served model
FLAG_MEANINGS = {
    NO_COVERAGE: "too few good pixels on the model's range",
    LOW_SN: "neither continuum nor any feature is detected",
    NO_CLEAR_REDSHIFT: "no mode of P(z) holds enough of it",
    NO_LINE_IN_RANGE: "no line of the list falls on data at this redshift",
    NOT_FINITE: "the network gave numbers that are not finite",
    # only of a served model: in Python these are errors before the networks run
    INVALID_WAVELENGTH: "fewer than four wavelengths, or they neither rise nor fall throughout",
    INVALID_REDSHIFT: "the redshift is negative or infinite",
    POOR_FIT: "simulated spectra of this S/N are nearly all described better",
}
# of a prism with its gratings; lines are reported all the same
ARMS_DISAGREE = "ARMS_DISAGREE"
ARM_FLAGS = {
    ARMS_DISAGREE: "redshifts, zero points or flux scales of prism and gratings differ by more than 3 sigma, "
    "or one of them is badly fitted or has a line that nothing explains"
}
# of `SpectrumResult.chi_square`, where the model states no share of worse fits: other reductions than JADES'
# come out near 2 (README)
POOR_CHI_SQUARE = 3.0
STATUS_BITS = {name: 1 << number for number, name in enumerate(FLAG_MEANINGS)}


# Below these a spectrum is flagged.
LEAST_COVERAGE = 0.1  # good among the prism pixels on the model's range
LEAST_CONTINUUM_SN = 5.0  # of the weighted mean flux; flagged only if the best feature's is low as well
LEAST_FEATURE_SN = 6.0  # of the best three neighbouring pixels together
LEAST_CONFIDENCE = 0.5  # mass of the main mode of P(z)
LEAST_FIT = 1e-3  # share of simulated spectra that are described worse: so many good ones are flagged


POOR_MEANING = f"P_FIT below {LEAST_FIT:g}; where none is stated, CHI2NU above {POOR_CHI_SQUARE:g}"


def poor_fit(chi_square, fit_probability):
    """Whether spectra are badly described: by the share that fits worse, by chi-square where that is NaN."""
    return np.where(np.isnan(fit_probability), chi_square > POOR_CHI_SQUARE, fit_probability < LEAST_FIT)


def find_flags(prism, confidence, given, lines_in_range=None, finite=None, fit=None, xp=np):
    """Flags of a batch, (B,) bool each; a spectrum without any has its lines reported.

    At a redshift that the caller gave, line fluxes are forced measurements, whose errors and upper limits say
    what is not there: LOW_SN and NO_CLEAR_REDSHIFT are not raised. POOR_FIT is: a forced measurement, too,
    takes the spectrum to be described.

    ``prism`` is flux, error (B, n) and mask (True = bad) of the prism pixels on the model's range;
    ``confidence`` (B,) is the mass of the main mode of P(z). ``lines_in_range`` (B,) and ``finite`` (B,),
    whether the network's spectrum is, and ``fit`` (B,), the share of simulated spectra that are described
    worse, are None where there are none. ``xp`` is `numpy` or `keras.ops`.
    """
    good = ~prism[2]
    covered = xp.mean(xp.where(good, 1.0, 0.0), axis=1) >= LEAST_COVERAGE
    continuum, feature = detection(*prism, xp)
    faint = (continuum < LEAST_CONTINUUM_SN) & (feature < LEAST_FEATURE_SN)
    flags = {
        NO_COVERAGE: ~covered,
        LOW_SN: covered & ~given & faint,
        NO_CLEAR_REDSHIFT: covered & ~given & ~(confidence >= LEAST_CONFIDENCE),
    }
    if lines_in_range is not None:
        flags[NO_LINE_IN_RANGE] = covered & (lines_in_range == 0)
    if finite is not None:
        flags[NOT_FINITE] = covered & ~finite
    if fit is not None:
        flags[POOR_FIT] = covered & (fit < LEAST_FIT)
    return flags


def detection(flux, error, mask, xp=np):
    """S/N (...) of the weighted mean flux, and of the best three neighbouring pixels together; 0 without any.

    Errors (..., n) are taken as independent; those of neighbouring prism pixels are not, so that both come
    out up to 1.5 times too high, which the limits allow for. ``mask`` is True where bad; ``xp`` is
    `numpy` or `keras.ops`.
    """
    good = ~mask
    flux, sigma = xp.where(good, flux, 0.0), xp.where(good, error, 1.0)
    # weights relative to the best pixel's: 1e-20 squared is beyond float32, and squared twice beyond float64
    least = xp.min(sigma, axis=-1, keepdims=True)
    weight = xp.where(good, (least / sigma) ** 2, 0.0)
    total = xp.sqrt(xp.sum(weight, axis=-1)) * least[..., 0]
    continuum = xp.sum(flux * weight, axis=-1) / xp.where(total > 0, total, 1.0)
    # the middle one of three: a single wild pixel is no feature, and neither is one beside a masked one
    ratio = flux / sigma
    a, b, c = ratio[..., :-2], ratio[..., 1:-1], ratio[..., 2:]
    middle = xp.maximum(xp.minimum(a, b), xp.minimum(xp.maximum(a, b), c))
    all_good = good[..., :-2] & good[..., 1:-1] & good[..., 2:]
    best = xp.max(xp.where(all_good, middle, 0.0), axis=-1)
    return continuum, 3.0**0.5 * xp.maximum(best, 0.0)


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
