"""Spectra on the prism's pixels: what the networks take, and what the prism would see of their output."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from data_pipeline.instrument import PRISM, degrading_operator, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.readers import read_spectrum
from data_pipeline.readers.identity import check_wavelengths, disperser_of
from data_pipeline.resampling import to_prism_pixels
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta
from kspecsr.results.background import background_deficit

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
MASKED_ERROR = 1e-20  # [erg/s/cm2/A] of masked pixels: finite, and of the size of real ones
# Released prism pixels are 0.3-0.6 of an unresolved line's FWHM; photometry and binned spectra are wider
WIDEST_PIXEL = 1.5
# and those of medium gratings are 0.02-0.099 of it
FINEST_PIXEL = 0.1


@dataclass(frozen=True, eq=False)
class PrismInput:
    """A spectrum on the prism's P pixels.

    Attributes:
        observed: observed spectrum as read, on its own pixels.
        flux: (P,) flux density [erg/s/cm2/A]; 0 where masked.
        error: (P,) one sigma; positive everywhere.
        mask: (P,) bool, True = bad.
        raised: what was added to a negative continuum (P,); 0 for none.
    """

    observed: ObservedSpectrum
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray
    raised: np.ndarray | float = 0.0


def stacked(inputs: Sequence[PrismInput]) -> Arrays:
    """Flux, error and mask of several spectra, (B, P) each."""
    return tuple(np.stack([getattr(one, name) for one in inputs]) for name in ("flux", "error", "mask"))


def prism_wavelength() -> np.ndarray:
    """(P,) centres of the prism pixels [um, vacuum] that the networks take."""
    return load_instrument(PRISM).wavelength


def is_prism(spectrum: ObservedSpectrum) -> bool:
    """Whether a spectrum was taken with the prism, or does not say with what."""
    # Text tables and arrays seldom name a disperser; to refuse them would refuse most of what users have.
    return spectrum.meta.disperser in ("", "PRISM")


def prism_input(spectrum: ObservedSpectrum) -> PrismInput:
    """Resample a prism spectrum onto the pixels that the networks take; exact where it has them already.

    Pixels wider than `WIDEST_PIXEL` times the FWHM of an unresolved line are left out, and a negative
    continuum is raised (`kspecsr.results.background`), each with a note.

    Raises:
        SpectrumError: for a spectrum that was not taken with the prism, or most of whose pixels are too wide,
            naming the file.
    """
    narrow = check_prism(spectrum)
    spectrum = spectrum.replace(meta=narrow.meta)
    arrays = to_prism_pixels(narrow.wavelength, narrow.flux, narrow.error, narrow.mask)
    flux, error, bad = masked(*arrays)
    deficit = background_deficit(flux, error, bad)
    if deficit.any():
        where = prism_wavelength()[deficit > 0]
        spectrum = spectrum.noted(
            f"continuum is negative (background over-subtracted?): raised by up to {deficit.max():.2g} "
            f"erg/s/cm2/A at {where[0]:.2f}-{where[-1]:.2f} um for the networks; line fluxes hold, the "
            "continuum there does not, and there are no equivalent widths"
        )
    return PrismInput(spectrum, flux + deficit, error, bad, deficit)


def check_prism(spectrum: ObservedSpectrum) -> ObservedSpectrum:
    """The spectrum without pixels that are too wide for the prism, and a note on these.

    Raises:
        SpectrumError: for one that was not taken with the prism, or most of whose pixels are too wide; names
            the file.
    """
    if not is_prism(spectrum):
        meta = spectrum.meta
        raise SpectrumError(
            f"{meta.origin}: is a {meta.disperser} spectrum; expected NIRSpec PRISM, which is what the "
            "networks super-resolve. Give the prism spectrum of this object; a medium grating goes beside "
            "it: --with FILE, or gratings=[...]."
        )
    ratio = _relative_widths(spectrum)
    if not np.isfinite(ratio).any():
        low, high = prism_wavelength()[[0, -1]]
        return spectrum.noted(
            f"no good pixel at {low:.2f}-{high:.2f} um, where the prism sees: wavelengths run from "
            f"{spectrum.wavelength[0]:.4g} to {spectrum.wavelength[-1]:.4g} um (is their unit right?)"
        )
    if np.nanmedian(ratio) < FINEST_PIXEL and not spectrum.meta.disperser:
        spectrum = spectrum.noted(
            f"pixels are {np.nanmedian(ratio):.2g} of the prism's resolution wide (its own are 0.3-0.6), as "
            "those of a grating are: if it is one, redshift and lines are wrong"
        )
    wide = ratio > WIDEST_PIXEL
    if wide.sum() > 0.5 * np.isfinite(ratio).sum():
        raise SpectrumError(
            f"{spectrum.meta.origin}: its {np.isfinite(ratio).sum()} good points on the prism's range are "
            f"{np.nanmedian(ratio):.1f} times as far apart as the prism's resolution is wide; "
            "expected pixels of a prism spectrum, neither photometry nor a binned spectrum."
        )
    if not wide.any():
        return spectrum
    names = ("wavelength", "flux", "error", "mask")
    narrow = spectrum.replace(**{name: getattr(spectrum, name)[~wide] for name in names})
    return narrow.noted(
        f"{wide.sum()} pixels left out: wider than {WIDEST_PIXEL:g} times the prism's resolution"
    )


def _relative_widths(spectrum: ObservedSpectrum) -> np.ndarray:
    """Widths of pixels (n,) over the FWHM of an unresolved line; NaN where bad or beyond the prism."""
    wavelength, prism = spectrum.wavelength, load_instrument(PRISM)
    width = np.diff(pixel_bounds(wavelength), axis=0)[0]
    on_prism = ~spectrum.mask & (wavelength > prism.wavelength[0]) & (wavelength < prism.wavelength[-1])
    ratio = width / prism.fwhm(np.clip(wavelength, *prism.wavelength[[0, -1]]))
    return np.where(on_prism, ratio, np.nan)


def masked(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> Arrays:
    """Flux, error and mask with unusable pixels masked too, and finite values there; any shape."""
    bad = mask | ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
    # Finite under the mask: in the networks NaN times 0 would be NaN, and spread over the whole spectrum.
    return np.where(bad, 0.0, flux), np.where(bad, MASKED_ERROR, error), bad


def observed_spectrum(
    given: Any, extraction: str = "3pix", hdu: str | int | None = None, row: int | None = None
) -> ObservedSpectrum:
    """A spectrum from what a caller may have.

    Args:
        given: path of a file; specutils Spectrum; `ObservedSpectrum`; or wavelength, flux, error and perhaps
            mask (True = bad) as a tuple of astropy quantities, also masked, or a mapping with these keys.
        extraction: as in `data_pipeline.readers.read_spectrum`, for files.
        hdu: likewise.
        row: likewise.

    Raises:
        SpectrumError: for what cannot be read, or has no errors or no units.
        TypeError: for anything else.
    """
    if isinstance(given, ObservedSpectrum):
        return given
    if isinstance(given, str | os.PathLike):
        return read_spectrum(given, extraction=extraction, hdu=hdu, row=row)
    # By its attribute: specutils is an option, and slow to import.
    if hasattr(given, "spectral_axis"):
        return _from_specutils(given)
    if isinstance(given, Mapping):
        return _from_mapping(given)
    if isinstance(given, tuple) and len(given) in (3, 4) and hasattr(given[0], "unit"):
        return ObservedSpectrum.from_quantities(*given)
    raise TypeError(
        f"expected a path, a specutils Spectrum, an ObservedSpectrum, or wavelength, flux, error[, mask] as "
        f"Quantity arrays in a tuple or dict, got {type(given).__name__}"
    )


def _from_mapping(given: Mapping[str, Any]) -> ObservedSpectrum:
    known, needed = {"wavelength", "flux", "error", "mask"}, {"wavelength", "flux", "error"}
    if not needed <= set(given) <= known:
        raise SpectrumError(
            f"spectrum: expected the keys wavelength, flux, error and perhaps mask, got {', '.join(given)}"
        )
    return ObservedSpectrum.from_quantities(**given)


def _from_specutils(spectrum: Any) -> ObservedSpectrum:
    from astropy.nddata import StdDevUncertainty  # slow to import: only where specutils is in use

    meta = spectrum.meta.get("kspecsr")
    if not isinstance(meta, SpectrumMeta):
        places = [m for m in (spectrum.meta, spectrum.meta.get("header")) if isinstance(m, Mapping)]
        meta = SpectrumMeta(disperser=disperser_of("", places))
        check_wavelengths("spectrum", places)
    if spectrum.flux.ndim != 1:
        raise SpectrumError(
            f"{meta.origin}: the Spectrum holds an array of shape {spectrum.flux.shape}; expected one "
            "dimension. Give a list of one-dimensional ones."
        )
    if spectrum.uncertainty is None:
        raise SpectrumError(
            f"{meta.origin}: the Spectrum has no uncertainty, which is needed. Add a StdDevUncertainty."
        )
    # Inverse variances, as SDSS has them, become standard deviations.
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    mask = None if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    # results come in the unit of this object, whatever the file once had
    meta = replace(meta, flux_unit="")
    return ObservedSpectrum.from_quantities(
        u.Quantity(spectrum.spectral_axis), spectrum.flux, error, mask, meta
    )


def display_name(spectrum: ObservedSpectrum) -> str:
    """File name, target or id, for titles and tables."""
    meta = spectrum.meta
    return Path(meta.path).name or meta.target or meta.source_id or "spectrum"


def degraded_to_prism(flux: np.ndarray, grid: UnifiedGrid) -> np.ndarray:
    """Flux density (..., N) on the unified grid to the prism's pixels (..., P); NaN beyond it."""
    operator = degrading_operator(grid)
    return np.where(operator.interior, operator.apply(flux), np.nan)


