"""Command line: ``python -m kspecsr.catalogue``: many results as one table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = """examples:
  python -m kspecsr.catalogue results
  python -m kspecsr.catalogue results --output catalogue.ecsv
  python -m kspecsr.catalogue results --known redshifts.csv:z_spec:file    # found beside known redshifts
  python -m kspecsr.catalogue results --known catalogue.fits:z_Spec:Unique_ID

LINE is the brightest line with S/N > 3. Results that were made at a given redshift (enhance --redshift) say
"given" in place of its error and are not compared; nor are those without a redshift in TABLE.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.catalogue",
        description="One row per result of python -m kspecsr.enhance: redshift, confidence, prism "
        "consistency, and flux and error of the brightest detected line.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("results", nargs="+", metavar="FILE|DIR", help="result files, or folders of them")
    p.add_argument(
        "--known", default="", metavar="TABLE:COLUMN[:KEY]", help="redshifts to compare with, as for enhance"
    )
    p.add_argument("--output", type=Path, metavar="FILE.ecsv", help="also write the table")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a file is no result or cannot be written."""
    p = parser()
    args = p.parse_args(argv)
    if args.output and args.output.suffix != ".ecsv":
        p.error(f"--output {args.output}: expected a name that ends in .ecsv")
    # half a second of astropy: not for --help
    from data_pipeline.catalogue.known_redshifts import KnownRedshifts
    from data_pipeline.writers.atomic import replacing
    from kspecsr.results.table import as_table, as_text, read_row, result_files

    rows, failures = [], []
    try:
        known = KnownRedshifts.parse(args.known, "--known")
        for path in result_files(args.results):
            try:
                rows.append(read_row(path, known))
            except ValueError as error:
                failures.append(str(error))
        if rows:
            print(as_text(rows, compare=bool(args.known)), flush=True)
        if rows and args.output:
            with replacing(args.output) as temporary:
                as_table(rows).write(temporary, format="ascii.ecsv")
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if failures:
        print(f"\n{len(failures)} not read:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
