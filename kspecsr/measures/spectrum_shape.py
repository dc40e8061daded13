"""Shape of spectra against the truth: error whatever the scale, amplitude, line widths, close pairs.

No norm of the error alone tells a good spectrum from one that is smoothed, shrunk, blurred or merged. Each of
the four ways has its number here: scale-free error in cores, amplitude ratio, FWHM ratio, pairs kept.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.gaussian_fit import fit_gaussians, window_indices
from kspecsr.measures.estimate import (
    WHOLE,
    Block,
    median,
    median_of_rows,
    statistic,
)
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import STRONG
from kspecsr.measures.residuals import measure_power_spectrum, measure_residual_noise, residual_blocks
from kspecsr.measures.spectrum import Comparison, compare
from kspecsr.measures.splits import best_line_parts, galaxy_parts, line_snr_parts, line_wavelength_parts

FEWEST_CORE, FEWEST_CONTINUUM = 5, 100  # pixels
DETECTED = 3.0  # sigma by which a target must vary more than its noise, and a pixel to count
BRIGHT_SNR = 10.0  # in the prism, of lines whose width is measured
_HALF = 20  # pixels of the window on either side of a line
_NEIGHBOUR = 26.0  # pixels within which no other line ...
_FAINT = 0.03  # ... has more than this part of the flux
_NARROWEST = 0.4  # pixels (one sigma); the broadest that is fitted is half of the window's half
_FARTHEST = 4.0  # pixels of the fitted centre from the expected one
_BROADEST = 8.0  # pixels (one sigma) of a line of the truth: beyond, the window is too short
_LEAST = 0.05  # part of the true flux below which the line counts as lost
_COVERED = 0.8  # of a window's pixels
PAIRS = (
    ("[OIII]_4960", "[OIII]_5008"),
    ("Hgamma", "[OIII]_4364"),
    ("Halpha", "[NII]_6585"),
    ("[SII]_6718", "[SII]_6733"),
    ("[NeIII]_3870", "H8_3890"),
    ("HeI_10833", "Pagamma"),
)
KEPT = 0.1  # dip of a pair that counts as two
_RESOLVED = 0.3  # dip in the truth
_LOWER_PEAK = 0.1  # part of the true height that the lower peak must have to be one
_NOISE = 5.0  # sigma of the target's noise that a dip in it must exceed
_SEARCH = 0.3  # of the separation within which a peak may lie, and at most one FWHM

Arrays = Mapping[str, np.ndarray]


# ---- error whatever the scale


def relative_error(
    output: np.ndarray,
    truth: np.ndarray,
    chosen: np.ndarray,
    plain: np.ndarray,
    variance: np.ndarray | float = 0.0,
    fewest: int = 1,
    detected: float = DETECTED,
    free_scale: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Least rms of ``a * output - truth`` over one scale a >= 0, as a part of that of a plainer spectrum.

    A global scale neither helps nor hurts: neither a flux calibration nor a shrinking towards zero is seen.
    The variance of the target's noise is taken off both. The evaluation compares with the truth's own
    continuum in line cores, so that 1 is the error of who draws no line, and with a constant in the
    continuum; tuning with a constant everywhere; the goal of a training with cubic interpolation, and there a
    scale that is off counts.

    Args:
        output: (B, N) spectrum of the method.
        truth: (B, N) the true one.
        chosen: (B, N) bool: pixels that count; both spectra are finite there.
        plain: (B, N) the spectrum to compare with.
        variance: (B, N) variance of the target's noise.
        fewest: number of pixels that is needed.
        detected: sigma by which the error of ``plain`` must exceed the noise.
        free_scale: False for a = 1.

    Returns:
        (B,) error, and (B,) a; NaN where there is too little to measure.
    """
    count = np.maximum(chosen.sum(axis=1), 1)
    noise = _mean(np.broadcast_to(variance, chosen.shape), chosen)
    residual, scale = _fit_scale(output, truth, chosen, free_scale)
    variation, _ = _fit_scale(plain, truth, chosen, free_scale)
    # The plain spectrum's own error must exceed the noise: of two numbers that are both noise no quotient is
    # known.
    known = (chosen.sum(axis=1) >= fewest) & (variation - noise > detected * np.sqrt(2.0 / count) * noise)
    error = np.sqrt(np.maximum(residual - noise, 0.0) / np.where(known, variation - noise, 1.0))
    return np.where(known, error, np.nan), np.where(known, scale, np.nan)


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.where(chosen, values, 0.0).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)


