"""Command line: ``python -m kspecsr.evaluate``: judges a model on galaxies that it never saw."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.quiet_start import held_back_stderr

SIMULATION = "simulation"
EXAMPLES = """examples:
  python -m kspecsr.evaluate --model runs/default --output report
  python -m kspecsr.evaluate --model runs/default --data records --output report
  python -m kspecsr.evaluate --model runs/default --output report --gate release
  python -m kspecsr.evaluate --model runs/default --output report --pairs pairs/pairs.csv --files 'a/*.fits'

DIR gets report.html, one page with everything on it; metrics.json, every figure with its interval and number
of measurements; the pictures; and measured/, what was measured of each galaxy, from which the same command
goes on where it was interrupted.

--data is 'simulation', galaxies like those of JADES from a seed of their own that no training uses, or a
directory of records, of which the split 'test' is taken; splits are by sky groups.

The paper's Fig. 9 is shown where python -m kspecsr.evaluation.identical_networks made it for this model.

--pairs is a CSV table with the columns prism_file and grating_file, files beside the table, and a redshift.

A gate is a JSON file: {"evaluation": {"sr2/recovery": {"low": 0.9, "high": 1.1}}}, names as in metrics.json.
Exit status: 0 all limits kept, 1 some broken (listed) or the evaluation failed, 2 wrong options, 130
interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.evaluate",
        description="Judge a model on held-out galaxies, beside a direct line fit and classical "
        "deconvolutions, with honest metrics; write figures, metrics.json and one HTML page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="shipped model or model folder (%(default)s)"
    )
    p.add_argument("--data", default=SIMULATION, metavar="DIR", help="records, or '%(default)s' (default)")
    p.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the report goes")
    p.add_argument("--n", type=int, default=2000, help="galaxies (default %(default)s)")
    p.add_argument("--seed", type=int, default=None, help="of simulated galaxies; default: the shipped one")
    p.add_argument("--split", default="test", help="of records (default %(default)s)")
    p.add_argument("--methods", default="", metavar="A,B", help="methods to judge; default: all")
    p.add_argument("--prior-galaxies", type=int, default=200, help="of the prior-response test (%(default)s)")
    p.add_argument("--files", nargs="+", default=[], metavar="FILE", help="real prism spectra for the page")
    p.add_argument("--pairs", default="", metavar="TABLE", help="real prism/grating pairs for the page")
    p.add_argument("--pairs-redshift", default="", metavar="A,B", help="columns of TABLE with redshifts")
    p.add_argument(
        "--identical",
        type=Path,
        default=None,
        metavar="DIR",
        help="with Fig. 9; default: identical/ in --output",
    )
    p.add_argument(
        "--gate", default="", metavar="NAME|FILE", help="limits to keep: default, release or a file"
    )
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the exit status above."""
    p = parser()
    args = p.parse_args(argv)
    try:
        config = _config(args)
    except ValueError as error:
        p.error(str(error))
    try:
        return _evaluate(args, config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what was measured", file=sys.stderr)
        return 130


def _config(args: argparse.Namespace):
    # half a second of NumPy and SciPy: not for --help
    from kspecsr.evaluation.config import METHODS, EvaluationConfig
    from kspecsr.evaluation.sources import SHIPPED_SEED

    return EvaluationConfig(
        n=args.n,
        seed=SHIPPED_SEED if args.seed is None else args.seed,
        split=args.split,
        methods=tuple(args.methods.split(",")) if args.methods else METHODS,
        prior_galaxies=args.prior_galaxies,
    )


def _evaluate(args: argparse.Namespace, config) -> int:
    # seconds of SciPy, astropy and TensorFlow: not for --help
    with held_back_stderr():
        from kspecsr.enhancement.inputs import check_writable
        from kspecsr.evaluation.evaluation import Evaluation
        from kspecsr.evaluation.real_pairs import read_pairs
        from kspecsr.evaluation.report import summary_table
        from kspecsr.measures.gate import Gate
        from kspecsr.model_settings import find_model

    gate = Gate.find(args.gate or "default")
    columns = tuple(name for name in args.pairs_redshift.split(",") if name)
    pairs = read_pairs(args.pairs, columns) if args.pairs else []
    folder = find_model(args.model)
    check_writable(args.output)
    evaluation = Evaluation(folder, args.output, config, records=_records(args.data), quiet=args.quiet)
    failures = evaluation.run(
        gate,
        gate_name=args.gate or "default",
        files=args.files,
        pairs=pairs,
        identical=args.identical,
        command=_command(args),
    )
    print(summary_table(evaluation.metrics))
    print(f"report: {evaluation.page}")
    if evaluation.unread:
        print(f"\n{len(evaluation.unread)} not read:", *evaluation.unread, sep="\n  ", file=sys.stderr)
    if failures:
        print(f"\ngate: {len(failures)} limits broken:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures or evaluation.unread else 0


def _records(data: str) -> Path | None:
    return None if data == SIMULATION else Path(data)


def _command(args: argparse.Namespace) -> str:
    """The command that makes the same page."""
    given = {k: v for k, v in vars(args).items() if v not in ("", [], None, False)}
    words = ["python -m kspecsr.evaluate"]
    for name, value in given.items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{name.replace('_', '-')} {text}" if value is not True else f"--{name}")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
