"""Command line: ``python -m kspecsr.enhance``: super-resolves prism spectra."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_pipeline.quiet_start import held_back_stderr

EXAMPLES = """examples:
  python -m kspecsr.enhance spectrum.fits
  python -m kspecsr.enhance spectrum.fits --output results --plot
  python -m kspecsr.enhance archive/ --output results --workers 4
  python -m kspecsr.enhance 'archive/*prism*_x1d.fits' @more.txt --output results --model runs/mine
  python -m kspecsr.enhance spectrum.fits --redshift 3.235 --output results
  python -m kspecsr.enhance archive/ --redshift catalogue.fits:z_Spec:Unique_ID --output results

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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.enhance",
        description="Super-resolve NIRSpec prism spectra: sharp spectrum, redshift and lines, with errors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="spectra, patterns, folders, or @LIST; see below")
    p.add_argument(
        "--output", type=Path, default=Path("results"), metavar="DIR", help="where results go (%(default)s/)"
    )
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="shipped model or model folder (%(default)s)"
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
    return p


def enhance(args: argparse.Namespace) -> int:
    """Does what the command line says; returns the exit status."""
    # Half a second of astropy and, with the first spectrum, seconds of TensorFlow: not for --help
    from kspecsr.enhancement.files import Settings
    from kspecsr.enhancement.inputs import list_inputs
    from kspecsr.enhancement.known_redshifts import KnownRedshifts
    from kspecsr.enhancement.run import enhance_files
    from kspecsr.enhancement.writable import check_writable
    from kspecsr.model_settings import find_model, weights_hash

    folder = find_model(args.model)
    settings = Settings(
        output=args.output,
        format=args.format,
        plot=args.plot,
        extraction=args.extraction,
        overwrite=args.overwrite,
        model_sha256=weights_hash(folder),
        redshifts=KnownRedshifts.parse(args.redshift),
    )
    files = list_inputs(args.files)
    check_writable(args.output)

    def make_resolver():
        with held_back_stderr():
            from kspecsr.super_resolver import SuperResolver

            return SuperResolver.from_folder(folder)

    started = time.monotonic()
    with tqdm(total=len(files), desc="enhance", unit="file", delay=2, disable=args.quiet) as bar:
        report = (lambda line: None) if args.quiet else bar.write
        summary = enhance_files(files, settings, make_resolver, args.workers, report, bar.update)
    print(_counts(summary, time.monotonic() - started))
    if summary.failures:
        print(f"\n{len(summary.failures)} failed:", *summary.failures, sep="\n  ", file=sys.stderr)
    if summary.ended:
        print(f"\nended early: {summary.ended}; the same command goes on from there", file=sys.stderr)
    return 1 if summary.failures or summary.ended else 0


def _counts(summary, seconds: float) -> str:
    parts = [f"{summary.made} results in {seconds:.1f} s"]
    if summary.flagged:
        parts.append(f"{summary.flagged} of them without lines (FLAGS in their headers)")
    if summary.without_redshift:
        parts.append(f"{summary.without_redshift} of them without a redshift in the table, so inferred")
    if summary.done:
        parts.append(f"{summary.done} were there already")
    if summary.no_prism:
        parts.append(f"{summary.no_prism} files in folders are no prism spectra")
    return "; ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a file failed or nothing could be done, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if args.workers < 0:
        p.error(f"--workers: expected 0 or more, got {args.workers}")
    try:
        return enhance(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; results so far are complete, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