def _fit_scale(spectrum, truth, chosen, free_scale: bool) -> tuple[np.ndarray, np.ndarray]:
    """(B,) least mean square of ``a * spectrum - truth`` over the chosen pixels, and a."""
    spectrum, truth = (np.where(chosen, array, 0.0).astype(np.float64) for array in (spectrum, truth))
    scale = np.ones(len(spectrum))
    if free_scale:
        power = np.einsum("bn,bn->b", spectrum, spectrum)
        product = np.einsum("bn,bn->b", spectrum, truth)
        # Not below 0: a spectrum that is upside down is worse than none, not as good as one.
        scale = np.where(power > 0, np.maximum(product, 0.0) / np.where(power > 0, power, 1.0), 0.0)
    return _mean((scale[:, None] * spectrum - truth) ** 2, chosen), scale


def measure_scale_free_error(comparison: Comparison) -> dict[str, np.ndarray]:
    """`relative_error` in line cores, and in the continuum.

    Returns:
        ``scale_free_core``, ``scale_free_continuum``, ``scale_core``, ``scale_continuum`` (B,): error and a.
    """
    flat = np.ones_like(comparison.truth)
    found = {}
    for region, chosen, plain, fewest in (
        ("core", comparison.core, comparison.level, FEWEST_CORE),
        ("continuum", comparison.continuum, flat, FEWEST_CONTINUUM),
    ):
        error, scale = relative_error(
            comparison.output, comparison.truth, chosen, plain, comparison.variance, fewest
        )
        found[f"scale_free_{region}"] = error.astype(np.float32)
        found[f"scale_{region}"] = scale.astype(np.float32)
    return found


# ---- amplitude of sharp structure


def structure_slope(output: np.ndarray, truth: np.ndarray, chosen: np.ndarray, fewest: int) -> np.ndarray:
    """Slope (B,) of a spectrum's structure on the truth's, through the origin; NaN with too few pixels.

    The slope of least absolute deviations, which is the median of the pixels' quotients weighted with the
    truth: one line that is missing or invented does not set it.

    Args:
        output: (B, N) structure of the spectrum.
        truth: (B, N) that of the truth.
        chosen: (B, N) bool: pixels that count, where the truth is not zero.
        fewest: number of pixels that is needed.
    """
    slope = np.full(len(chosen), np.nan)
    for row in np.flatnonzero(chosen.sum(axis=1) >= fewest):
        right = truth[row, chosen[row]]
        quotient = output[row, chosen[row]] / right
        slope[row] = np.quantile(quotient, 0.5, weights=np.abs(right), method="inverted_cdf")
    return slope


def amplitude_ratio(comparison: Comparison) -> np.ndarray:
    """(B,) `structure_slope` of the high-pass parts in line cores: from 0.9 to 1.15 is sane."""
    chosen = comparison.core & (comparison.high_truth**2 > DETECTED**2 * comparison.variance)
    chosen &= comparison.high_truth != 0
    slope = structure_slope(comparison.high_output, comparison.high_truth, chosen, FEWEST_CORE)
    return slope.astype(np.float32)


# ---- widths of lines that stand alone


def isolated_lines(
    pixel: np.ndarray,
    known: np.ndarray,
    flux: np.ndarray,
    bright: np.ndarray,
    reach: np.ndarray | float = _NEIGHBOUR,
    faint: float = _FAINT,
) -> np.ndarray:
    """(B, K) bool: bright lines near which no other line has more than a small part of their flux.

    The evaluation looks at windows of 20 pixels in spectra that are sharp; tuning, whose spectra are as
    blurred as the prism, at 3 FWHM of the prism, in which lines of less than a tenth would leave too few.

    Args:
        pixel: (B, K) places of the lines.
        known: (B, K) bool.
        flux: (B, K).
        bright: (B, K) bool: lines that are asked for.
        reach: (B, K) pixels on either side.
        faint: part of the flux that others may have.
    """
    row, line = np.nonzero(bright & known & (flux > 0))
    apart = np.abs(pixel[row] - pixel[row, line][:, None])
    rival = flux[row] > faint * flux[row, line][:, None]
    rival &= (apart < np.broadcast_to(reach, pixel.shape)[row, line][:, None]) & known[row]
    rival[np.arange(row.size), line] = False
    isolated = np.zeros(bright.shape, bool)
    isolated[row, line] = ~rival.any(axis=1)
    return isolated


