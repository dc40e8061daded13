"""``kspecsr catalogue``: many results as one table."""

import argparse
import sys
from pathlib import Path

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr catalogue results
  kspecsr catalogue results --output catalogue.ecsv
  kspecsr catalogue results --lines lines.ecsv                   # all lines of all results, a row each
  kspecsr catalogue results --ratios ratios.ecsv                 # line ratios, blended sums, reddening
  kspecsr catalogue results --known redshifts.csv:z_spec:file    # beside known redshifts
  kspecsr catalogue results --known catalogue.fits:z_Spec:Unique_ID

LINE is the brightest line with S/N > 3. Results that were made at a given redshift (enhance --redshift) say
"given" in place of its error and are not compared; nor are those without a redshift in TABLE.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "results", "result files, or folders of them", nargs="+", metavar="FILE|DIR")
    cli.add(
        p, "--known", "redshifts to compare with, as for enhance", default="", metavar="TABLE:COLUMN[:KEY]"
    )
    cli.add(p, "--output", "also write the table", type=Path, metavar="FILE.ecsv")
    cli.add(p, "--lines", "also write one table of all lines", type=Path, metavar="FILE.ecsv")
    cli.add(p, "--ratios", "also write one of all line ratios and sums", type=Path, metavar="FILE.ecsv")


@cli.command("kspecsr catalogue", EXAMPLES, _options)
def main(args: argparse.Namespace) -> int:
    """Make one table of many results, a row each.

    Redshift, confidence, prism consistency, and flux and error of the brightest detected line.
    """
    for option in ("output", "lines", "ratios"):
        path = getattr(args, option)
        if path and path.suffix != ".ecsv":
            raise cli.OptionError(f"--{option} {path}: expected a name that ends in .ecsv")
    # half a second of astropy: not for --help
    from data_pipeline.catalogue.known_redshifts import KnownRedshifts
    from data_pipeline.writers.atomic import replacing
    from kspecsr.results.data import SpectrumResult
    from kspecsr.results.many import as_table, as_text, lines_of, ratios_of
    from kspecsr.results.reading import read_result
    from kspecsr.results.table import read_row, result_files

    rows, paths, failures = [], [], []
    known = KnownRedshifts.parse(args.known, "--known")
    for path in result_files(args.results):
        try:
            rows.append(read_row(path, known))
            paths.append(path)
        except ValueError as error:
            failures.append(str(error))
    if rows:
        cli.say(as_text(rows, compare=bool(args.known)))
    if rows and args.output:
        with replacing(args.output) as temporary:
            as_table(rows).write(temporary, format="ascii.ecsv")
    for path, table_of in ((args.lines, lines_of), (args.ratios, ratios_of)):
        if rows and path:
            results = (read_result(file, SpectrumResult) for file in paths)
            with replacing(path) as temporary:
                table_of(results, [row.name for row in rows]).write(temporary, format="ascii.ecsv")
    return cli.list_failures(failures, "not read")


if __name__ == "__main__":
    sys.exit(main())
