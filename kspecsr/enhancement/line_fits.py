"""Direct line fits of files: tables as text and as ECSV."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from astropy.table import QTable

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from data_pipeline.readers.format import ReadOptions
from data_pipeline.writers.atomic import replacing
from kspecsr.enhancement.inputs import RESULT_ENDING, InputFile, list_inputs, read_input
from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines
from kspecsr.methods.direct_fit_result import DirectFit
from kspecsr.results.lines import LINE_FLUX_UNIT
from kspecsr.results.prism_input import check_prism

_TEXT_UNIT = 1e-20  # erg/s/cm2
_HEAD = f"{'line':<14} {'rest [A]':>9} {'obs. [um]':>9} {'flux':>10} {'error':>10} {'S/N':>7}"


def line_table(fit: DirectFit, name: str, config: DirectFitConfig) -> QTable:
    """Table of all K lines of one spectrum; NaN where not measured.

    Args:
        fit: fit of one spectrum [erg/s/cm2/A].
        name: name of its file.
        config: options of the fit, for the metadata.
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
            "WAVE_REST": lines.wavelength * ANGSTROM_PER_UM,
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
    if notes := meta.get("HISTORY"):
        title += f"; {'; '.join(notes)}"
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


ENDING = "_linefit.ecsv"


def fit_files(
    given: Sequence[str],
    redshift: str,
    output: Path | None,
    config: DirectFitConfig,
    reading: ReadOptions,
    report: Callable[[str], None],
) -> list[str]:
    """Fits files, reports a table for each and writes it; what fails is passed over.

    Args:
        given: as in `list_inputs`; in folders, spectra of other dispersers are passed over.
        redshift: as in `KnownRedshifts.parse`.
        output: folder for ``NAME_linefit.ecsv``; None writes nothing.
        config: of the fit.
        reading: what is read of each file.
        report: gets the text.

    Returns:
        One line of text per file that failed.

    Raises:
        ValueError: for a redshift, pattern or table that cannot be used.
    """
    known, failures = KnownRedshifts.parse(redshift), []
    for file in list_inputs(given, reading.hdu, reading.row):
        if file.sought and file.path.name.endswith(ENDING):
            continue
        try:
            table = _fitted(file, known, config, reading)
            if table is None:
                continue
            if output is not None:
                name = file.name.removesuffix(RESULT_ENDING)
                write_table(table, output / f"{name}{ENDING}")
        except (ValueError, OSError) as error:
            text = str(error)
            failures.append(text if str(file.path) in text else f"{file.path}: {text}")
            continue
        report(as_text(table) + "\n")
    return failures


def _fitted(
    file: InputFile, known: KnownRedshifts, config: DirectFitConfig, reading: ReadOptions
) -> QTable | None:
    """The lines of a file; None for what was found in a folder and is no prism spectrum."""
    spectrum = read_input(file, reading)
    if spectrum is None:
        return None
    spectrum = check_prism(spectrum)
    redshift = known.of(file.path, spectrum.meta)
    if math.isnan(redshift):
        raise ValueError(
            f"{file.path}: --redshift has none for this spectrum; lines are fitted at a known redshift only"
        )
    arrays = (spectrum.flux[None], spectrum.error[None], spectrum.mask[None])
    fit = fit_prism_lines(*arrays, np.array([redshift]), config, spectrum.wavelength)
    table = line_table(fit, file.path.name, config)
    table.meta["HISTORY"] = list(spectrum.meta.notes)
    return table
