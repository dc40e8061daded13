"""A method's spectra beside the truth, and where lines lie: cores, wings, and continuum free of lines."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from data_pipeline.instrument import SPEED_OF_LIGHT, reference_instrument
from data_pipeline.lines import list_of
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.measures.estimate import median_of_rows
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.lines import DETECTED, STRONG

VELOCITY_FWHM = 100.0  # km/s, of a usual galaxy's lines; adds in quadrature to the reference's resolution
REGIONS = ("core", "wing", "continuum")
NO_REGION = -1
# Line cores: how far they reach on either side of a line [FWHM], and the S/N in the prism of lines that have
# one. Shapes are compared over whole profiles, as a blur shows in the flanks, of lines that are to be
# recovered.
SHAPE_CORE = (1.5, STRONG)
# Errors are judged, and calibrated, where the line outshines the continuum, for every line that is detected.
ERROR_CORE = (1.0, DETECTED)
WING_REACH = 4.0  # FWHM
CONTINUUM_REACH, CONTINUUM_SNR = 6.0, 1.0  # FWHM from every line above this S/N
SMOOTHING = 101  # pixels of the running mean that makes the high-pass part (paper Fig. 7)
_BLOCK = 20  # pixels of the medians that make a smooth level where the continuum is not known
_BLOCKS = 5  # number of blocks of which the level is the running median


# ---- where lines lie


@dataclass(frozen=True)
class LinePlaces:
    """Lines on the unified grid.

    Attributes:
        grid: unified grid.
        known: (B, K) bool, False without a redshift.
        pixel: (B, K) place of the centre in pixels from the first; -1 where not known.
        fwhm: (B, K) expected full width at half maximum in the reference [pixels]; 1 where not known.
    """

    grid: UnifiedGrid
    known: np.ndarray
    pixel: np.ndarray
    fwhm: np.ndarray

    def within(self, chosen: np.ndarray, reach: float) -> np.ndarray:
        """(B, N) bool: pixels within ``reach`` FWHM of a chosen line.

        Args:
            chosen: (B, K) bool.
            reach: FWHM on either side.
        """
        row, line = np.nonzero(chosen & self.known)
        centre, half = self.pixel[row, line], reach * self.fwhm[row, line]
        size = self.grid.size
        first = np.clip(np.ceil(centre - half), 0, size).astype(np.int64)
        end = np.clip(np.floor(centre + half) + 1, 0, size).astype(np.int64)
        # one more where a line begins, one less where it ends: the running sum is the number of lines
        change = np.zeros((len(self.known), size + 1), np.int16)
        np.add.at(change, (row, first), 1)
        np.add.at(change, (row, end), -1)
        return np.cumsum(change[:, :-1], axis=1, dtype=np.int16) > 0


def line_places(grid: UnifiedGrid, redshift: np.ndarray, known: np.ndarray) -> LinePlaces:
    """Expected places of the lines of some galaxies.

    Args:
        grid: unified grid.
        redshift: (B,) NaN where unknown.
        known: (B, K) bool: the line is covered and its flux is known.
    """
    known = known & np.isfinite(redshift)[:, None]
    factor = np.where(np.isfinite(redshift), 1.0 + redshift, 1.0)
    observed = np.where(known, list_of(known.shape[1]).wavelength * factor[:, None], grid.start)
    power = reference_instrument(grid).resolving_power(observed)
    fwhm = grid.sampling * np.hypot(1.0 / power, VELOCITY_FWHM / SPEED_OF_LIGHT)
    pixel = grid.sampling * np.log(observed / grid.start)
    return LinePlaces(grid, known, np.where(known, pixel, -1.0), np.where(known, fwhm, 1.0))


def pixel_regions(held_out: HeldOut, core: tuple[float, float] = ERROR_CORE) -> np.ndarray:
    """Region of each pixel: core or wing of a line, or continuum.

    ``core`` is near a line, ``wing`` from there to 4 FWHM, ``continuum`` beyond 6 FWHM of every known line
    with S/N above 1; the FWHM is the reference's with 100 km/s of the galaxy (`line_places`).

    Args:
        held_out: galaxies.
        core: reach [FWHM] of cores, and the S/N in the prism above which a line has core and wings.

    Returns:
        (B, N) int8, index into `REGIONS`; -1 for pixels of none, and for galaxies without a redshift,
        whose lines are unknown.
    """
    places = line_places(held_out.grid, held_out.redshift, held_out.line_known)
    reach, snr = core
    region = np.full((len(held_out), held_out.grid.size), NO_REGION, np.int8)
    # From the widest to the narrowest: each overwrites what it lies in.
    region[~places.within(held_out.line_snr > CONTINUUM_SNR, CONTINUUM_REACH)] = REGIONS.index("continuum")
    region[places.within(held_out.line_snr > snr, WING_REACH)] = REGIONS.index("wing")
    region[places.within(held_out.line_snr > snr, reach)] = REGIONS.index("core")
    region[~np.isfinite(held_out.redshift)] = NO_REGION
    return region


# ---- output and truth on the same pixels


@dataclass(frozen=True)
class Comparison:
    """A method's spectra and the truth; flux density in 1e-20 erg/s/cm2/A.

    Attributes:
        places: expected places of the lines.
        good: (B, N) bool: target not masked, both spectra finite.
        truth, output: (B, N); 0 where not good.
        variance: (B, N) of the target's noise; 0 for noise-free truth.
        level: (B, N) the target's continuum: its true one, or a running median.
        high_truth, high_output: (B, N) after subtraction of the running mean over 101 pixels.
        core: (B, N) bool: good, in a line core (`SHAPE_CORE`).
        continuum: (B, N) bool: good, in the continuum (`pixel_regions`).
        scale: (B,) to which residuals are normalised: the median of the absolute prism flux, or of the prism
            error where that is larger; NaN without a good prism pixel.
        line_flux, line_snr: (B, K) of the truth.
    """

    places: LinePlaces
    good: np.ndarray
    truth: np.ndarray
    output: np.ndarray
    variance: np.ndarray
    level: np.ndarray
    high_truth: np.ndarray
    high_output: np.ndarray
    core: np.ndarray
    continuum: np.ndarray
    scale: np.ndarray
    line_flux: np.ndarray
    line_snr: np.ndarray


def compare(held_out: HeldOut, reconstruction: Reconstruction) -> Comparison:
    """Prepares the comparison of a method's spectra with the truth."""
    flux = reconstruction.flux
    good = np.isfinite(flux) & ~held_out.target_mask & np.isfinite(held_out.target_flux)
    truth = np.where(good, held_out.target_flux, 0.0).astype(np.float64)
    output = np.where(good, flux, 0.0).astype(np.float64)
    places = line_places(held_out.grid, held_out.redshift, held_out.line_known)
    region = pixel_regions(held_out, SHAPE_CORE)
    return Comparison(
        places=places,
        good=good,
        truth=truth,
        output=output,
        variance=np.where(good, held_out.target_error, 0.0).astype(np.float64) ** 2,
        level=_level(held_out, truth, good),
        high_truth=high_pass(truth, good),
        high_output=high_pass(output, good),
        core=good & (region == REGIONS.index("core")),
        continuum=good & (region == REGIONS.index("continuum")),
        scale=_prism_scale(held_out),
        line_flux=np.where(places.known, held_out.line_flux, 0.0),
        line_snr=np.where(places.known, held_out.line_snr, 0.0),
    )


