"""From whatever a caller has to a spectrum on the prism's pixels, as the networks take it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.readers import read_spectrum
from data_pipeline.resampling import to_pixels
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

MASKED_ERROR = 1e-20  # [erg/s/cm2/A] where masked: finite, and of the size of real ones


@dataclass(frozen=True, eq=False)
class PrismInput:
    """A spectrum on the prism's P pixels.

    Attributes:
        observed: the spectrum as read, on its own pixels.
        flux: (P,) [erg/s/cm2/A]; 0 where masked.
        error: (P,) one sigma; positive everywhere.
        mask: (P,) bool, True = bad.
    """

    observed: ObservedSpectrum
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray


def prism_wavelength() -> np.ndarray:
    """(P,) centres of the prism pixels [um, vacuum] that the networks take."""
    return load_instrument(PRISM).wavelength


def is_prism(spectrum: ObservedSpectrum) -> bool:
    """Whether a spectrum is one of the prism, or does not say what it is."""
    return spectrum.meta.disperser in ("", "PRISM")


def prism_input(spectrum: ObservedSpectrum) -> PrismInput:
    """Brings a prism spectrum onto the pixels that the networks take; exact where it has them already.

    Raises:
        SpectrumError: for a spectrum that was not taken with the prism, naming the file.
    """
    if not is_prism(spectrum):
        meta = spectrum.meta
        raise SpectrumError(
            f"{meta.origin}: is a {meta.disperser} spectrum; expected NIRSpec PRISM, which is what the "
            "networks super-resolve. Give the prism spectrum of this object."
        )
    flux, error, bad = to_pixels(
        spectrum.wavelength, spectrum.flux, spectrum.error, spectrum.mask, prism_wavelength()
    )
    bad = bad | ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
    return PrismInput(spectrum, np.where(bad, 0.0, flux), np.where(bad, MASKED_ERROR, error), bad)


def observed_spectrum(given: Any, extraction: str = "3pix") -> ObservedSpectrum:
    """A spectrum from what a caller may have.

    Args:
        given: path of a file; specutils Spectrum; `ObservedSpectrum`; or wavelength, flux, error and perhaps
            mask (True = bad) as a tuple of astropy Quantity arrays or a mapping with these keys.
        extraction: as in `data_pipeline.readers.read_spectrum`.

    Raises:
        SpectrumError: for what cannot be read, or has no errors or no units.
        TypeError: for anything else.
    """
    if isinstance(given, ObservedSpectrum):
        return given
    if isinstance(given, str | os.PathLike):
        return read_spectrum(given, extraction=extraction)
    if hasattr(given, "spectral_axis"):
        return _from_specutils(given)
    if isinstance(given, Mapping):
        return _from_mapping(given)
    if isinstance(given, tuple) and len(given) in (3, 4) and isinstance(given[0], u.Quantity):
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
        meta = SpectrumMeta(disperser=_disperser(spectrum.meta))
    if spectrum.flux.ndim != 1:
        raise SpectrumError(
            f"{meta.origin}: the Spectrum holds an array of shape {spectrum.flux.shape}; expected one "
            "dimension. Give a list of one-dimensional ones."
        )
    if spectrum.uncertainty is None:
        raise SpectrumError(
            f"{meta.origin}: the Spectrum has no uncertainty, which is needed. Add a StdDevUncertainty."
        )
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    mask = None if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    # results come in the unit of this object, whatever the file once had
    meta = replace(meta, flux_unit="")
    return ObservedSpectrum.from_quantities(
        u.Quantity(spectrum.spectral_axis), spectrum.flux, error, mask, meta
    )


def _disperser(meta: Mapping[str, Any]) -> str:
    for place in (meta, meta.get("header", {})):
        if "GRATING" in place:
            return str(place["GRATING"]).strip().upper()
    return ""


def display_name(spectrum: ObservedSpectrum) -> str:
    """File name, target or id, for titles and tables."""
    meta = spectrum.meta
    return Path(meta.path).name or meta.target or meta.source_id or "spectrum"


def prism_pixel_of(wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per output pixel (N,) [um], the prism pixel that holds it and whether one does."""
    return load_instrument(PRISM).pixel_of(wavelength)


def output_mask(prism_mask: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """Where the output has no input to rest on.

    That is beyond the first and last good prism pixel, and in gaps wider than the instrument's resolution;
    a narrower gap is bridged by the line-spread function of its neighbours.

    Args:
        prism_mask: (P,) bool, True = bad.
        wavelength: (N,) pixels of the output [um].

    Returns:
        (N,) bool, True = no data.
    """
    instrument = load_instrument(PRISM)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], prism_mask, [False]]).astype(int)))
    lost = prism_mask.copy()
    for start, stop in edges.reshape(-1, 2):
        inside = start > 0 and stop < prism_mask.size
        low, high = instrument.bounds[0, start], instrument.bounds[1, stop - 1]
        if inside and high - low <= instrument.fwhm(0.5 * (low + high)):
            lost[start:stop] = False
    column, covered = prism_pixel_of(wavelength)
    return lost[column] | ~covered
