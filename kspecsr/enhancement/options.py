"""Options that ``python -m kspecsr.enhance`` and ``python -m kspecsr.client`` share."""

from __future__ import annotations

import argparse
from pathlib import Path

FILES_AND_RESULTS = """\
FILE is a spectrum of any known format (FITS, also gzip, or ECSV), a pattern in quotes, a folder (searched
with all below it; what is no prism spectrum there is passed over), or @LIST, a text file with one of these
per line. Of files of one name in several folders, the second gives NAME-2_sr.fits, and so on; a result of an
earlier run is never replaced by that of another file.

--redshift TABLE:COLUMN[:KEY] takes each spectrum's redshift from a table (CSV, ECSV, FITS). KEY is the column
that holds file names (with folder and ending, or without) or object ids (TIER_ID, target or id, as the
spectrum states them); left out, it is looked for under the usual names. A spectrum without a redshift there
gets one inferred; what is no redshift from 0 to 30 there (-1, -99, blank) counts as none.

NAME_sr.fits holds everything. --format ecsv writes the spectrum to NAME_sr.ecsv and its lines to
NAME_sr_lines.ecsv. A result that is there, made by this model from this file, is kept; --overwrite makes it
again. Exit status: 0 all done, 1 some failed, 2 wrong options, 130 interrupted.
"""


def add_options(p: argparse.ArgumentParser) -> None:
    """Files, what is known of them, and where results go."""
    p.add_argument("files", nargs="+", metavar="FILE", help="spectra, patterns, folders, or @LIST; see below")
    p.add_argument(
        "--output", type=Path, default=Path("results"), metavar="DIR", help="where results go (%(default)s/)"
    )
    p.add_argument(
        "--redshift", default="", metavar="Z|TABLE:COLUMN[:KEY]", help="where it is known; see below"
    )
    p.add_argument("--plot", action="store_true", help="also draw NAME_sr.png")
    p.add_argument("--format", choices=("fits", "ecsv"), default="fits", help="default %(default)s")
    p.add_argument("--extraction", choices=("3pix", "5pix"), default="3pix", help="default %(default)s")
    p.add_argument(
        "--workers", type=int, default=1, help="processes that read, write and draw (default %(default)s)"
    )
    p.add_argument("--overwrite", action="store_true", help="make again what is there")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no line per result")
