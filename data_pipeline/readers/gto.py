"""NIRSpec GTO pipeline ``<id>_<grating>_<filter>_v*_1D.fits``: one image extension per quantity."""

import re

import astropy.units as u
import numpy as np

from data_pipeline.readers.format import Format, ReadOptions, masked_note, metadata, text_of
from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# BUNIT is blank in these files; the primary header says 'm-3 W' (SI flux density per wavelength).
_FLUX_UNIT = u.W / u.m**3
_ERROR_HDU = {"DATA": "ERR", "EXTR3": "EXTR3ERR"}
_EXTRACTION = {"DATA": "5pix", "EXTR3": "3pix"}
_FLAG_HDUS = ("DIRTY_QUALITY", "GTO_FLAG")
_KEYWORDS = {"disperser": "GWA_POS", "filter": "FWA_POS"}
_NAME = re.compile(r"^(?P<id>[^_]+)_(?P<disperser>[a-z0-9]+)_(?P<filter>[a-z0-9]+)_v[\d.]+_1D\.fits", re.I)


def identify(source: Source) -> bool:
    """True if the primary header names the file type R1D, or the GTO pipeline beside a WAVELENGTH image."""
    primary = source.primary
    return text_of(primary, "FILETYPE") == "R1D" or (
        text_of(primary, "SYSTEM") == "ESA-PIPELINE" and source.get("WAVELENGTH") is not None
    )


def read(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read EXTR3 (three pixels; since v5) or DATA (five pixels).

    The DQFLAGS extension is only a legend of flag bits; flagged pixels are those of the per-pixel arrays
    DIRTY_QUALITY and GTO_FLAG where a file (v3) has them. The linear CRVAL1/CDELT1 is not valid for the
    prism, so the WAVELENGTH extension is read.
    """
    flux_hdu, notes = _choose(source, options)
    text = text_of(source.primary, "UNIT")
    if text not in ("", "m-3 W", "W m-3", "W/m3"):
        raise SpectrumError(
            f"{source.path}[PRIMARY]: UNIT is {text!r}, expected 'm-3 W'. State the unit in BUNIT of the "
            "flux extensions."
        )
    flux = source.image(flux_hdu, _FLUX_UNIT)
    error = source.image(_ERROR_HDU[flux_hdu], _FLUX_UNIT)
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
    target = name["id"] if name else ""
    notes += masked_note(mask, " or ".join(_FLAG_HDUS) + " is not 0")
    known = {"target": target, "source_id": target, "extraction": _EXTRACTION[flux_hdu], "notes": notes}
    meta = metadata(source, source.get(flux_hdu), "gto", [source.primary], _KEYWORDS, **known)
    return ObservedSpectrum.from_quantities(source.image("WAVELENGTH", u.m), flux, error, mask, meta)


def _choose(source: Source, options: ReadOptions) -> tuple[str, tuple[str, ...]]:
    """Extension with the flux, and a note where it is not the extraction asked for."""
    asked = options.flux_column or options.hdu
    if asked is not None:
        if str(asked).upper() not in _ERROR_HDU:
            raise SpectrumError(
                f"{source.path}: HDU {asked!r} has no error extension known here; choose "
                f"{' or '.join(_ERROR_HDU)}."
            )
        return str(asked).upper(), ()
    if options.extraction == "5pix":
        return "DATA", ()
    if source.get("EXTR3") is not None:
        return "EXTR3", ()
    return "DATA", ("the file has no EXTR3; 3pix was asked for, 5pix (DATA) read",)


GTO = Format("gto", "NIRSpec GTO pipeline *_1D.fits (v3, v5)", identify, read)
