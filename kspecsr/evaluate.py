"""``kspecsr evaluate``: judge a model on galaxies that it never saw."""

import argparse
import sys
from pathlib import Path

from data_pipeline import command_line as cli

SIMULATION, GRATINGS = "simulation", "gratings"
EXAMPLES = """examples:
  kspecsr evaluate --model runs/default --output report
  kspecsr evaluate --model runs/default --data records --output report
  kspecsr evaluate --model runs/default --output report --gate release
  kspecsr evaluate --model runs/default --output open --gate release --population open-sky
  kspecsr evaluate --model runs/default --output report --pairs pairs/pairs.csv --files 'a/*.fits'
  kspecsr evaluate --data gratings --gratings real_gratings --output report

DIR gets report.html, one page with everything on it; metrics.json, every figure with its interval and number
of measurements; the pictures; and measured/, the measurements of each galaxy, from which the same command
resumes, or splits all figures with --all-splits.

--data is 'simulation', galaxies like those of JADES from a seed of their own that no training uses, or a
directory of records, of which the split 'test' is taken; splits are by sky groups. 'gratings' are real
grating spectra in the folder --gratings (*_gratings_*.fits: HDU WAVELENGTH [um], table GRATINGS with
UNIQUE_ID, Z, FLUX, FLUX_ERR), seen through the prism with noise of the release added; lines are judged
against fits to the gratings. Where that folder is not there, a line says so and nothing is done.

The paper's Fig. 9 is shown if kspecsr identical-networks made it for this model.

--pairs is a CSV table with the columns prism_file and grating_file, files beside the table, and a redshift.

A gate is a JSON file: {"evaluation": {"sr2/recovery": {"low": 0.9, "high": 1.1}}}, names as in metrics.json.
A limit with "times": "METHOD/METRIC" is a multiple of what an oracle has; one with "beside" and "by" may be
exceeded as far as an oracle, and that much more. Without --gate the limits of the gate "default" apply. The
gate "release" is for the population sky, has limits of its own for open-sky, and for cases of
kspecsr robustness. Exit status: 0 if all limits are kept, 1 if some are broken (listed) or the evaluation
failed.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--data", "records, fresh simulation or real gratings", default=SIMULATION, metavar="DIR|NAME")
    cli.add(p, "--gratings", "folder of real grating spectra, for --data gratings", type=Path, metavar="DIR")
    cli.add(p, "--output", "folder of the report", required=True)
    cli.add(p, "--n", "number of galaxies", type=int, default=2000)
    cli.add(p, "--seed", "random seed of simulated galaxies (default: the shipped one)", default=None)
    cli.add(p, "--population", "of the simulated galaxies (default: the gate's, else survey)", default=None)
    cli.add(p, "--split", "split of the records", default="test")
    cli.add(
        p,
        "--methods",
        "methods to judge (default: all but the slow template_fit)",
        type=cli.columns_of,
        metavar="A,B",
    )
    cli.add(p, "--prior-galaxies", "galaxies of the prior-response test", type=int, default=200)
    splits = "every figure also by S/N, redshift, wavelength and line: 1,000 more for each method"
    cli.add(p, "--all-splits", splits, action="store_true")
    cli.add(p, "--files", "real prism spectra for the page", nargs="+", default=[], metavar="FILE")
    cli.add(p, "--pairs", "real prism/grating pairs for the page", default="", metavar="TABLE")
    cli.add(
        p,
        "--pairs-redshift",
        "columns of TABLE with redshifts",
        type=cli.columns_of,
        default=(),
        metavar="A,B",
    )
    cli.add(
        p,
        "--identical",
        "output of identical-networks (default: identical/ in --output)",
        type=Path,
        metavar="DIR",
    )
    cli.add(p, "--gate", "limits to keep: default, release or a file", default="default", metavar="NAME|FILE")


@cli.command("kspecsr evaluate", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> int:
    """Judge a model on held-out galaxies and write figures, metrics.json and one HTML page.

    It is judged beside a direct line fit and classical deconvolutions.
    """
    # seconds of NumPy, SciPy and astropy: not for --help
    from kspecsr.evaluation.methods import MEASURED, METHODS, EvaluationConfig
    from kspecsr.evaluation.sources import SHIPPED_SEED
    from kspecsr.measures.gate import Gate

    real = args.data == GRATINGS
    if real != (args.gratings is not None):
        raise cli.OptionError("--data gratings and --gratings DIR go together")
    if real and not args.gratings.exists():
        print(f"skipped: {args.gratings} is not there; --gratings takes the folder of the grating spectra")
        return 0
    # limits are of galaxies whose truth has no noise
    gate = Gate() if real and args.gate == "default" else Gate.find(args.gate)
    with cli.interpreting_options():
        config = EvaluationConfig(
            n=args.n,
            seed=SHIPPED_SEED if args.seed is None else args.seed,
            population=args.population or gate.population or "survey",
            split=args.split,
            methods=args.methods or (MEASURED if real else METHODS),
            prior_galaxies=args.prior_galaxies,
            all_splits=args.all_splits or real,
        )
        if args.data == SIMULATION:
            gate.limits(config.population)
    # seconds of SciPy, astropy and TensorFlow
    with cli.suppress_startup_stderr():
        from kspecsr.enhancement.inputs import check_writable
        from kspecsr.evaluation.evaluation import Evaluation
        from kspecsr.evaluation.line_table import (
            broad_table,
            class_table,
            limit_table,
            line_table,
            redshift_table,
            stated_table,
            sure_table,
        )
        from kspecsr.evaluation.real_pairs import read_pairs
        from kspecsr.evaluation.report import summary_table
        from kspecsr.model_settings import find_model

    pairs = read_pairs(args.pairs, args.pairs_redshift) if args.pairs else []
    folder = find_model(args.model)
    check_writable(args.output)
    records = None if real or args.data == SIMULATION else Path(args.data)
    evaluation = Evaluation(
        folder, args.output, config, records=records, gratings=args.gratings, quiet=args.quiet
    )
    broken_limits = evaluation.run(
        gate,
        gate_name=args.gate,
        files=args.files,
        pairs=pairs,
        identical=args.identical,
        command=_command(args),
    )
    print(summary_table(evaluation.metrics))
    found = evaluation.metrics.get("sr2", {})
    limits = gate.limits(evaluation.population)
    for text in (
        limit_table(limits, evaluation.metrics, broken_limits),
        sure_table(found),
        stated_table(found),
        broad_table(found),
        class_table(found),
    ):
        if text:
            print(f"\n{text}\n")
    if config.all_splits:
        print(f"\n{redshift_table(evaluation.metrics)}\n")
        print(f"{line_table(evaluation.metrics, shared_noise=real)}\n")
    print(f"report: {evaluation.page}")
    unread = cli.list_failures(evaluation.unread, "not read")
    return cli.list_failures(broken_limits, "limits of the gate broken") or unread


def _command(args: argparse.Namespace) -> str:
    """The command that makes the same page."""
    words = ["kspecsr evaluate"]
    for name, value in vars(args).items():
        if value in ("", [], (), None, False):
            continue
        option = f"--{name.replace('_', '-')}"
        # columns are joined by commas, files stand one by one
        text = ",".join(value) if isinstance(value, tuple) else value
        text = " ".join(map(str, text)) if isinstance(text, list) else str(text)
        words.append(option if value is True else f"{option} {text}")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
