"""Command line: ``python -m kspecsr.linefit``: line fluxes of prism spectra at known redshifts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kspecsr.methods.direct_fit import DirectFitConfig

EXAMPLES = """examples:
  python -m kspecsr.linefit spectrum.fits --redshift 3.235
  python -m kspecsr.linefit 'archive/*prism*_x1d.fits' --redshift redshifts.csv:z_spec --output lines
  python -m kspecsr.linefit archive/ --redshift catalogue.fits:z_Spec:Unique_ID --output lines
  python -m kspecsr.linefit --benchmark

FILE is what python -m kspecsr.enhance takes: a spectrum of any known format, a pattern in quotes, a folder,
or @LIST; so is --redshift. Nothing learned goes into these fluxes: they are what the prism's line-spread
function, non-negative lines, tied doublets and a flexible continuum give. Lines that the prism cannot tell
apart share their flux, with errors as large as that. NAME_linefit.ecsv is replaced if it is there. A file
that cannot be read is listed at the end; the exit status is then 1.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.linefit",
        description="Direct line fit to NIRSpec prism spectra at known redshifts: fluxes with errors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="*", metavar="FILE", help="spectra, patterns, folders, or @LIST")
    p.add_argument("--redshift", default="", metavar="Z|TABLE:COLUMN[:KEY]", help="needed to fit")
    p.add_argument("--output", type=Path, metavar="DIR", help="also write NAME_linefit.ecsv there")
    p.add_argument("--extraction", choices=("3pix", "5pix"), default="3pix", help="default %(default)s")
    p.add_argument("--knots", type=int, default=DirectFitConfig.knots, help="of the continuum (%(default)s)")
    p.add_argument(
        "--resolution-scale",
        type=float,
        metavar="FACTOR",
        help="on the tabulated resolving power (default: 1.22, as reduced spectra show)",
    )
    p.add_argument(
        "--zero-point-shift",
        type=float,
        default=DirectFitConfig.zero_point_shift,
        metavar="PIXELS",
        help="by which lines lie redwards of their place (default %(default)s)",
    )
    p.add_argument("--benchmark", action="store_true", help="measure spectra per second instead")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a file failed or nothing could be done, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if not args.benchmark and not (args.files and args.redshift):
        p.error("expected one FILE or more and --redshift, or --benchmark")
    try:
        config = DirectFitConfig(
            knots=args.knots,
            resolution_scale=args.resolution_scale,
            zero_point_shift=args.zero_point_shift,
        )
        return _benchmark(config) if args.benchmark else _fit(args, config)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; tables so far are complete", file=sys.stderr)
        return 130


def _fit(args: argparse.Namespace, config: DirectFitConfig) -> int:
    # half a second of astropy: not for --help
    from kspecsr.commands.linefit_files import fit_files

    def report(text: str) -> None:
        print(text, flush=True)

    failures = fit_files(args.files, args.redshift, args.output, config, args.extraction, report)
    if failures:
        print(f"{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


def _benchmark(config: DirectFitConfig) -> int:
    from benchmarks.linefit_speed import measured_speed  # the simulator: not for --help

    for what, rate in measured_speed(config).items():
        print(f"{rate:8.0f} spectra/s  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
