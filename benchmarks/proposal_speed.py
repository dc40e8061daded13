"""Command line: ``python -m benchmarks.proposal_speed``, seconds that a proposal takes after many trials."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from tqdm import tqdm

from kspecsr.configuration import PRESETS, STAGES
from tuning.space import search_space, values_of
from tuning.sweep_settings import ALGORITHMS
from tuning.trial_record import DONE, TrialRecord

_EXAMPLES = """examples:
  # the space of SR2, its widest, after 100 trials
  python -m benchmarks.proposal_speed
  python -m benchmarks.proposal_speed --stage sr1 --trials 500 --algorithm bayesian

Goals are made up: nothing is trained. Exit status: 0 done, 1 a proposal was repeated, 2 wrong options.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proposal_speed",
        description="Times the proposals of a sweep, and counts repeated ones.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", choices=STAGES, default="sr2", help="default: %(default)s")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="hyperband", help="default: %(default)s")
    parser.add_argument(
        "--trials", type=int, default=100, metavar="N", help="before it (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.trials < 1 or arguments.seed < 0:
        parser.error("--trials: expected 1 or more, --seed: 0 or more")
    from tuning.proposals import Proposals  # a second

    axes = search_space(arguments.stage)
    start = values_of(PRESETS["default"], arguments.stage, axes)
    proposals = Proposals(axes, arguments.algorithm, arguments.seed, start)
    generator = np.random.default_rng(arguments.seed)
    records, seconds = [], []
    for number in tqdm(range(arguments.trials + 1), unit="trial", disable=None, leave=False):
        begun = time.perf_counter()
        values = proposals.propose(records)
        seconds.append(time.perf_counter() - begun)
        if values is None:
            break
        records.append(TrialRecord(number, values, {1: float(generator.random())}, DONE))
    different = len({tuple(record.values.values()) for record in records})
    print(
        f"{arguments.stage}, {len(axes)} axes, {arguments.algorithm}: proposal after {len(seconds) - 1} "
        f"trials {seconds[-1]:.3f} s, slowest {max(seconds):.3f} s; {different} of {len(records)} "
        "configurations differ"
    )
    return 0 if different == len(records) else 1


if __name__ == "__main__":
    sys.exit(main())