def high_pass(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values less their running mean over 101 pixels; 0 where not good (paper section 4.2, Fig. 7).

    Args:
        values: (B, N), 0 where not good.
        good: (B, N) bool.
    """
    weight, smooth = (
        uniform_filter1d(array, SMOOTHING, axis=1, mode="constant") for array in (good.astype(float), values)
    )
    # A good pixel counts in its own mean, so that the weight there is 1/101 or more.
    return np.where(good, values - smooth / np.maximum(weight, 0.5 / SMOOTHING), 0.0)


def _prism_scale(held_out: HeldOut) -> np.ndarray:
    scale = np.maximum(
        median_of_rows(np.abs(held_out.prism_flux), ~held_out.prism_mask),
        median_of_rows(held_out.prism_error, ~held_out.prism_mask),
    )
    return np.where(scale > 0, scale, np.nan)


def _level(held_out: HeldOut, truth: np.ndarray, good: np.ndarray) -> np.ndarray:
    level = np.where(good, held_out.target_continuum, 0.0).astype(np.float64)
    unknown = np.flatnonzero(~held_out.continuum_known)
    if unknown.size:
        level[unknown] = _running_median(truth[unknown], good[unknown])
    return level


def _running_median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(B, N) median of block medians, interpolated between the blocks; NaN for a row without good pixels."""
    rows, size = values.shape
    blocks = -(-size // _BLOCK)
    pad = ((0, 0), (0, blocks * _BLOCK - size))
    shape = (rows, blocks, _BLOCK)
    # Medians of blocks first: a running median over a hundred pixels of each pixel costs a hundred times as
    # much.
    middle = median_of_rows(np.pad(values, pad).reshape(shape), np.pad(good, pad).reshape(shape))
    reach = ((0, 0), (_BLOCKS // 2, _BLOCKS // 2))
    near = np.lib.stride_tricks.sliding_window_view(
        np.pad(middle, reach, constant_values=np.nan), _BLOCKS, axis=1
    )
    smooth = median_of_rows(near, np.isfinite(near))
    place, centre = np.arange(size), (np.arange(blocks) + 0.5) * _BLOCK - 0.5
    out = np.full(values.shape, np.nan)
    for row, known in enumerate(np.isfinite(smooth)):
        if known.any():
            out[row] = np.interp(place, centre[known], smooth[row, known])
    return out
