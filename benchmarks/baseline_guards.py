"""Error norm of a reconstruction and three guards beside it, for tuning.

An error norm alone is lowered by smoothing, by shrinking structure, by blurring lines and by merging
pairs. Each of the three figures beside it sees what the others are blind to:

- amplitude ratio: structure averaged over twelve prism pixels, so that it hardly depends on width;
- width ratio: of lines that stand alone, whatever their height;
- pairs kept: the dip between [O III] 4960 and 5008.

The measures are those of the evaluation (`kspecsr.measures.spectrum_shape`), at the scale of the prism's
pixels: classical methods hardly resolve more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import peak_widths

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import LOW_FREQUENCY_VARIANCE
from data_pipeline.lines import load_lines
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.lines import STRONG
from kspecsr.measures.spectrum import LinePlaces, line_places
from kspecsr.measures.spectrum_shape import (
    KEPT,
    PeakFinder,
    isolated_lines,
    relative_error,
    structure_slope,
)
from kspecsr.methods.baseline import prism_view, uncovered
from kspecsr.methods.richardson_lucy import noise_level

NARROW, WIDE = 12.0, 60.0  # prism pixels: structure between these is what the amplitude ratio compares
BRIGHT = 15.0  # prism S/N of a line whose width is measured, and of the stronger line of a pair
_NOISY = 3.0  # times the median noise: pixels beyond do not count in the error norm
_ALONE, _FAINT = 3.0, 0.1  # prism FWHM within which no other line may have a tenth of the flux
_RESOLVABLE = 1.0  # prism FWHM between two lines
_COVERED = 0.9
_STRUCTURE = 1.0  # truth's rms between the scales over the noise there


@dataclass(frozen=True)
class Figures:
    """Figures of a reconstruction of many galaxies; NaN where nothing could be measured.

    Attributes:
        error: median scale-free error.
        amplitude: median amplitude ratio; 1 is right.
        width: median FWHM over that in the prism; below 1 where lines are sharpened.
        pairs: share of resolvable [O III] pairs that are resolved.
    """

    error: float
    amplitude: float
    width: float
    pairs: float


@dataclass(frozen=True)
class Limits:
    """Limits that a reconstruction must keep.

    Attributes:
        amplitude_low: least amplitude ratio.
        amplitude_high: largest amplitude ratio.
        width_excess: by how much lines may be broader than cubic interpolation leaves them, as a part.
        pairs_lost: by how much fewer pairs may be resolved than with cubic interpolation, as a share.
    """

    amplitude_low: float = 0.9
    amplitude_high: float = 1.15
    width_excess: float = 0.02
    pairs_lost: float = 0.0

    def violations(self, figures: Figures, cubic: Figures) -> dict[str, float]:
        """Guards that fail, and by how much, as parts of what is allowed. What is not measured passes."""
        excess = {
            "amplitude": max(
                1.0 - figures.amplitude / self.amplitude_low, figures.amplitude / self.amplitude_high - 1.0
            ),
            "width": figures.width / (cubic.width * (1.0 + self.width_excess)) - 1.0,
            "pairs": cubic.pairs - self.pairs_lost - figures.pairs,
        }
        return {name: float(value) for name, value in excess.items() if value > 1e-9}


class GuardedSample:
    """Galaxies with what does not depend on the reconstruction: pixels, lines and pairs that count.

    Args:
        held_out: galaxies.

    Attributes:
        pixels: (B, N) bool: covered by the prism, known, and not much noisier than the spectrum's median.
        lines: (L, 2) galaxy and line of bright lines that stand alone.
        pairs: (Q,) galaxies whose [O III] pair the prism could resolve.
    """

    def __init__(self, held_out: HeldOut):
        self.held_out = held_out
        grid = held_out.grid
        view = prism_view(grid)
        self._position = view.position[view.inside]
        level = noise_level(held_out.prism_error, held_out.prism_mask)
        known = ~uncovered(grid, held_out.prism_mask) & ~held_out.target_mask
        pixel = np.arange(level.shape[1])
        fine = np.stack([np.interp(self._position, pixel, row) for row in level])
        self.pixels = known & (fine <= _NOISY * np.median(level, axis=1, keepdims=True))
        self._level = level
        self._places = line_places(grid, held_out.redshift, held_out.line_known)
        self._prism_fwhm = _prism_fwhm(self._places)
        self.lines = self._lines_alone()
        self.pairs = self._resolvable_pairs()

    def figures(self, flux: np.ndarray) -> Figures:
        """All figures of a reconstruction (B, N); NaN in it does not count."""
        return Figures(
            error=_finite(np.median, self.scale_free_error(flux)),
            amplitude=_finite(np.median, self.amplitude_ratio(flux)),
            width=_finite(np.median, self.width_ratio(flux)),
            pairs=_finite(np.mean, self.pairs_resolved(flux)),
        )

    def scale_free_error(self, flux: np.ndarray) -> np.ndarray:
        """(B,) `relative_error` of all pixels against a constant."""
        truth, valid = self.held_out.target_flux, self.pixels & np.isfinite(flux)
        return relative_error(flux, truth, valid, np.ones_like(truth))[0]

    def amplitude_ratio(self, flux: np.ndarray) -> np.ndarray:
        """`structure_slope` (B,) of the mean over 12 prism pixels less the mean over 60.

        NaN where the truth's structure is lost in noise.
        """
        valid = self.pixels & np.isfinite(flux)
        pixels = self._level.shape[1]
        truth = _structure(self.held_out.target_flux, valid, self._position, pixels)
        made = _structure(flux, valid, self._position, pixels)
        usable = np.isfinite(truth) & np.isfinite(made) & (truth != 0)
        for row in np.flatnonzero(usable.any(axis=1)):
            # variance of a mean over many correlated pixels
            noise = np.median(self._level[row, usable[row]]) * np.sqrt(LOW_FREQUENCY_VARIANCE / NARROW)
            usable[row] &= np.sqrt(np.mean(truth[row, usable[row]] ** 2)) > _STRUCTURE * noise
        return structure_slope(made, truth, usable, fewest=int(WIDE) + 1)

    def width_ratio(self, flux: np.ndarray) -> np.ndarray:
        """Full width at half maximum (L,) of the lines that stand alone, over the prism's; NaN if not found.

        Where the reconstruction crosses half its maximum on either side, above the median of the flanks. The
        evaluation's fit of a Gaussian in 20 pixels on either side would bound lines as broad as the prism's.
        """
        pixel = np.arange(self.held_out.grid.size)
        return np.array(
            [
                _half_maximum_width((pixel - self._places.pixel[at]) / self._prism_fwhm[at], flux[at[0]])
                for at in map(tuple, self.lines)
            ]
        )

    def pairs_resolved(self, flux: np.ndarray) -> np.ndarray:
        """Whether each resolvable [O III] pair (Q,) is two: 1 or 0; NaN in gaps."""
        weak, strong = _oiii()
        row, places = self.pairs, self._places
        peaks = PeakFinder(
            row,
            places.pixel[row, weak],
            places.pixel[row, strong],
            self._prism_fwhm[row, strong],
            np.isfinite(flux),
        )
        height, drop = peaks.find(flux)
        return np.where(peaks.covered, (height > 0) & (drop > KEPT * height), np.nan)

    def _lines_alone(self) -> np.ndarray:
        """(L, 2) galaxy and line, with all of the flanks on the grid."""
        places, reach = self._places, _ALONE * self._prism_fwhm
        whole = (places.pixel > reach) & (places.pixel < places.grid.size - 1 - reach)
        bright = (self.held_out.line_snr > BRIGHT) & whole
        alone = isolated_lines(places.pixel, places.known, self.held_out.line_flux, bright, reach, _FAINT)
        return np.argwhere(alone)

    def _resolvable_pairs(self) -> np.ndarray:
        """(Q,) galaxies."""
        (weak, strong), snr, places = _oiii(), self.held_out.line_snr, self._places
        apart = places.pixel[:, strong] - places.pixel[:, weak]
        bright = (snr[:, strong] > BRIGHT) & (snr[:, weak] > STRONG)
        known = places.known[:, weak] & places.known[:, strong]
        seen = places.pixel[:, strong] + 3.0 * apart < places.grid.size - 1
        return np.flatnonzero(bright & known & seen & (apart > _RESOLVABLE * self._prism_fwhm[:, strong]))


def _oiii() -> tuple[int, int]:
    """Columns of [O III] 4960 and 5008."""
    lines = load_lines()
    return lines.index("[OIII]_4960"), lines.index("[OIII]_5008")


def _prism_fwhm(places: LinePlaces) -> np.ndarray:
    """(B, K) the prism's FWHM at each line [pixels of the grid]; meaningless where the line is not known."""
    wavelength = places.grid.start * np.exp(np.maximum(places.pixel, 0.0) / places.grid.sampling)
    return places.grid.sampling / load_instrument(PRISM).resolving_power(wavelength)


