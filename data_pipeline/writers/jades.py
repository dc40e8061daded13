"""Writers of JADES HLSP x1d files and of a catalogue, in the layouts of DR4."""

import os
from collections.abc import Iterable, Mapping

import numpy as np
from astropy.io import fits

from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.atomic import replacing

OBS_INFO_COLUMNS = (
    *("Unique_ID", "TIER", "NIRSpec_ID", "RA_TARG", "Dec_TARG", "Field"),
    *("z_Spec", "z_Spec_flag", "z_R1000"),
)
LINE_HDUS = ("R1000_5pix", "R1000_3pix")
_FORMAT = {"f": "D", "i": "K", "u": "K", "b": "L"}
_FLUX_UNIT = "erg s-1 cm-2 AA-1"  # as the archive writes it, though AA is not FITS standard
_LINE_UNIT = "10**-20 erg s-1 cm-2"  # as the JADES catalogue counts, in the spelling of the FITS standard
_FIELD_NAME = {"goods-s": "GOODS-South", "goods-n": "GOODS-North"}


def table_hdu(
    name: str,
    columns: Mapping[str, np.ndarray],
    units: Mapping[str, str] | None = None,
    cards: Iterable[tuple] = (),
) -> fits.BinTableHDU:
    """A binary table of float64, int64, bool and text columns.

    Columns are (n,) arrays, none for an empty table; cards are further (keyword, value, comment).
    """
    units = units or {}
    fits_columns = [
        fits.Column(key, _fits_format(np.asarray(values)), units.get(key), array=values)
        for key, values in columns.items()
    ]
    table = fits.BinTableHDU.from_columns(fits_columns, name=name)
    table.header.extend(fits.Card(*card) for card in cards)
    return table


def _fits_format(values: np.ndarray) -> str:
    if values.dtype.kind in "US":
        return f"{max([1, *map(len, values.astype(str).tolist())])}A"
    return _FORMAT[values.dtype.kind]


def write_jades_x1d(
    path: str | os.PathLike,
    spectrum_3pix: ObservedSpectrum,
    spectrum_5pix: ObservedSpectrum,
    *,
    simulated: bool = False,
) -> None:
    """Write one x1d file in the layout of DR4; masked pixels become NaN in flux and error.

    Header values come from ``spectrum_5pix.meta``. The intermediate products, shutter regions and image
    cutouts of DR4 are not written, and its two-nod flux FLUX_NOD2 is NaN. ``simulated`` says in the header
    that no telescope saw this; `data_pipeline.jades_names.jades_file_name` gives the name.
    """
    tables = [
        _spectrum_table("EXTRACT5PIX1D", spectrum_5pix, 5),
        _spectrum_table("EXTRACT3PIX1D", spectrum_3pix, 3),
    ]
    _write(path, [fits.PrimaryHDU(header=_primary_header(spectrum_5pix.meta, simulated)), *tables])


def _write(path: str | os.PathLike, hdus: list) -> None:
    # astropy would refuse the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        fits.HDUList(hdus).writeto(stream)


def _spectrum_table(name: str, spectrum: ObservedSpectrum, height: int) -> fits.BinTableHDU:
    missing = np.full(len(spectrum), np.nan)
    columns = {
        "WAVELENGTH": spectrum.wavelength,
        "FLUX": np.where(spectrum.mask, np.nan, spectrum.flux),
        "FLUX_ERR": np.where(spectrum.mask, np.nan, spectrum.error),
        "FLUX_NOD2": missing,
        "FLUX_ERR_NOD2": missing,
    }
    units = {column: "um" if column == "WAVELENGTH" else _FLUX_UNIT for column in columns}
    cards = [
        ("SOURCEID", _padded_id(spectrum.meta)),
        ("SRCTYPE", "POINT"),
        ("SLTNAME", "NRS_MSASPEC"),
        ("APERFH", height, "extraction height in pixels"),
    ]
    return table_hdu(name, columns, units, cards)


def _padded_id(meta: SpectrumMeta) -> str:
    return meta.source_id.zfill(8) if meta.source_id.isdigit() else meta.source_id


def _primary_header(meta: SpectrumMeta, simulated: bool) -> fits.Header:
    """The keywords of the real files; unknown numbers are left out."""
    numbers = (
        ("RA", meta.ra, "[deg] right ascension"),
        ("DEC", meta.dec, "[deg] declination"),
        ("XPOSURE", meta.exposure_time, "[s] effective exposure time"),
    )
    cards: list[tuple] = [
        ("BUNIT", _FLUX_UNIT),
        *((key, float(value), comment) for key, value, comment in numbers if np.isfinite(value)),
        ("TARGET", meta.target or _padded_id(meta)),
        ("RADESYS", "ICRS"),
        ("HLSPID", "JADES"),
        ("HLSPTARG", _FIELD_NAME.get(meta.field, meta.field)),
        ("HLSPTIER", meta.tier),
        ("HLSPVER", "1.0"),
        ("INSTRUME", "NIRSpec"),
        ("LICENSE", "CC BY 4.0"),
        ("LICENURL", "https://creativecommons.org/licenses/by/4.0/"),
        ("PROPOSID", int(meta.program) if meta.program.isdigit() else meta.program),
        ("MODE", "MOS"),
        ("APERTURE", "1x3"),
        ("FILTER", meta.filter),
        ("GRATING", meta.disperser),
        ("TELESCOP", "JWST"),
        ("DATAMODL", "MultiSpecModel"),
    ]
    if simulated:
        cards.append(("ORIGIN", "kspecsr simulation", "not observed"))
        cards.append(("SIMULATE", True, "simulated, not observed"))
        cards.append(("COMMENT", "Simulated spectrum in the layout of JADES; no telescope saw it."))
    return fits.Header([fits.Card(*card) for card in cards])


def write_jades_catalogue(path: str | os.PathLike, table: Mapping[str, np.ndarray]) -> None:
    """Write HDU Obs_info, and R1000_5pix and R1000_3pix with the line fluxes; rows in the same order.

    Args:
        path: the file; replaced if it exists.
        table: columns of length n. Required: Unique_ID, TIER, NIRSpec_ID, RA_TARG [deg], Dec_TARG [deg],
            Field, z_Spec (-1 = none), z_Spec_flag, z_R1000. Further columns named ``<line>_flux`` and
            ``<line>_flux_err`` [1e-20 erg/s/cm2] go to both R1000 tables, all others to Obs_info.

    Raises:
        ValueError: for missing columns, or columns of unequal length.
    """
    missing = [name for name in OBS_INFO_COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{path}: columns {', '.join(missing)} are missing; got {', '.join(table)}.")
    columns = {name: np.asarray(values) for name, values in table.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{path}: expected columns of equal length, got {lengths}.")
    lines = [name for name in columns if name.endswith(("_flux", "_flux_err"))]
    units = {"RA_TARG": "deg", "Dec_TARG": "deg", **dict.fromkeys(lines, _LINE_UNIT)}
    observed = dict.fromkeys([*OBS_INFO_COLUMNS, *(name for name in columns if name not in lines)])
    contents = {"Obs_info": observed}
    contents |= {name: ["Unique_ID", "NIRSpec_ID", "z_R1000", *lines] for name in LINE_HDUS}
    tables = [
        table_hdu(hdu, {name: columns[name] for name in names}, units) for hdu, names in contents.items()
    ]
    _write(path, [fits.PrimaryHDU(), *tables])
