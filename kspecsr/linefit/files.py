"""From prism files to fitted lines, one file after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from astropy.table import QTable

from data_pipeline.readers import read_spectrum
from kspecsr.enhancement.inputs import RESULT_ENDING, InputFile, list_inputs
from kspecsr.enhancement.known_redshifts import KnownRedshifts
from kspecsr.linefit.config import DirectFitConfig
from kspecsr.linefit.fit import fit_prism_lines
from kspecsr.linefit.line_table import as_text, line_table, write_table
from kspecsr.prism_input import is_prism, prism_input

ENDING = "_linefit.ecsv"


def fit_files(
    given: Sequence[str],
    redshift: str,
    output: Path | None,
    config: DirectFitConfig,
    extraction: str,
    report: Callable[[str], None],
) -> list[str]:
    """Fits files, reports a table for each and writes it; what fails is passed over.

    Args:
        given: as in `list_inputs`; in folders, spectra of other dispersers are passed over.
        redshift: as in `KnownRedshifts.parse`.
        output: folder for ``NAME_linefit.ecsv``; None writes nothing.
        config: of the fit.
        extraction: as in `read_spectrum`.
        report: gets the text.

    Returns:
        One line of text per file that failed.

    Raises:
        ValueError: for a redshift, pattern or table that cannot be used.
    """
    known, failures = KnownRedshifts.parse(redshift), []
    for file in list_inputs(given):
        if file.sought and file.path.name.endswith(ENDING):
            continue
        try:
            table = _fitted(file, known, config, extraction)
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
    file: InputFile, known: KnownRedshifts, config: DirectFitConfig, extraction: str
) -> QTable | None:
    """The lines of a file; None for a spectrum of another disperser that was found in a folder."""
    spectrum = read_spectrum(file.path, extraction=extraction)
    if file.sought and not is_prism(spectrum):
        return None
    given = prism_input(spectrum)
    redshift = known.of(file.path, spectrum.meta)
    if math.isnan(redshift):
        raise ValueError(
            f"{file.path}: --redshift has none for this spectrum; lines are fitted at a known redshift only"
        )
    fit = fit_prism_lines(given.flux[None], given.error[None], given.mask[None], np.array([redshift]), config)
    return line_table(fit, file.path.name, config)
