"""``kspecsr robustness``: a model on all kinds of spectra."""

from __future__ import annotations

import argparse
import sys

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr robustness --model default --output report/robustness
  kspecsr robustness --model runs/mine --output mine --gate release --templates
  kspecsr robustness --model runs/mine --output mine --n 500 --cases gap,dja-v4,quiescent

Each case is simulated held-out galaxies with one difficulty: parts of the range missing, other
releases' pixels, another resolving power, wrong error arrays, outliers, all redshifts, all S/N, quiescent and
broad-line galaxies, no source at all. Prints one line per case and writes robustness.json, with intervals.
Rerun the same command to resume. A gate with limits on cases (release) is printed too, and sets the
population; exit status 1 where a limit is broken.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--output", required=True)
    cli.add(p, "--n", "galaxies of each case", type=cli.at_least(2), default=200)
    cli.add(p, "--population", "of the galaxies (default: the gate's, else survey)", default=None)
    cli.add(p, "--gate", "limits to keep: release or a file (default: none)", metavar="NAME|FILE")
    templates = "a template fit beside, where redshifts are known by breaks: seconds per galaxy"
    cli.add(p, "--templates", templates, action="store_true")
    cli.add(p, "--cases", "cases to measure (default: all)", type=cli.columns_of, metavar="A,B")


@cli.command("kspecsr robustness", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> int:
    """Judge a model case by case on difficult spectra."""
    # seconds of SciPy, astropy and TensorFlow: not for --help
    with cli.suppress_startup_stderr():
        from benchmarks.robustness_cases import CASES, measure_cases, table
        from kspecsr.enhancement.inputs import check_writable
        from kspecsr.evaluation.line_table import broad_table, limit_table
        from kspecsr.evaluation.model_card import EXPLANATION
        from kspecsr.measures.gate import Gate, values_of
        from kspecsr.model_settings import find_model, weights_hash
        from kspecsr.super_resolver import SuperResolver
    names = list(args.cases or CASES)
    if unknown := sorted(set(names) - set(CASES)):
        raise cli.OptionError(f"--cases: unknown {', '.join(unknown)}; expected some of {', '.join(CASES)}")
    gate = Gate.find(args.gate) if args.gate else Gate()
    folder = find_model(args.model)
    check_writable(args.output)
    with cli.suppress_startup_stderr():
        networks = SuperResolver.from_folder(folder)
    grid = networks.identity.grid
    found = measure_cases(
        names,
        networks,
        weights_hash(folder),
        grid,
        args.n,
        args.output,
        args.quiet,
        args.population or gate.population or "survey",
        args.templates,
    )
    print(table(found))
    print(f"\n{EXPLANATION}")
    broken = []
    for name in names:
        failures = gate.failures(values_of(found[name]), name) if name in gate.others else []
        broken += [f"{name}: {text}" for text in failures]
        limits = limit_table(gate.others.get(name, {}), found[name], failures)
        broad = broad_table(found[name]["sr2"]) if name == "broad_line" else ""
        print("".join(f"\n{name}\n{text}\n" for text in (limits, broad) if text), end="")
    return cli.list_failures(broken, "limits of the gate broken")


if __name__ == "__main__":
    sys.exit(main())
