"""Whatever else specutils reads: asked last, with its own loaders."""

from __future__ import annotations

import warnings

import numpy as np

from data_pipeline.readers.header import Format, ReadOptions
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta


def identify_specutils(source: Source) -> bool:
    """True for any other FITS file: specutils is asked when it is read."""
    return source.hdus is not None


def read_specutils(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads with one of specutils' own loaders."""
    # seconds to import: only for formats that nothing here knows
    from astropy.nddata import StdDevUncertainty
    from specutils import Spectrum

    if options.hdu is not None or options.flux_column is not None:
        raise SpectrumError(
            f"{source.path}: no known format, so hdu= and flux_column= cannot be honoured; the file has "
            f"{source.hdu_names()}."
        )
    cure = "Convert it to a table with wavelength, flux and error columns that state their units."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of third-party loaders; what matters is checked below
            spectrum = Spectrum.read(str(source.path))
    except Exception as error:  # whatever a third-party loader raises, the caller gets one kind
        raise SpectrumError(
            f"{source.path}: not recognised; the file has {source.hdu_names()}, and specutils says: "
            f"{_first_line(error)}. {cure}"
        ) from error
    if spectrum.uncertainty is None:
        raise SpectrumError(
            f"{source.path}: specutils reads it, but without errors, which are needed. {cure}"
        )
    if spectrum.flux.ndim != 1:
        raise SpectrumError(
            f"{source.path}: specutils reads an array of shape {spectrum.flux.shape}; expected one spectrum. "
            f"{cure}"
        )
    meta = SpectrumMeta(format="specutils", path=str(source.path), notes=source.notes())
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    mask = None if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    return ObservedSpectrum.from_quantities(spectrum.spectral_axis, spectrum.flux, error, mask, meta)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


SPECUTILS = Format("specutils", "any format with a loader in specutils", identify_specutils, read_specutils)
