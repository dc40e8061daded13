"""Any FITS or ECSV table whose columns can be told by name."""

import warnings
from collections.abc import Callable, Sequence

import astropy.units as u
import numpy as np
from astropy.io import fits

from data_pipeline.readers.format import Format, ReadOptions, metadata, text_of, value_of
from data_pipeline.readers.source import DAMAGE, Source, column_names, first_of, listed
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

WAVELENGTH_NAMES = ("wavelength", "wave", "lambda", "lam", "wl", "spectral_axis", "wavelengths")
FLUX_NAMES = ("flux", "flux_density", "signal", "flam", "f_lambda", "fnu", "f_nu", "fluxes")
ERROR_NAMES = (
    *("error", "err", "flux_err", "flux_error", "fluxerr", "uncertainty", "sigma", "noise", "std"),
    *("flux_unc", "unc", "e_flux", "error_flux", "flux_sigma"),
)
IVAR_NAMES = ("ivar", "inverse_variance", "flux_ivar")
VARIANCE_NAMES = ("var", "variance", "flux_var")
MASK_NAMES = ("mask", "bad", "flag_bad")
# Looked for in the table's header, then in the primary one.
_FITS_KEYWORDS = {
    "target": "OBJECT TARGET TARGNAME",
    "source_id": "SOURCEID OBJID ID",
    "ra": "RA RA_TARG",
    "dec": "DEC DEC_TARG",
    "disperser": "GRATING DISPERSE",
    "filter": "FILTER",
    "program": "PROPOSID PROGRAM",
}
_ECSV_KEYWORDS = {
    "target": "TARGET OBJECT",
    "source_id": "SOURCE_ID SOURCEID ID",
    "ra": "RA",
    "dec": "DEC",
    "disperser": "DISPERSER GRATING",
    "filter": "FILTER",
    "exposure_time": "EXPTIME",
}


def identify_table(source: Source) -> bool:
    """True for an ECSV file, or FITS with a table that has a wavelength and a flux column."""
    return source.hdus is None or _table_hdu(source) is not None


def _table_hdu(source: Source):
    for hdu in source.all_hdus():
        if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            names = column_names(hdu)
            if first_of(WAVELENGTH_NAMES, names) and first_of(FLUX_NAMES, names):
                return hdu
    return None


def read_table(source: Source, options: ReadOptions) -> ObservedSpectrum:
    """Read wavelength, flux, error (or inverse variance, or variance) and mask by their usual names."""
    if source.hdus is None:
        return _read_ecsv(source, options)
    hdu = _table_hdu(source) if options.hdu is None else source.table(options.hdu)
    headers = [hdu.header, source.primary]
    exposure = value_of(hdu.header, "EXPTIME", "XPOSURE")
    meta = metadata(source, hdu, "table", headers, _FITS_KEYWORDS, exposure_time=exposure)
    # keywords of SDSS and DESI, and of the ESO products
    kind, vacuum = (next(filter(None, (text_of(h, k) for h in headers)), "") for k in ("AIRORVAC", "VACUUM"))
    if kind.lower() == "air" or vacuum in ("False", "F"):
        raise SpectrumError(
            f"{meta.origin}: wavelengths are in air, expected vacuum; convert them first "
            "(specutils.utils.wcs_utils.air_to_vac) and write VACUUM = T."
        )

    def flags(name: str) -> np.ndarray:
        return source.integers(hdu, name) != 0

    return _assemble(column_names(hdu), lambda name: source.column(hdu, name), flags, meta, options)


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
    meta = metadata(source, None, "table", [header], _ECSV_KEYWORDS)

    def column(name: str) -> u.Quantity:
        values = table[name]
        if getattr(values, "unit", None) is None:
            raise SpectrumError(
                f"{source.path}: column {name} has no unit. State it in the ECSV header, e.g. um."
            )
        values = values.filled(np.nan) if hasattr(values, "filled") else values
        return u.Quantity(values, dtype=np.float64)

    return _assemble(table.colnames, column, lambda name: np.asarray(table[name], dtype=bool), meta, options)


def _assemble(
    names: Sequence[str],
    column: Callable[[str], u.Quantity],
    flags: Callable[[str], np.ndarray],
    meta: SpectrumMeta,
    options: ReadOptions,
) -> ObservedSpectrum:
    """The spectrum from the functions that give a column as a quantity and as flags."""
    flux_name = options.flux_column or first_of(FLUX_NAMES, names)
    wave_name = first_of(WAVELENGTH_NAMES, names)
    for what, name, aliases in (("wavelength", wave_name, WAVELENGTH_NAMES), ("flux", flux_name, FLUX_NAMES)):
        if name is None or name.lower() not in [present.lower() for present in names]:
            raise SpectrumError(
                f"{meta.origin}: no {what} column; looked for {name or ', '.join(aliases)}, the table has "
                f"{listed(names)}. Rename the column or choose with flux_column=."
            )
    wavelength, flux = column(wave_name), column(flux_name)
    error = _error(names, column, meta, flux_name)
    mask_name = first_of(MASK_NAMES, names)
    mask = flags(mask_name) if mask_name else None
    return ObservedSpectrum.from_quantities(wavelength, flux, error, mask, meta)


def _error(names, column, meta: SpectrumMeta, flux_name: str) -> u.Quantity:
    if name := first_of((f"{flux_name}_err", f"{flux_name}_error", *ERROR_NAMES), names):
        return column(name)
    with np.errstate(invalid="ignore", divide="ignore"):  # zero weight gives inf, which masks the pixel
        if name := first_of(IVAR_NAMES, names):
            return 1 / np.sqrt(column(name))
        if name := first_of(VARIANCE_NAMES, names):
            return np.sqrt(column(name))
    aliases = ", ".join((*ERROR_NAMES, *IVAR_NAMES, *VARIANCE_NAMES))
    raise SpectrumError(
        f"{meta.origin}: no error column; looked for {aliases}; the table has {listed(names)}. Errors are "
        "needed: add a column named as one of these."
    )


TABLE = Format("table", "FITS or ECSV table with wavelength, flux, error", identify_table, read_table)
