"""``kspecsr linefit``: line fluxes of prism spectra at known redshifts."""

import argparse
import sys

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr linefit spectrum.fits --redshift 3.235
  kspecsr linefit 'archive/*prism*_x1d.fits' --redshift redshifts.csv:z_spec --output lines
  kspecsr linefit archive/ --redshift catalogue.fits:z_Spec:Unique_ID --output lines

FILE and --redshift are as for kspecsr enhance: a spectrum of any known format, a pattern in quotes, a folder,
or @LIST. No training is involved in these fluxes: they follow from the line-spread function of the prism,
non-negative lines, tied doublets and a flexible continuum. Lines that the prism cannot tell apart share their
flux, with correspondingly large errors. An existing NAME_linefit.ecsv is replaced.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "files", "spectra, patterns, folders, or @LIST", nargs="+", metavar="FILE")
    cli.add(p, "--redshift", "known redshifts", required=True, metavar="Z|TABLE:COLUMN[:KEY]")
    cli.add(p, "--output", "also write NAME_linefit.ecsv there")
    for name in ("--extraction", "--hdu", "--row"):
        cli.add(p, name)
    cli.add(p, "--knots", "knots of the continuum", type=int, default=30)
    cli.add(
        p,
        "--resolution-scale",
        "factor on the tabulated resolving power (default: 1.22, as reduced spectra show)",
        type=float,
        metavar="FACTOR",
    )
    cli.add(
        p, "--zero-point-shift", "shift of the lines to the red", type=float, default=0.0, metavar="PIXELS"
    )


@cli.command("kspecsr linefit", EXAMPLES, _options, interrupted=cli.COMPLETE_SO_FAR)
def main(args: argparse.Namespace) -> int:
    """Direct line fit to NIRSpec prism spectra at known redshifts: fluxes with errors."""
    # half a second of astropy: not for --help
    from data_pipeline.readers.format import ReadOptions
    from kspecsr.enhancement.line_fits import fit_files
    from kspecsr.methods.direct_fit import DirectFitConfig

    config = DirectFitConfig(
        knots=args.knots, resolution_scale=args.resolution_scale, zero_point_shift=args.zero_point_shift
    )
    reading = ReadOptions(args.extraction, args.hdu, row=args.row)
    return cli.list_failures(fit_files(args.files, args.redshift, args.output, config, reading, cli.say))


if __name__ == "__main__":
    sys.exit(main())
