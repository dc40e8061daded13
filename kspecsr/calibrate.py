"""``kspecsr calibrate``: calibrate the errors that a model states."""

import argparse
import sys

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr calibrate runs/default
  kspecsr calibrate runs/default --n 500 --seed 3

Writes calibration.json into the model folder, beside the weights: factors on the errors of pixels and line
fluxes as functions of their S/N, and an exponent for P(z), such that intervals of 68 and 95 % hold as much of
the truth; and which CHI2NU is usual at which S/N, from which P_FIT and the flag POOR_FIT follow. They are
measured on simulated galaxies that neither training nor kspecsr evaluate sees, and are applied from then on
wherever the model is loaded. Training a stage again removes them.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "model", "model folder", metavar="DIR")
    cli.add(p, "--n", "number of galaxies", type=cli.at_least(100), default=2000)
    cli.add(p, "--seed", "random seed of the galaxies", default=7)


@cli.command("kspecsr calibrate", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Measure the calibration of a model's uncertainties."""
    # seconds of SciPy, astropy and TensorFlow: not for --help
    with cli.suppress_startup_stderr():
        from kspecsr.evaluation.calibrate import calibrate_model
        from kspecsr.model_settings import find_model

    calibration, path = calibrate_model(find_model(args.model), args.n, args.seed, args.quiet)
    for name in ("sr1", "continuum", "line_pixels", "line_flux"):
        scale = getattr(calibration, name)
        last = scale.start + scale.step * (len(scale.factor) - 1)
        print(
            f"{name:12s} errors x {min(scale.factor):.2f} to {max(scale.factor):.2f} "
            f"(log10 S/N {scale.start:g} to {last:g})"
        )
    print(f"{'P(z)':12s} to the power of {calibration.redshift_exponent:.2f}")
    if fit := calibration.fit:
        usual = ", ".join(f"{row[-1]:.2f}" for row in fit.chi_square)
        print(f"{'CHI2NU':12s} above {usual} in {fit.share[-1]:.0%} of spectra, by S/N (P_FIT)")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