def measure_line_width(comparison: Comparison) -> dict[str, np.ndarray]:
    """Output over truth for isolated lines of prism S/N > 10: a Gaussian on a straight line fits both.

    The window bounds the width: for lines as broad as in the prism both ratios are lower limits.

    Returns:
        ``line_width_ratio`` (B, K): FWHM over the true one; NaN where not measured, or lost.
        ``line_area_ratio`` (B, K): flux over the true one; NaN where not measured, 0 where no line is found.
    """
    places = comparison.places
    bright = comparison.line_snr > BRIGHT_SNR
    row, line = np.nonzero(isolated_lines(places.pixel, places.known, comparison.line_flux, bright))
    index, offset, used, row, line = _windows(comparison, row, line)
    width = np.full(comparison.line_snr.shape, np.nan, np.float32)
    area = width.copy()
    if row.size:
        at = row[:, None], index
        # Truth and output go through one fit, so that whatever it does wrong it does to both.
        values = np.concatenate([comparison.truth[at], comparison.output[at]])
        same = np.ones(len(values))
        widest = 0.5 * np.abs(offset).max()
        fits = fit_gaussians(
            np.tile(offset, (2, 1)),
            values,
            np.tile(used, (2, 1)),
            centre=0.0 * same,
            reach=_FARTHEST * same,
            sigma_limits=(_NARROWEST * same, widest * same),
        )
        (true_area, out_area), (true_sigma, out_sigma) = np.split(fits.area, 2), np.split(fits.sigma, 2)
        # Widths at a limit of the fit are no measurement of the truth either.
        sane = (true_area > 0) & (true_sigma < _BROADEST) & (true_sigma > _NARROWEST)
        ratio = out_area / np.where(sane, true_area, 1.0)
        found = (ratio > _LEAST) & (out_sigma > _NARROWEST)
        area[row, line] = np.where(sane, np.where(found, ratio, 0.0), np.nan)
        width[row, line] = np.where(sane & found, out_sigma / true_sigma, np.nan)
    return {"line_width_ratio": width, "line_area_ratio": area}


