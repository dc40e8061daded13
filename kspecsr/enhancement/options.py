"""Options that ``kspecsr enhance`` and ``kspecsr serve-client`` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.command_line import add_shared

FILES_AND_RESULTS = """\
FILE is a spectrum of any known format (FITS, also gzip, or ECSV), a pattern in quotes, a folder (searched
with all below it; files there that are no prism spectra are skipped), or @LIST, a text file with one of these
per line. Of files of one name in several folders, the second gives NAME-2_sr.fits, and so on; a result of an
earlier run is never replaced by that of another file.

--redshift TABLE:COLUMN[:KEY] takes each spectrum's redshift from a table (CSV, ECSV, FITS). KEY is the column
that holds file names (with folder and ending, or without) or object ids (TIER_ID, target or id, as the
spectrum states them); left out, it is looked for under the usual names. A spectrum without a redshift there
gets one inferred; values outside 0 to 30 there (-1, -99, blank) mean unknown.

NAME_sr.fits holds everything. --format ecsv writes the spectrum to NAME_sr.ecsv and its lines to
NAME_sr_lines.ecsv. An existing result, made by this model from this file, is kept; --overwrite makes it
again.
"""


def add_options(p: argparse.ArgumentParser) -> None:
    """Files, what is known of them, and where results go."""
    p.add_argument("files", nargs="+", metavar="FILE", help="spectra, patterns, folders, or @LIST; see below")
    add_shared(p, "output", default=Path("results"), help="folder of the results")
    p.add_argument(
        "--redshift", default="", metavar="Z|TABLE:COLUMN[:KEY]", help="known redshifts; see below"
    )
    p.add_argument("--plot", action="store_true", help="also draw NAME_sr.png")
    p.add_argument("--format", choices=("fits", "ecsv"), default="fits", help="format of the results")
    add_shared(p, "extraction")
    add_shared(p, "workers", help="processes that read, write and draw")
    p.add_argument("--overwrite", action="store_true", help="make existing results again")
