"""Command line: ``python -m kspecsr.evaluation.robustness``: a model on all kinds of spectra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.quiet_start import held_back_stderr

EXAMPLES = """examples:
  python -m kspecsr.evaluation.robustness --model default --output report/robustness
  python -m kspecsr.evaluation.robustness --model runs/mine --output mine --n 500 --cases gap,coarse,quiescent

Each case is simulated held-out galaxies with one thing made hard: parts of the range missing, another
release's sampling, another resolving power, wrong error arrays, outliers, all redshifts, all S/N, quiescent
and broad-line galaxies, no source at all. Prints one line per case and writes robustness.json, with
intervals. The same command goes on where it was interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.evaluation.robustness",
        description="Judge a model case by case.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", default="default", metavar="NAME|DIR", help="under judgement (%(default)s)")
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="made if it is not there")
    p.add_argument("--n", type=int, default=200, help="galaxies of each case (default %(default)s)")
    p.add_argument("--cases", default="", metavar="A,B", help="default: all")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    p = parser()
    args = p.parse_args(argv)
    if args.n < 2:
        p.error(f"--n: expected two galaxies or more, got {args.n}")
    # seconds of SciPy, astropy and TensorFlow: not for --help
    with held_back_stderr():
        from kspecsr.enhancement.inputs import check_writable
        from kspecsr.evaluation.cases import CASES
        from kspecsr.evaluation.robustness_run import EXPLANATION, measure_cases, table
        from kspecsr.model_settings import find_model, weights_hash
        from kspecsr.super_resolver import SuperResolver
    names = args.cases.split(",") if args.cases else list(CASES)
    if unknown := sorted(set(names) - set(CASES)):
        p.error(f"--cases: unknown {', '.join(unknown)}; expected some of {', '.join(CASES)}")
    try:
        folder = find_model(args.model)
        check_writable(args.output)
        with held_back_stderr():
            networks = SuperResolver.from_folder(folder)
        grid = networks.identity.grid
        found = measure_cases(names, networks, weights_hash(folder), grid, args.n, args.output, args.quiet)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what was measured", file=sys.stderr)
        return 130
    print(table(found))
    print(f"\n{EXPLANATION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
