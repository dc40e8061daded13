"""``kspecsr tune-report``: pictures and tables of a sweep."""

import argparse
import sys
from pathlib import Path

from data_pipeline import command_line as cli
from kspecsr.configuration import STAGES

EXAMPLES = """examples:
  # all stages that were swept in that folder, into tuning_runs/night/report/
  kspecsr tune-report tuning_runs/night
  # one stage, elsewhere
  kspecsr tune-report tuning_runs/night --stage sr1 --output pictures

Written per stage: parallel.html and parallel.png (every trial a line across the axes), importance.png and
importance.ecsv, learning_curves.png, trials.ecsv. TensorBoard shows the same trials:
tensorboard --logdir tuning_runs/night/sr1/tensorboard (page HPARAMS).
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "directory", "folder that kspecsr tune wrote", type=Path, metavar="DIR")
    cli.add(p, "--stage", "stage to show", choices=(*STAGES, "all"), default="all")
    cli.add(p, "--output", "default: DIR/report")
    cli.add(p, "--top", "number of trials printed", type=cli.at_least(1), default=10)


@cli.command("kspecsr tune-report", EXAMPLES, _options, extra="tuning")
def main(args: argparse.Namespace) -> None:
    """Pictures and tables of a sweep, finished or not."""
    from tuning.stage_report import any_ended, write_report
    from tuning.study import studies

    folder = args.directory
    if not folder.is_dir():
        raise cli.OptionError(f"{folder}: no such folder; expected one that kspecsr tune wrote")
    found = studies(folder)
    if not found or args.stage not in ("all", *found):
        what = f" of {args.stage}, only of {', '.join(found)}" if found else ""
        raise cli.OptionError(f"{folder}: holds no sweep{what}; expected a folder that kspecsr tune wrote")
    stages = [args.stage]
    if args.stage == "all":
        stages = [stage for stage in found if any_ended(folder, stage)] or found
    for stage in stages:
        for line in write_report(folder, stage, (args.output or folder / "report") / stage, args.top):
            cli.say(line)


if __name__ == "__main__":
    sys.exit(main())
