"""Command line: ``python -m kspecsr.calibrate``: makes the errors that a model states hold."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from data_pipeline.quiet_start import held_back_stderr

EXAMPLES = """examples:
  python -m kspecsr.calibrate runs/default
  python -m kspecsr.calibrate runs/default --n 500 --seed 3

Writes calibration.json into the model folder, beside the weights: factors on the errors of pixels and line
fluxes as functions of their S/N, and an exponent for P(z), such that intervals of 68 and 95 % hold as much of
the truth. They are measured on simulated galaxies that neither training nor python -m kspecsr.evaluate sees,
and are applied from then on wherever the model is loaded. Training a stage again removes them.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.calibrate",
        description="Measure the calibration of a model's uncertainties.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", metavar="DIR", help="model folder")
    p.add_argument("--n", type=int, default=2000, help="galaxies (default %(default)s)")
    p.add_argument("--seed", type=int, default=7, help="of the galaxies (default %(default)s)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    p = parser()
    args = p.parse_args(argv)
    if args.n < 100:
        p.error(f"--n: expected 100 galaxies or more, got {args.n}")
    # seconds of SciPy, astropy and TensorFlow: not for --help
    with held_back_stderr():
        from kspecsr.evaluation.calibrate import calibrate_model
        from kspecsr.model_settings import find_model
    try:
        calibration, path = calibrate_model(find_model(args.model), args.n, args.seed, args.quiet)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    for name in ("sr1", "continuum", "line_pixels", "line_flux"):
        scale = getattr(calibration, name)
        last = scale.start + scale.step * (len(scale.factor) - 1)
        print(
            f"{name:12s} errors x {min(scale.factor):.2f} to {max(scale.factor):.2f} "
            f"(log10 S/N {scale.start:g} to {last:g})"
        )
    print(f"{'P(z)':12s} to the power of {calibration.redshift_exponent:.2f}")
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
