"""Results as ECSV text: the spectrum with its provenance, and beside it the lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.writers.atomic import replacing
from kspecsr.result_provenance import provenance_cards

if TYPE_CHECKING:
    from kspecsr.result import Result


def lines_path(path: str | os.PathLike) -> Path:
    """Where the lines lie that belong to a spectrum: ``NAME.ecsv`` to ``NAME_lines.ecsv``."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.ecsv')}_lines.ecsv")


def write_ecsv(result: Result, path: str | os.PathLike) -> list[Path]:
    """Writes columns and units of the FITS table SPEC1D; the cards of its primary header are the metadata.

    P(z) is given by its modes and quantiles. The lines are written first, so that a spectrum that is there
    has its lines.

    Args:
        result: what is written.
        path: the spectrum's file; replaced if it exists.

    Returns:
        Files of the spectrum and of the lines.
    """
    from astropy.table import QTable  # slow to import: only where a table is written

    path, unit = Path(path), result.flux_unit
    meta = {keyword: value for keyword, value, _ in provenance_cards(result)}
    meta["PZ_MODES"] = [
        {"z": mode.redshift, "error": mode.error, "mass": mode.mass} for mode in result.redshift.modes
    ]

    def column(values: np.ndarray) -> np.ndarray:
        return np.where(result.mask, np.nan, result.in_flux_unit(values)).astype(np.float32) * unit

    table = QTable(
        {
            "WAVELENGTH": result.wavelength,
            "FLUX": column(result.flux),
            "FLUX_ERR": column(result.flux_error),
            "MASK": result.mask,
            "CONTINUUM": column(result.continuum),
            "FLUX_SR1": column(result.sr1_flux),
            "ERR_SR1": column(result.sr1_error),
        },
        units={"WAVELENGTH": "um"},
        meta=meta,
    )
    lines = result.lines
    for target, content in ((lines_path(path), lines), (path, table)):
        with replacing(target) as temporary:
            content.write(temporary, format="ascii.ecsv")
    return [path, lines_path(path)]
