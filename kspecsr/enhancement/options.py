"""Options that ``kspecsr enhance`` and ``kspecsr serve-client`` share."""

import argparse
from pathlib import Path

from data_pipeline.command_line import add, at_least

GRATINGS = "medium grating of the same source that is joined with the prism, or a folder; see below"
FILES_AND_RESULTS = """\
FILE is a spectrum of any known format (FITS or ECSV, also packed), a pattern in quotes, a folder (searched
with all below it; files there that are no prism spectra are skipped), or @LIST, a text file with one of these
per line (@- is standard input). Of files of one name in several folders, the second gives NAME-2_sr.fits, and
so on; a result of an earlier run is never replaced by that of another file.

--redshift TABLE:COLUMN[:KEY] takes each spectrum's redshift from a table (CSV, ECSV, FITS). KEY is the column
that holds file names (with folder and ending, or without) or object ids (TIER_ID, target or id, as the
spectrum states them); left out, it is looked for under the usual names. A spectrum without a redshift there
gets one inferred; values outside 0 to 30 there (-1, -99, blank) mean unknown.

Of a file with several spectra, --hdu or --row chooses one; its result is NAME_hdu2_sr.fits or NAME_row3_sr.

NAME_sr.fits holds everything. --format ecsv writes the spectrum to NAME_sr.ecsv and its lines to
NAME_sr_lines.ecsv. An existing result, made by this model from this file, is kept; --overwrite makes it
again.
"""


def add_options(p: argparse.ArgumentParser) -> None:
    """Files, what is known of them, and where results go."""
    add(p, "files", "spectra, patterns, folders, or @LIST; see below", nargs="+", metavar="FILE")
    add(p, "--output", "folder of the results", default=Path("results"))
    add(p, "--redshift", "known redshifts; see below", default="", metavar="Z|TABLE:COLUMN[:KEY]")
    add(p, "--plot", "also draw NAME_sr.png", action="store_true")
    add(p, "--format", "format of the results", choices=("fits", "ecsv"), default="fits")
    for name in ("--keep-flagged", "--extraction", "--hdu", "--row", "--zero-point"):
        add(p, name)
    add(p, "--workers", "processes that read, write and draw")
    add(p, "--limit", "only the first N files", type=at_least(1))
    add(p, "--dry-run", "read the files and say what would be done; write nothing", action="store_true")
    add(p, "--overwrite", "make existing results again", action="store_true")
