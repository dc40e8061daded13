"""``kspecsr enhance``: super-resolve prism spectra."""

import argparse
import sys

from data_pipeline import command_line as cli
from kspecsr.enhancement.options import FILES_AND_RESULTS, GRATINGS, add_options

EXAMPLES = f"""examples:
  kspecsr enhance spectrum.fits
  kspecsr enhance spectrum.fits --output results --plot
  kspecsr enhance archive/ --output results --workers 4
  kspecsr enhance archive/ --dry-run            # what would be done; --limit 10: with the first ten files
  kspecsr enhance 'archive/*prism*_x1d.fits' @more.txt --output results --model runs/mine
  kspecsr enhance spectrum.fits --redshift 3.235 --output results
  kspecsr enhance prism.fits --with g235m.fits --with g395m.fits --output results
  kspecsr enhance archive/ --with archive/ --output results
  kspecsr enhance archive/ --redshift catalogue.fits:z_Spec:Unique_ID --output results

--with joins medium gratings (G140M, G235M, G395M) with the prism: one redshift, one line catalogue, flux
scales and zero points of all arms; it needs a model with joint line errors. Given once for each grating of
one prism spectrum, or as a folder, pattern or @LIST: then those that belong to a prism are found by JADES
name, or by position within 0.2 arcsec (--verbose and --dry-run name them). A known redshift is where lines
are looked for, within 300 km/s (one sigma).

{FILES_AND_RESULTS}"""


def _options(p: argparse.ArgumentParser) -> None:
    add_options(p)
    cli.add(p, "--model")
    cli.add(p, "--with", GRATINGS, action="append", dest="gratings", default=[], metavar="FILE")
    cli.add(p, "--precision")


@cli.command("kspecsr enhance", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> int:
    """Super-resolve NIRSpec prism spectra: sharp spectrum, redshift and lines, with errors."""
    # Half a second of astropy and, with the first spectrum, seconds of TensorFlow: not for --help
    from kspecsr.enhancement.run import enhance_as_asked
    from kspecsr.model_settings import find_model, weights_hash

    folder = find_model(args.model)

    def make_resolver():
        with cli.suppress_startup_stderr():
            from kspecsr.super_resolver import SuperResolver

            return SuperResolver.from_folder(folder, precision=args.precision)

    return enhance_as_asked(args, weights_hash(folder), make_resolver)


if __name__ == "__main__":
    sys.exit(main())
