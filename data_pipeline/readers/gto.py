"""NIRSpec GTO pipeline ``<id>_<grating>_<filter>_v*_1D.fits``: one image extension per quantity."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np

from data_pipeline.readers.header import Format, ReadOptions, strip_zeros, text_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

# BUNIT is blank in these files; the primary header says 'm-3 W' (SI flux density per wavelength).
_FLUX_UNIT = u.W / u.m**3
_ERROR_HDU = {"DATA": "ERR", "EXTR3": "EXTR3ERR"}
_FLAG_HDUS = ("DIRTY_QUALITY", "GTO_FLAG")
_NAME = re.compile(r"^(?P<id>[^_]+)_(?P<disperser>[a-z0-9]+)_(?P<filter>[a-z0-9]+)_v[\d.]+_1D\.fits", re.I)


def identify(source: Source) -> bool:
    """True if the primary header names the file type R1D, or the GTO pipeline beside a WAVELENGTH image."""
    primary = source.primary
    return text_of(primary, "FILETYPE") == "R1D" or (
        text_of(primary, "SYSTEM") == "ESA-PIPELINE" and source.get("WAVELENGTH") is not None
    )


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads EXTR3 (three pixels; since v5) or DATA (five pixels).

    The DQFLAGS extension is only a legend of flag bits; flagged pixels are those of the per-pixel arrays
    DIRTY_QUALITY and GTO_FLAG where a file (v3) has them. The linear CRVAL1/CDELT1 is not valid for the
    prism, so the WAVELENGTH extension is read.
    """
    flux_hdu, extraction, notes = _choose(source, options)
    flux = source.image(flux_hdu, _flux_unit(source))
    error = source.image(_ERROR_HDU[flux_hdu], _flux_unit(source))
    mask = np.zeros(flux.shape, bool)
    for name in _FLAG_HDUS:
        if source.get(name) is not None:
            flags = source.image(name, u.dimensionless_unscaled).value
            if flags.shape != mask.shape:
                raise SpectrumError(
                    f"{source.path}[{name}]: has shape {flags.shape}, expected {mask.shape} as {flux_hdu}. "
                    "Download the file again."
                )
            mask |= flags != 0
    name = _NAME.match(source.path.name)
    meta = SpectrumMeta(
        target=name["id"] if name else "",
        source_id=strip_zeros(name["id"]) if name else "",
        disperser=text_of(source.primary, "GWA_POS").upper(),
        filter=text_of(source.primary, "FWA_POS").upper(),
        format="gto",
        extraction=extraction,
        path=str(source.path),
        hdu=flux_hdu,
        notes=notes + source.notes(),
    )
    return ObservedSpectrum.from_quantities(source.image("WAVELENGTH", u.m), flux, error, mask, meta)


def _choose(source: Source, options: ReadOptions) -> tuple[str, str, tuple[str, ...]]:
    asked = options.flux_column or options.hdu
    if asked is not None:
        name = str(asked).upper()
        if name not in _ERROR_HDU:
            raise SpectrumError(
                f"{source.path}: HDU {asked!r} has no error extension known here; choose "
                f"{' or '.join(_ERROR_HDU)}."
            )
        return name, "3pix" if name == "EXTR3" else "5pix", ()
    if options.extraction == "5pix":
        return "DATA", "5pix", ()
    if source.get("EXTR3") is not None:
        return "EXTR3", "3pix", ()
    return "DATA", "5pix", ("the file has no EXTR3; 3pix was asked for, 5pix (DATA) read",)


def _flux_unit(source: Source) -> u.UnitBase:
    text = text_of(source.primary, "UNIT")
    if text not in ("", "m-3 W", "W m-3", "W/m3"):
        raise SpectrumError(
            f"{source.path}[PRIMARY]: UNIT is {text!r}, expected 'm-3 W'. State the unit in BUNIT of the "
            "flux extensions."
        )
    return _FLUX_UNIT


GTO = Format("gto", "NIRSpec GTO pipeline *_1D.fits (v3, v5)", identify, read)