def _structure(flux: np.ndarray, valid: np.ndarray, position: np.ndarray, pixels: int) -> np.ndarray:
    """Mean over 12 less mean over 60 prism pixels around each prism pixel, (B, P); NaN where not covered."""
    centre = np.arange(pixels)
    total = _running_sum(np.where(valid, flux, 0.0))
    count = _running_sum(valid.astype(np.float64))
    means = []
    for width, least in ((NARROW, _COVERED), (WIDE, 0.5)):
        low = np.searchsorted(position, centre - 0.5 * width)
        high = np.searchsorted(position, centre + 0.5 * width)
        seen = count[:, high] - count[:, low]
        # as many grid pixels as the window would hold, the same to the blue and to the red
        full = np.maximum(
            np.gradient(np.interp(centre, position, np.arange(position.size))) * width, high - low
        )
        enough = seen >= np.maximum(least * full, 1.0)
        means.append(np.where(enough, (total[:, high] - total[:, low]) / np.maximum(seen, 1.0), np.nan))
    return means[0] - means[1]


def _running_sum(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)], axis=1)


def _half_maximum_width(offset: np.ndarray, flux: np.ndarray) -> float:
    """Width at half the height of the peak within half an FWHM of the centre; NaN without one.

    Args:
        offset: (N,) place of the pixels from the centre [FWHM].
        flux: (N,).
    """
    window = slice(*np.searchsorted(offset, [-3.0, 3.0]))
    part, offset = flux[window], offset[window]
    flank, near = np.abs(offset) > 2.0, np.abs(offset) <= 0.5
    if not np.isfinite(part).all() or not near.any() or not flank.any():
        return np.nan
    part = part - np.median(part[flank])
    peak = int(np.argmax(np.where(near, part, -np.inf)))
    height = part[peak]
    if height <= 0 or part[: peak + 1].min() >= 0.5 * height or part[peak:].min() >= 0.5 * height:
        return np.nan
    whole = (np.array([height]), np.array([0]), np.array([part.size - 1]))
    pixels = peak_widths(part, [peak], rel_height=0.5, prominence_data=whole)[0][0]
    return float(pixels * (offset[1] - offset[0]))


def _finite(statistic, values: np.ndarray) -> float:
    """Statistic of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if finite.size else float("nan")
