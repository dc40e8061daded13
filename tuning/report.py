"""Command line of the sweeps' report: ``python -m tuning.report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kspecsr.configuration import STAGES

_EXAMPLES = """examples:
  # all stages that were swept in that folder, into tuning_runs/night/report/
  python -m tuning.report tuning_runs/night
  # one stage, elsewhere
  python -m tuning.report tuning_runs/night --stage sr1 --output pictures

Written per stage: parallel.html and parallel.png (every trial a line across the axes), importance.png and
importance.ecsv, learning_curves.png, trials.ecsv. TensorBoard shows the same trials:
tensorboard --logdir tuning_runs/night/sr1/tensorboard (page HPARAMS). Exit status: 0 done, 1 failed, 2 wrong
options.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tuning.report",
        description="Pictures and tables of a sweep, finished or not.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="that python -m tuning.run wrote")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: DIR/report")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="trials printed (default %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.top < 1:
        parser.error(f"--top: expected 1 or more, got {arguments.top}")
    from tuning.reporting.stage_report import any_ended, write_report
    from tuning.study_folder import studies

    try:
        if not arguments.directory.is_dir():
            raise ValueError(
                f"{arguments.directory}: no such folder; expected one that python -m tuning.run wrote"
            )
        found = studies(arguments.directory)
        stages = [arguments.stage]
        if arguments.stage == "all":
            ended = [stage for stage in found if any_ended(arguments.directory, stage)]
            stages = ended or found
        if not found or arguments.stage not in ("all", *found):
            what = f" of {arguments.stage}, only of {', '.join(found)}" if found else ""
            raise ValueError(
                f"{arguments.directory}: holds no sweep{what}; expected a folder that python -m tuning.run "
                "wrote"
            )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        for stage in stages:
            output = (arguments.output or arguments.directory / "report") / stage
            for line in write_report(arguments.directory, stage, output, arguments.top):
                print(line, flush=True)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
