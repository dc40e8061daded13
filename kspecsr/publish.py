"""``kspecsr publish``: a trained, judged model as one that ships."""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr publish runs/default --report report --robustness report/robustness \\
      --output saved_models/default --failures failures.md

The new folder, named after its model, holds the stages, model.json, calibration.json, README.md (the model
card: training set, figures with intervals, release limits that are broken, how to train it again) and
manifest.json with the SHA-256 of each. The figures must be of this very model, with its calibration:

  kspecsr calibrate runs/default
  kspecsr evaluate --model runs/default --output report --gate release
  kspecsr robustness --model runs/default --output report/robustness
"""
REPRODUCE = "kspecsr train --data simulation --output runs/default --calibrate"


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "model", "model folder", type=Path, metavar="DIR")
    cli.add(p, "--report", "its evaluation", type=Path, required=True, metavar="DIR")
    cli.add(p, "--robustness", "its figures case by case", type=Path, metavar="DIR")
    cli.add(p, "--failures", "text on where it fails", type=Path, metavar="FILE.md")
    cli.add(p, "--reproduce", "command that trains it", default=REPRODUCE, metavar="COMMAND")
    cli.add(p, "--output", "new model folder; replaced if it is one already", required=True)


@cli.command("kspecsr publish", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Write a model folder that can be given to others, with its model card and manifest."""
    # seconds of SciPy and TensorFlow: not for --help
    with cli.suppress_startup_stderr():
        from kspecsr.configuration import STAGES
        from kspecsr.evaluation.model_card import model_card
        from kspecsr.model_folder import write_manifest
        from kspecsr.model_settings import (
            CALIBRATION_FILE,
            SETTINGS_FILE,
            ModelFolderError,
            check_archive,
            read_settings,
            stage_path,
            write_settings,
        )
    failures = args.failures.read_text(encoding="utf-8") if args.failures else "Not described.\n"
    if not (args.model / CALIBRATION_FILE).is_file():
        raise ModelFolderError(
            f"{args.model}: has no {CALIBRATION_FILE}; kspecsr calibrate {args.model} makes it"
        )
    if args.output.exists() and not (args.output / SETTINGS_FILE).is_file():
        raise ModelFolderError(f"{args.output}: exists and is no model folder; give another --output")
    sources = (args.report, args.robustness, args.reproduce, failures)
    card = model_card(args.model, args.output.name, *sources)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(suffix=".part", dir=args.output.parent) as temporary:
        made = Path(temporary) / args.output.name
        made.mkdir()
        for stage in STAGES:
            check_archive(stage_path(args.model, stage))
            shutil.copyfile(stage_path(args.model, stage), stage_path(made, stage))
        shutil.copyfile(args.model / CALIBRATION_FILE, made / CALIBRATION_FILE)
        write_settings(made, replace(read_settings(args.model), name=args.output.name))
        (made / "README.md").write_text(card, encoding="utf-8")
        write_manifest(made)
        _replace(args.output, made, Path(temporary) / "before")
    size = sum(path.stat().st_size for path in args.output.iterdir())
    print(f"written: {args.output} ({size / 1e6:.1f} MB), with its model card and manifest")


def _replace(output: Path, made: Path, before: Path) -> None:
    """Puts a folder in the place of another, which comes back if that fails."""
    if output.exists():
        output.rename(before)
    try:
        made.rename(output)
    except BaseException:
        if before.exists():
            before.rename(output)
        raise


if __name__ == "__main__":
    sys.exit(main())
