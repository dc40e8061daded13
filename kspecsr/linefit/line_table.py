"""The lines of one fitted spectrum as a table: text and ECSV."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from astropy.table import QTable

from data_pipeline.lines import load_lines
from data_pipeline.writers.atomic import replacing
from kspecsr.line_measurements import LINE_FLUX_UNIT
from kspecsr.linefit.config import DirectFitConfig
from kspecsr.linefit.direct_fit import DirectFit

_TEXT_UNIT = 1e-20  # erg/s/cm2
_HEAD = f"{'line':<14} {'rest [A]':>9} {'obs. [um]':>9} {'flux':>10} {'error':>10} {'S/N':>7}"


def line_table(fit: DirectFit, name: str, config: DirectFitConfig) -> QTable:
    """All K lines of the one spectrum in a fit of erg/s/cm2/A; NaN where not measured.

    Args:
        fit: of one spectrum.
        name: of its file.
        config: options of the fit; they go into the metadata.
    """
    lines, redshift = load_lines(), float(fit.redshift[0])
    meta = {
        "FILE": name,
        "REDSHIFT": redshift,
        "CHI2_PIX": float(fit.chi_square[0]),
        "METHOD": "non-negative line fit at a known redshift, fluxes in the unit of the columns",
        "OPTIONS": asdict(config),
    }
    flux, error = fit.line_flux[0], fit.line_flux_error[0]
    return QTable(
        {
            "NAME": list(lines.names),
            "WAVE_REST": lines.wavelength * 1e4,
            "WAVE_OBS": lines.wavelength * (1.0 + redshift),
            "FLUX": flux,
            "FLUX_ERR": error,
            "SNR": flux / error,
            "IN_RANGE": fit.line_in_range[0],
        },
        units={
            "WAVE_REST": "Angstrom",
            "WAVE_OBS": "um",
            "FLUX": LINE_FLUX_UNIT,
            "FLUX_ERR": LINE_FLUX_UNIT,
        },
        meta=meta,
    )


def as_text(table: QTable) -> str:
    """The measured lines, fluxes in 1e-20 erg/s/cm2."""
    meta = table.meta
    title = f"{meta['FILE']}: z = {meta['REDSHIFT']:.5g}, chi-square per pixel {meta['CHI2_PIX']:.2f}"
    rows = [
        f"{row['NAME']:<14} {row['WAVE_REST'].value:9.2f} {row['WAVE_OBS'].value:9.4f} "
        f"{row['FLUX'].value / _TEXT_UNIT:10.2f} {row['FLUX_ERR'].value / _TEXT_UNIT:10.2f} {row['SNR']:7.1f}"
        for row in table[table["IN_RANGE"]]
    ]
    if not rows:
        return f"{title}\nno line in range"
    return "\n".join([f"{title}; fluxes in 1e-20 {LINE_FLUX_UNIT}", _HEAD, *rows])


def write_table(table: QTable, path: Path) -> None:
    """Writes ECSV; a file that is there is replaced at once or not at all."""
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv")
