"""Any FITS or ECSV table whose columns can be told by name."""

from __future__ import annotations

import warnings

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.readers.header import Format, ReadOptions, strip_zeros, text_of, value_of
from data_pipeline.readers.source import DAMAGE, Source, column_names, listed
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

WAVELENGTH_NAMES = ("wavelength", "wave", "lambda", "lam", "wl", "spectral_axis", "wavelengths")
FLUX_NAMES = ("flux", "flux_density", "signal", "flam", "f_lambda", "fnu", "f_nu", "fluxes")
ERROR_NAMES = (
    "error",
    "err",
    "flux_err",
    "flux_error",
    "fluxerr",
    "uncertainty",
    "sigma",
    "noise",
    "std",
    "flux_unc",
    "unc",
    "e_flux",
    "error_flux",
    "flux_sigma",
)
IVAR_NAMES = ("ivar", "inverse_variance", "flux_ivar")
VARIANCE_NAMES = ("var", "variance", "flux_var")
MASK_NAMES = ("mask", "bad", "flag_bad")


def _match(names: list[str], aliases) -> str | None:
    lower = {name.lower().strip(): name for name in names}
    return next((lower[alias] for alias in aliases if alias in lower), None)


def _has_spectrum(names: list[str]) -> bool:
    return _match(names, WAVELENGTH_NAMES) is not None and _match(names, FLUX_NAMES) is not None


def identify_table(source: Source) -> bool:
    """True for an ECSV file, or FITS with a table that has a wavelength and a flux column."""
    if source.hdus is None:
        return True
    return _table_hdu(source) is not None


def _table_hdu(source: Source):
    for hdu in source.all_hdus():
        if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and _has_spectrum(column_names(hdu)):
            return hdu
    return None


def read_table(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Reads wavelength, flux, error (or inverse variance, or variance) and mask by their usual names."""
    if source.hdus is None:
        return _read_ecsv(source, options)
    hdu = _table_hdu(source) if options.hdu is None else source.table(options.hdu)
    header = hdu.header
    primary = source.primary

    def text(*keys: str) -> str:
        return text_of(header, *keys) or text_of(primary, *keys)

    meta = SpectrumMeta(
        target=text("OBJECT", "TARGET", "TARGNAME"),
        source_id=strip_zeros(text("SOURCEID", "OBJID", "ID")),
        ra=next(
            (v for h in (header, primary) if np.isfinite(v := value_of(h, "RA", "RA_TARG"))), float("nan")
        ),
        dec=next(
            (v for h in (header, primary) if np.isfinite(v := value_of(h, "DEC", "DEC_TARG"))), float("nan")
        ),
        disperser=text("GRATING", "DISPERSE").upper(),
        filter=text("FILTER").upper(),
        program=text("PROPOSID", "PROGRAM"),
        exposure_time=value_of(header, "EXPTIME", "XPOSURE"),
        format="table",
        path=str(source.path),
        hdu=source.label(hdu),
        notes=source.notes(),
    )
    # keywords of SDSS and DESI, and of the ESO products
    if text("AIRORVAC").lower() == "air" or text("VACUUM") in ("False", "F"):
        raise SpectrumError(
            f"{meta.origin}: wavelengths are in air, expected vacuum; convert them first "
            "(specutils.utils.wcs_utils.air_to_vac) and write VACUUM = T."
        )
    names = column_names(hdu)
    return _assemble(
        names,
        lambda name: source.column(hdu, name),
        lambda name: source.integers(hdu, name) != 0,
        meta,
        options,
    )


def _read_ecsv(source: Source, options: ReadOptions) -> ObservedSpectrum:
    if options.hdu is not None:
        raise SpectrumError(
            f"{source.path}: hdu={options.hdu!r} was asked for, but a text table has no HDUs."
        )
    from astropy.table import QTable  # slow to import: only for text tables

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on style; units and values are checked below
            table = QTable.read(source.path, format="ascii.ecsv")
    except DAMAGE as error:
        raise SpectrumError(
            f"{source.path}: no readable ECSV table ({error}). Write it again with astropy."
        ) from error
    header = {str(key).upper(): value for key, value in table.meta.items()}

    def text(*keys: str) -> str:
        return next((str(header[key]).strip() for key in keys if key in header), "")

    def number(key: str) -> float:
        value = header.get(key)
        return float(value) if isinstance(value, int | float) else float("nan")

    meta = SpectrumMeta(
        target=text("TARGET", "OBJECT"),
        source_id=strip_zeros(text("SOURCE_ID", "SOURCEID", "ID")),
        ra=number("RA"),
        dec=number("DEC"),
        disperser=text("DISPERSER", "GRATING").upper(),
        filter=text("FILTER").upper(),
        exposure_time=number("EXPTIME"),
        format="table",
        path=str(source.path),
    )

    def column(name: str) -> u.Quantity:
        values = table[name]
        if getattr(values, "unit", None) is None:
            raise SpectrumError(
                f"{source.path}: column {name} has no unit. State it in the ECSV header, e.g. um."
            )
        values = values.filled(np.nan) if hasattr(values, "filled") else values
        return u.Quantity(values, dtype=np.float64)

    return _assemble(table.colnames, column, lambda name: np.asarray(table[name], dtype=bool), meta, options)


def _assemble(names, column, flags, meta: SpectrumMeta, options: ReadOptions) -> ObservedSpectrum:
    flux_name = options.flux_column or _match(names, FLUX_NAMES)
    wave_name = _match(names, WAVELENGTH_NAMES)
    for what, name, aliases in (("wavelength", wave_name, WAVELENGTH_NAMES), ("flux", flux_name, FLUX_NAMES)):
        if name is None or name.lower() not in [present.lower() for present in names]:
            raise SpectrumError(
                f"{meta.origin}: no {what} column; looked for {name or ', '.join(aliases)}, the table has "
                f"{listed(names)}. Rename the column or choose with flux_column=."
            )
    wavelength, flux = column(wave_name), column(flux_name)
    error = _error(names, column, meta, flux_name)
    mask_name = _match(names, MASK_NAMES)
    return ObservedSpectrum.from_quantities(
        wavelength, flux, error, flags(mask_name) if mask_name else None, meta
    )


def _error(names, column, meta: SpectrumMeta, flux_name: str) -> u.Quantity:
    name = _match(names, (f"{flux_name.lower()}_err", f"{flux_name.lower()}_error", *ERROR_NAMES))
    if name is not None:
        return column(name)
    with np.errstate(invalid="ignore", divide="ignore"):  # zero weight gives inf, which masks the pixel
        if (name := _match(names, IVAR_NAMES)) is not None:
            return 1 / np.sqrt(column(name))
        if (name := _match(names, VARIANCE_NAMES)) is not None:
            return np.sqrt(column(name))
    aliases = ", ".join((*ERROR_NAMES, *IVAR_NAMES, *VARIANCE_NAMES))
    raise SpectrumError(
        f"{meta.origin}: no error column; looked for {aliases}; the table has {listed(names)}. Errors are "
        "needed: add a column named as one of these."
    )


TABLE = Format("table", "FITS or ECSV table with wavelength, flux, error", identify_table, read_table)