def model_of_prism(flux: np.ndarray, mask: np.ndarray, grid: UnifiedGrid) -> np.ndarray:
    """(P,) an output (N,) as the prism would see it; NaN where that sees masked pixels."""
    model, hidden = (degraded_to_prism(values, grid) for values in (np.where(mask, 0.0, flux), mask * 1.0))
    return np.where(hidden > 1e-6, np.nan, model)


def seen_on_grid(grid: UnifiedGrid) -> np.ndarray:
    """(P,) bool: prism pixels that see light from the grid alone."""
    return degrading_operator(grid).interior


def prism_chi_square(flux, error, mask, model, xp=np):
    """Chi-square (...) per good prism pixel, as the model's own ``chi_square`` is; NaN without a good pixel.

    Flux, error, mask (True = bad) and model are (..., P), the model NaN where unknown; ``xp`` is `numpy` or
    `keras.ops`.
    """
    good = ~mask & xp.isfinite(model)
    square = xp.where(good, (flux - model) / xp.where(good, error, 1.0), 0.0) ** 2
    count = xp.sum(xp.where(good, xp.ones_like(square), 0.0), axis=-1)
    return xp.sum(square, axis=-1) / xp.where(count > 0, count, np.nan) / PIXEL_NOISE_VARIANCE


@lru_cache(maxsize=1)
def _narrow_gaps() -> list[np.ndarray]:
    """For gaps of 1, 2, ... pixels: whether one that starts at a prism pixel is within the resolution."""
    prism, narrow = load_instrument(PRISM), []
    low, high = prism.bounds
    while True:
        first, last = low[: low.size - len(narrow)], high[len(narrow) :]
        bridged = last - first <= prism.fwhm(0.5 * (first + last))
        if not bridged.any():
            return narrow
        narrow.append(bridged)


