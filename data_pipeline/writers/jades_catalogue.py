"""Writer of a catalogue in the layout of JADES DR4 (one table per question, rows in the same order)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from astropy.io import fits

from data_pipeline.writers.atomic import replacing

OBS_INFO_COLUMNS = (
    "Unique_ID",
    "TIER",
    "NIRSpec_ID",
    "RA_TARG",
    "Dec_TARG",
    "Field",
    "z_Spec",
    "z_Spec_flag",
    "z_R1000",
)
LINE_HDUS = ("R1000_5pix", "R1000_3pix")
_UNITS = {"RA_TARG": "deg", "Dec_TARG": "deg"}
_LINE_UNIT = "10**-20 erg s-1 cm-2"  # as the JADES catalogue counts, in the spelling of the FITS standard


def write_jades_catalogue(path: str | os.PathLike, table: Mapping[str, np.ndarray]) -> None:
    """Writes HDU Obs_info, and R1000_5pix and R1000_3pix with the line fluxes.

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
    observed = [*OBS_INFO_COLUMNS, *(n for n in columns if n not in OBS_INFO_COLUMNS and n not in lines)]
    hdus = [fits.PrimaryHDU(), _table("Obs_info", columns, observed)]
    hdus += [_table(name, columns, ["Unique_ID", "NIRSpec_ID", "z_R1000", *lines]) for name in LINE_HDUS]
    # astropy would refuse the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        fits.HDUList(hdus).writeto(stream)


def _table(name: str, columns: Mapping[str, np.ndarray], names: list[str]) -> fits.BinTableHDU:
    hdu_columns = []
    for column in names:
        unit = _LINE_UNIT if column.endswith(("_flux", "_flux_err")) else _UNITS.get(column)
        hdu_columns.append(fits.Column(column, _fits_format(columns[column]), unit, array=columns[column]))
    return fits.BinTableHDU.from_columns(hdu_columns, name=name)


def _fits_format(values: np.ndarray) -> str:
    kind = values.dtype.kind
    if kind in "US":
        width = max(1, max((len(str(value)) for value in values), default=1))
        return f"{width}A"
    return {"f": "D", "i": "K", "u": "K", "b": "L"}[kind]
