"""An error norm and the three guards beside it, for tuning.

An error norm alone is lowered by smoothing, by shrinking structure, by blurring lines and by merging
pairs. Each of the three figures beside it sees what the others are blind to:

- amplitude ratio: structure averaged over twelve prism pixels, so that it hardly depends on width;
- width ratio: of lines that stand alone, whatever their height;
- pairs kept: the dip between [O III] 4960 and 5008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import LOW_FREQUENCY_VARIANCE
from data_pipeline.lines import load_lines
from kspecsr.measures.held_out import HeldOut
from kspecsr.methods.prism_view import prism_view
from kspecsr.methods.richardson_lucy import noise_level

NARROW, WIDE = 12.0, 60.0  # prism pixels: structure between these is what the amplitude ratio compares
BRIGHT = 15.0  # prism S/N of a line whose width is measured
FAINTER = 5.0  # and of the weaker line of a pair
_NOISY = 3.0  # times the median noise: pixels beyond do not count in the error norm
_ALONE = 3.0  # prism FWHM within which no other line may have a tenth of the flux
_DIP = 0.9  # valley over lower peak, below which a pair counts as resolved
_RESOLVABLE = 1.0  # prism FWHM between two lines
_COVERED = 0.9
_STRUCTURE = 1.0  # truth's rms between the scales over the noise there


@dataclass(frozen=True)
class Figures:
    """What is known of a reconstruction of many galaxies; NaN where nothing could be measured.

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
    """What a reconstruction must keep.

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
        known = ~view.uncovered(held_out.prism_mask) & ~held_out.target_mask
        pixel = np.arange(level.shape[1])
        fine = np.stack([np.interp(self._position, pixel, row) for row in level])
        self.pixels = known & (fine <= _NOISY * np.median(level, axis=1, keepdims=True))
        self._level = level
        self.lines = _lines_alone(held_out)
        self.pairs = _resolvable_pairs(held_out)

    def figures(self, flux: np.ndarray) -> Figures:
        """All figures of a reconstruction (B, N); NaN in it does not count."""
        return Figures(
            error=_median(scale_free_error(flux, self.held_out.target_flux, self.pixels)),
            amplitude=_median(self.amplitude_ratio(flux)),
            width=_median(self.width_ratio(flux)),
            pairs=_mean(self.pairs_resolved(flux)),
        )

    def amplitude_ratio(self, flux: np.ndarray) -> np.ndarray:
        """Slope (B,) of the reconstruction's structure on the truth's, NaN where that is lost in noise.

        Structure is the mean over 12 prism pixels less the mean over 60. The slope through the origin is that
        of least absolute deviations: the median of their ratios, weighted with the truth's size.
        """
        valid = self.pixels & np.isfinite(flux)
        truth = _structure(self.held_out.target_flux, valid, self._position, self._level.shape[1])
        made = _structure(flux, valid, self._position, self._level.shape[1])
        usable = np.isfinite(truth) & np.isfinite(made) & (truth != 0)
        slope = np.full(len(flux), np.nan)
        for row in np.flatnonzero(usable.sum(axis=1) > WIDE):
            t, m = truth[row, usable[row]], made[row, usable[row]]
            # variance of a mean over many correlated pixels
            noise = np.median(self._level[row, usable[row]]) * np.sqrt(LOW_FREQUENCY_VARIANCE / NARROW)
            if np.sqrt(np.mean(t**2)) > _STRUCTURE * noise:
                slope[row] = _weighted_median(m / t, np.abs(t))
        return slope

    def width_ratio(self, flux: np.ndarray) -> np.ndarray:
        """Full width at half maximum (L,) of the lines that stand alone, over the prism's; NaN if not found.

        Where the reconstruction crosses half its maximum on either side, above the median of the flanks.
        """
        grid = self.held_out.grid
        rest, prism = load_lines().wavelength, load_instrument(PRISM)
        ratio = np.full(len(self.lines), np.nan)
        for number, (row, line) in enumerate(self.lines):
            centre = rest[line] * (1.0 + self.held_out.redshift[row])
            fwhm = float(prism.fwhm(centre))
            width = _half_maximum_width(grid.wavelength, flux[row], centre, fwhm)
            ratio[number] = width / fwhm
        return ratio

    def pairs_resolved(self, flux: np.ndarray) -> np.ndarray:
        """Whether each resolvable [O III] pair (Q,) is two: 1 or 0; NaN in gaps.

        Two peaks with a valley of at most 0.9 of the lower one, above the clean stretch to the red.
        """
        lines = load_lines()
        rest = lines.wavelength[[lines.index("[OIII]_4960"), lines.index("[OIII]_5008")]]
        wavelength = self.held_out.grid.wavelength
        resolved = np.full(len(self.pairs), np.nan)
        for number, row in enumerate(self.pairs):
            blue, red = rest * (1.0 + self.held_out.redshift[row])
            apart = red - blue
            low, high = np.searchsorted(wavelength, [blue - 0.3 * apart, red + 3.0 * apart])
            part, place = flux[row, low:high], (wavelength[low:high] - blue) / apart
            needed = place < 1.3
            side = part[(place > 2.5) & np.isfinite(part)]
            if not np.isfinite(part[needed]).all() or side.size == 0:
                continue
            part = part - np.median(side)
            first, second = (
                int(np.argmax(np.where(np.abs(place - at) <= 0.3, part, -np.inf))) for at in (0.0, 1.0)
            )
            lower = min(part[first], part[second])
            resolved[number] = lower > 0 and part[first : second + 1].min() < _DIP * lower
        return resolved


def scale_free_error(flux: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Least rms of ``a flux - truth`` over one factor a, over the truth's rms about its median.

    Args:
        flux: (B, N); NaN does not count.
        truth: (B, N).
        valid: (B, N) bool: pixels that count.

    Returns:
        (B,) NaN without a pixel or where the truth is constant.
    """
    valid = valid & np.isfinite(flux)
    error = np.full(len(flux), np.nan)
    for row in np.flatnonzero(valid.any(axis=1)):
        made, right = (np.asarray(array[row, valid[row]], np.float64) for array in (flux, truth))
        power = made @ made
        scale = made @ right / power if power > 0 else 0.0
        spread = np.mean((right - np.median(right)) ** 2)
        if spread > 0:
            error[row] = np.sqrt(np.mean((scale * made - right) ** 2) / spread)
    return error


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


