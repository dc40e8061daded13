"""Command line: ``python -m kspecsr.enhance``: super-resolves prism spectra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from data_pipeline.quiet_start import held_back_stderr
from kspecsr.enhancement.options import FILES_AND_RESULTS, add_options

EXAMPLES = (
    """examples:
  python -m kspecsr.enhance spectrum.fits
  python -m kspecsr.enhance spectrum.fits --output results --plot
  python -m kspecsr.enhance archive/ --output results --workers 4
  python -m kspecsr.enhance 'archive/*prism*_x1d.fits' @more.txt --output results --model runs/mine
  python -m kspecsr.enhance spectrum.fits --redshift 3.235 --output results
  python -m kspecsr.enhance archive/ --redshift catalogue.fits:z_Spec:Unique_ID --output results

"""
    + FILES_AND_RESULTS
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.enhance",
        description="Super-resolve NIRSpec prism spectra: sharp spectrum, redshift and lines, with errors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(p)
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="shipped model or model folder (%(default)s)"
    )
    return p


def enhance(args: argparse.Namespace) -> int:
    """Does what the command line says; returns the exit status."""
    # Half a second of astropy and, with the first spectrum, seconds of TensorFlow: not for --help
    from kspecsr.enhancement.run import enhance_as_asked
    from kspecsr.model_settings import find_model, weights_hash

    folder = find_model(args.model)

    def make_resolver():
        with held_back_stderr():
            from kspecsr.super_resolver import SuperResolver

            return SuperResolver.from_folder(folder)

    return enhance_as_asked(args, weights_hash(folder), make_resolver)


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