def output_mask(prism_mask, grid: UnifiedGrid, xp=np):
    """Where the output has no input data.

    That is beyond the first and last good prism pixel, and in gaps wider than the instrument's resolution;
    a narrower gap is bridged by the line-spread function of its neighbours.

    Args:
        prism_mask: (B, P) bool, True = bad.
        grid: pixels of the output.
        xp: `numpy` or `keras.ops`.

    Returns:
        (B, N) bool, True = no data.
    """
    lost, good = prism_mask, ~prism_mask
    for length, narrow in enumerate(_narrow_gaps(), start=1):
        # one good pixel, as many bad ones, one good pixel: at the pixel before the gap
        count = prism_mask.shape[1] - length - 1
        gap = good[:, :count] & good[:, length + 1 :] & narrow[1:-1]
        for k in range(1, length + 1):
            gap = gap & prism_mask[:, k : k + count]
        nothing = xp.zeros_like(prism_mask)
        for k in range(1, length + 1):
            bridged = xp.concatenate([nothing[:, :k], gap, nothing[:, k + count :]], axis=1)
            lost = lost & ~bridged
    # The nearest prism pixel decides about an output pixel: it is the one whose light it mostly restores.
    column, covered = load_instrument(PRISM).pixel_of(grid.wavelength)
    return xp.take(lost, column, axis=1) | ~covered