def _windows(comparison: Comparison, row: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pixels (n, w), their offset from the centre, which are good; rows and lines whose window is covered."""
    places = comparison.places
    centre, fwhm = places.pixel[row, line], places.fwhm[row, line]
    index, inside = window_indices(np.arange(places.grid.size), centre, _HALF)
    used = inside & comparison.good[row[:, None], index]
    offset = index - centre[:, None]
    core = np.abs(offset) <= fwhm[:, None]
    keep = (used.mean(axis=1) >= _COVERED) & (used | ~core).all(axis=1)
    return index[keep], offset[keep], used[keep], row[keep], line[keep]


# ---- close pairs of lines


class PeakFinder:
    """Two peaks and the valley between them, in spectra of several galaxies.

    Args:
        row: (n,) galaxies.
        blue, red: (n,) places of the bluer and the redder line [pixels].
        fwhm: (n,) resolution of the spectra [pixels].
        good: (B, N) bool.

    Attributes:
        covered: (n,) bool: every pixel from peak to peak is good, and the flanks have good ones.
    """

    def __init__(
        self, row: np.ndarray, blue: np.ndarray, red: np.ndarray, fwhm: np.ndarray, good: np.ndarray
    ):
        blue, red, fwhm = blue[:, None], red[:, None], fwhm[:, None]
        first = np.floor(blue - 6.0 * fwhm).astype(np.int64)
        size = int(np.ceil(red + 6.0 * fwhm - first).max(initial=0)) + 1
        index = first + np.arange(size)
        self._index = row[:, None], np.clip(index, 0, good.shape[1] - 1)
        self._good = good[self._index] & (index >= 0) & (index < good.shape[1])
        reach = np.minimum(_SEARCH * (red - blue), fwhm)
        # Half a pixel more: a line may peak between two pixels.
        self._near = tuple(np.abs(index - at) <= np.maximum(reach, 0.5) for at in (blue, red))
        self._flanks = tuple(
            self._good & (sign * (index - at) > 2.5 * fwhm) & (sign * (index - at) <= 6.0 * fwhm)
            for sign, at in ((-1, blue), (1, red))
        )
        between = (index >= blue - fwhm) & (index <= red + fwhm)
        self.covered = (self._good | ~between).all(axis=1)
        self.covered &= np.all([flank.any(axis=1) for flank in self._flanks], axis=0)

    def find(self, spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height of the lower peak above the continuum, and how far the valley lies below that peak, (n,)."""
        values = spectrum[self._index]
        at = [np.where(near, values, -np.inf).argmax(axis=1) for near in self._near]
        column, row = np.arange(values.shape[1]), np.arange(len(values))
        lower = np.minimum(values[row, at[0]], values[row, at[1]])
        inside = (column >= at[0][:, None]) & (column <= at[1][:, None])
        valley = np.where(inside, values, np.inf).min(axis=1, initial=np.inf)
        # The lower flank: the other one may hold a third line.
        base = np.fmin(*(median_of_rows(values, flank) for flank in self._flanks))
        return lower - np.nan_to_num(base), lower - np.where(np.isfinite(valley), valley, lower)

    def noise(self, variance: np.ndarray) -> np.ndarray:
        """(n,) median one-sigma noise of spectra with this (B, N) variance."""
        return np.sqrt(np.nan_to_num(median_of_rows(variance[self._index], self._good)))


def measure_line_pairs(comparison: Comparison) -> dict[str, np.ndarray]:
    """Depth of the dip between two peaks, as a part of the lower one's height above the continuum.

    Returns:
        ``pair_dip`` (B, Q): of the output, -1 without two peaks, for pairs in `PAIRS` that the truth shows as
        two (dip above 0.3) and whose lines both have prism S/N > 5, and NaN for others;
        ``pair_in_prism_elements`` (B, Q): separation over the prism's FWHM there.
    """
    shape, places = (len(comparison.good), len(PAIRS)), comparison.places
    dips, apart = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for number, pair in enumerate(PAIRS):
        left, right = (load_lines().index(name) for name in pair)
        both = places.known[:, [left, right]] & (comparison.line_snr[:, [left, right]] > STRONG)
        row = np.flatnonzero(both.all(axis=1))
        if row.size == 0:
            continue
        blue, red, fwhm = places.pixel[row, left], places.pixel[row, right], places.fwhm[row, left]
        peaks = PeakFinder(row, blue, red, fwhm, comparison.good)
        true_height, true_drop = peaks.find(comparison.truth)
        height, drop = peaks.find(comparison.output)
        resolved = peaks.covered & (true_drop > _RESOLVED * true_height) & (true_height > 0)
        resolved &= true_drop > _NOISE * peaks.noise(comparison.variance)
        # Noise has dips everywhere; a peak counts only with a part of the height that is there.
        two = (height > _LOWER_PEAK * true_height) & (drop > 0)
        dip = np.where(two, drop / np.where(two, height, 1.0), -1.0)
        # the unified grid is even in ln(wavelength)
        middle = places.grid.start * np.exp(0.5 * (blue + red) / places.grid.sampling)
        elements = (red - blue) / places.grid.sampling * load_instrument(PRISM).resolving_power(middle)
        dips[row, number] = np.where(resolved, dip, np.nan)
        apart[row, number] = np.where(resolved, elements, np.nan)
    return {"pair_dip": dips, "pair_in_prism_elements": apart}


# ---- all of it


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """Measurements of each galaxy, as the functions here and in `residuals` describe them; NaN where none.

    Args:
        held_out: galaxies with their truth.
        reconstruction: output of a method; its flux alone is used.
    """
    comparison = compare(held_out, reconstruction)
    return {
        **measure_scale_free_error(comparison),
        "amplitude_ratio": amplitude_ratio(comparison),
        **measure_line_width(comparison),
        **measure_line_pairs(comparison),
        **measure_residual_noise(held_out, comparison),
        **measure_power_spectrum(comparison),
    }


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """All figures of spectra, by S/N, redshift and wavelength.

    Args:
        columns: ``galaxy``, ``redshift``, ``continuum_snr`` (B,), ``line_known``, ``line_snr`` (B, K).
        measured: of `measure`, for the same galaxies.
    """
    galaxies = list(galaxy_parts(columns))
    yield (
        [
            median("scale_free/core", measured["scale_free_core"]),
            median("amplitude_ratio", measured["amplitude_ratio"]),
        ],
        [WHOLE, *galaxies, *best_line_parts(columns)],
    )
    yield [median("scale_free/continuum", measured["scale_free_continuum"])], [WHOLE, *galaxies]
    yield (
        [median(f"scale/{region}", measured[f"scale_{region}"]) for region in ("core", "continuum")],
        [WHOLE],
    )
    area = measured["line_area_ratio"]
    yield (
        [
            median("fwhm_ratio", measured["line_width_ratio"]),
            median("line_area_ratio", area),
            statistic("lines_lost", np.mean, area == 0, use=np.isfinite(area)),
        ],
        [WHOLE, *line_snr_parts(columns["line_snr"]), *line_wavelength_parts(columns)],
    )
    dip = measured["pair_dip"]
    kept, resolved = dip > KEPT, np.isfinite(dip)
    blended = measured["pair_in_prism_elements"] < 1.0
    oiii = np.arange(len(PAIRS)) == PAIRS.index(("[OIII]_4960", "[OIII]_5008"))
    yield (
        [
            statistic("pairs_kept", np.mean, kept, use=resolved),
            statistic("pairs_kept/unresolved_by_prism", np.mean, kept, use=resolved & blended),
            statistic("pairs_kept/oiii", np.mean, kept, use=resolved & oiii),
            statistic("pairs_kept/oiii_unresolved_by_prism", np.mean, kept, use=resolved & oiii & blended),
        ],
        [WHOLE],
    )
    yield from residual_blocks(measured)