def _half_maximum_width(wavelength: np.ndarray, flux: np.ndarray, centre: float, fwhm: float) -> float:
    """Width [um] at half the height of the peak within half an FWHM of the centre; NaN without one."""
    low, high = np.searchsorted(wavelength, [centre - 3.0 * fwhm, centre + 3.0 * fwhm])
    part, offset = flux[low:high], (wavelength[low:high] - centre) / fwhm
    flank, near = np.abs(offset) > 2.0, np.abs(offset) <= 0.5
    if not np.isfinite(part).all() or not near.any() or not flank.any():
        return np.nan
    part = part - np.median(part[flank])
    peak = int(np.argmax(np.where(near, part, -np.inf)))
    half = 0.5 * part[peak]
    right = np.flatnonzero(part[peak:] < half)
    left = np.flatnonzero(part[peak::-1] < half)
    if half <= 0 or right.size == 0 or left.size == 0:
        return np.nan
    edges = [
        _crossing(offset, part, peak + side * int(step[0]), side, half)
        for side, step in ((1, right), (-1, left))
    ]
    return float((edges[0] - edges[1]) * fwhm)


def _crossing(offset: np.ndarray, part: np.ndarray, below: int, side: int, half: float) -> float:
    """Where the line between the last pixel above half maximum and the first below it crosses that."""
    above = below - side
    share = (part[above] - half) / (part[above] - part[below])
    return offset[above] + share * (offset[below] - offset[above])


def _lines_alone(held_out: HeldOut) -> np.ndarray:
    """(L, 2) galaxy and line."""
    prism, grid = load_instrument(PRISM), held_out.grid
    with np.errstate(invalid="ignore"):
        centre = load_lines().wavelength * (1.0 + held_out.redshift[:, None])
    centre = np.where(held_out.line_known & np.isfinite(centre), centre, np.nan)
    bright = held_out.line_known & (held_out.line_snr > BRIGHT) & np.isfinite(centre)
    found = []
    for row, line in np.argwhere(bright):
        at = centre[row, line]
        reach = _ALONE * prism.fwhm(at)
        close = np.abs(centre[row] - at) < reach
        close[line] = False
        rival = (held_out.line_flux[row, close] > 0.1 * held_out.line_flux[row, line]).any()
        if not rival and grid.wavelength[0] < at - reach and at + reach < grid.wavelength[-1]:
            found.append((row, line))
    return np.array(found, dtype=int).reshape(-1, 2)


def _resolvable_pairs(held_out: HeldOut) -> np.ndarray:
    """(Q,) galaxies."""
    lines, prism = load_lines(), load_instrument(PRISM)
    weak, strong = lines.index("[OIII]_4960"), lines.index("[OIII]_5008")
    stretch = 1.0 + np.nan_to_num(held_out.redshift)
    blue, red = lines.wavelength[weak] * stretch, lines.wavelength[strong] * stretch
    position = prism.position(red + 3.0 * (red - blue))
    seen = position < prism.position(held_out.grid.wavelength[-1:])
    bright = (held_out.line_snr[:, strong] > BRIGHT) & (held_out.line_snr[:, weak] > FAINTER)
    known = held_out.line_known[:, weak] & held_out.line_known[:, strong] & np.isfinite(held_out.redshift)
    return np.flatnonzero(bright & known & seen & (red - blue > _RESOLVABLE * prism.fwhm(red)))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")
