"""Truth and reconstruction on the pixels that both have, prepared once for all spectrum metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.regions import (
    CONTINUUM_REACH,
    CONTINUUM_SNR,
    CORE_REACH,
    CORE_SNR,
    LinePlaces,
    line_places,
)

SMOOTHING = 101  # pixels of the running mean that makes the high-pass part (paper Fig. 7)
_BLOCK = 20  # pixels of the medians that make a smooth level where the continuum is not known
_BLOCKS = 5  # of which the level is the running median


@dataclass(frozen=True)
class Comparison:
    """What is compared; flux density in 1e-20 erg/s/cm2/A.

    Attributes:
        places: of the lines.
        good: (B, N) bool: target not masked, both spectra finite.
        truth, output: (B, N); 0 where not good.
        variance: (B, N) of the target's noise; 0 for noise-free truth.
        level: (B, N) the target's continuum: its true one, or a running median.
        high_truth, high_output: (B, N) after subtraction of the running mean over 101 pixels.
        core: (B, N) bool: good, within 1.5 FWHM of a line of prism S/N > 5.
        continuum: (B, N) bool: good, beyond 6 FWHM of every line of prism S/N > 1.
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


def compare(held_out: HeldOut, made: Reconstruction) -> Comparison:
    """Prepares the comparison of a method's spectra with the truth."""
    good = np.isfinite(made.flux) & ~held_out.target_mask & np.isfinite(held_out.target_flux)
    truth = np.where(good, held_out.target_flux, 0.0).astype(np.float64)
    output = np.where(good, made.flux, 0.0).astype(np.float64)
    variance = np.where(good, held_out.target_error, 0.0).astype(np.float64) ** 2
    places = line_places(held_out.grid, held_out.redshift, held_out.line_known)
    weight = uniform_filter1d(good.astype(np.float64), SMOOTHING, axis=1, mode="constant")
    return Comparison(
        places=places,
        good=good,
        truth=truth,
        output=output,
        variance=variance,
        level=_level(held_out, truth, good),
        high_truth=high_pass(truth, good, weight),
        high_output=high_pass(output, good, weight),
        core=good & places.within(held_out.line_snr > CORE_SNR, CORE_REACH),
        continuum=good & ~places.within(held_out.line_snr > CONTINUUM_SNR, CONTINUUM_REACH),
        scale=_prism_scale(held_out),
        line_flux=np.where(places.known, held_out.line_flux, 0.0),
        line_snr=np.where(places.known, held_out.line_snr, 0.0),
    )


def high_pass(values: np.ndarray, good: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Values less their running mean over 101 pixels; 0 where not good (paper section 4.2, Fig. 7).

    Args:
        values: (B, N), 0 where not good.
        good: (B, N) bool.
        weight: (B, N) running mean of ``good``, if known already.
    """
    if weight is None:
        weight = uniform_filter1d(good.astype(np.float64), SMOOTHING, axis=1, mode="constant")
    smooth = uniform_filter1d(values, SMOOTHING, axis=1, mode="constant")
    # A good pixel counts in its own mean, so that the weight there is 1/101 or more.
    return np.where(good, values - smooth / np.maximum(weight, 0.5 / SMOOTHING), 0.0)


def _prism_scale(held_out: HeldOut) -> np.ndarray:
    scale = np.maximum(
        median_of_rows(np.abs(held_out.prism_flux), ~held_out.prism_mask),
        median_of_rows(held_out.prism_error, ~held_out.prism_mask),
    )
    return np.where(scale > 0, scale, np.nan)


def median_of_rows(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(B,) median of the chosen values of each row; NaN without any.

    Args:
        values: (B, n).
        chosen: (B, n) bool.
    """
    return _median(np.asarray(values, np.float64), chosen & np.isfinite(values))


def _median(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Median over the last axis."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=-1)
    count = chosen.sum(axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)
    both = np.take_along_axis(ordered, np.stack([low, high], axis=-1), axis=-1)
    return np.where(count > 0, np.where(count[..., None] > 0, both, 0.0).mean(axis=-1), np.nan)


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
    middle = _median(np.pad(values, pad).reshape(shape), np.pad(good, pad).reshape(shape))
    reach = ((0, 0), (_BLOCKS // 2, _BLOCKS // 2))
    near = np.lib.stride_tricks.sliding_window_view(
        np.pad(middle, reach, constant_values=np.nan), _BLOCKS, axis=1
    )
    smooth = _median(near, np.isfinite(near))
    place, centre = np.arange(size), (np.arange(blocks) + 0.5) * _BLOCK - 0.5
    out = np.full(values.shape, np.nan)
    for row, known in enumerate(np.isfinite(smooth)):
        if known.any():
            out[row] = np.interp(place, centre[known], smooth[row, known])
    return out
