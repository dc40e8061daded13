"""Command line of training: ``python -m kspecsr.train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.quiet_start import held_back_stderr
from data_pipeline.workers import WorkerError
from kspecsr.configuration import PRESETS, STAGES, Preset, load_preset
from kspecsr.configuration.training import PRECISIONS

if TYPE_CHECKING:
    from kspecsr.feeds import DataChoice

_FINE_TUNING_RATE = 0.1  # of the preset's learning rate
_EXAMPLES = """examples:
  # the first stage with documented defaults; the same command goes on where it was stopped
  python -m kspecsr.train --stage sr1
  # all three stages, one after the other, on records that python -m data_pipeline.build wrote
  python -m kspecsr.train --data data/jades --output runs/jades
  # a small model in minutes
  python -m kspecsr.train --preset small --data simulation --output runs/small
  # fine-tune a model on pairs of your own, with a tenth of the learning rate
  python -m kspecsr.train --init-from saved_models/default --data data/mine --output runs/mine
  # an own preset: write a shipped one to a file, edit it, train it
  python -m kspecsr.train --preset default --show-preset > mine.json
  python -m kspecsr.train --preset mine.json

Best weights (by a goal metric, not by the loss) lie in OUTPUT as <stage>.keras with model.json; logs,
pictures and the state to go on from in OUTPUT/<stage>/. Exit
status: 0 done, 1 failed, 2 wrong options, 130 interrupted.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kspecsr.train",
        description="Trains the stages of a super-resolution model, each on the frozen ones before it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all", help="default: %(default)s")
    parser.add_argument(
        "--data",
        metavar="DIR|simulation",
        help="records, or fresh simulation (default: records in data/ if there are some, else simulation)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="model folder (default: runs/<preset>)")
    parser.add_argument(
        "--preset", default="default", metavar="NAME|FILE", help=f"{', '.join(PRESETS)} or a JSON file"
    )
    parser.add_argument("--show-preset", action="store_true", help="print the preset as JSON and leave")
    start = parser.add_argument_group("where to start")
    start.add_argument("--init-from", type=Path, metavar="MODEL", help="first weights: fine-tunes that model")
    start.add_argument(
        "--upstream", type=Path, metavar="MODEL", help="earlier stages, where OUTPUT has none; sr1 needs none"
    )
    start.add_argument("--restart", action="store_true", help="begin again where OUTPUT holds a training")
    change = parser.add_argument_group("changes of the preset, for the stages trained")
    change.add_argument("--epochs", type=int, metavar="N")
    change.add_argument("--steps-per-epoch", type=int, metavar="N")
    change.add_argument("--batch-size", type=int, metavar="N")
    change.add_argument("--learning-rate", type=float, metavar="X", help="at its peak")
    change.add_argument("--patience", type=int, metavar="N", help="epochs without a better goal; 0: no end")
    change.add_argument("--precision", choices=PRECISIONS, help="heads and losses stay float32")
    run = parser.add_argument_group("how to run")
    run.add_argument("--seed", type=int, default=0, help="of weights and examples (default %(default)s)")
    run.add_argument("--deterministic", action="store_true", help="repeatable to the last bit; slower")
    run.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs that share a batch (default 1)"
    )
    run.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compile with XLA (default: on one GPU, not on a CPU, where it slows training)",
    )
    run.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that simulate; records need none (default %(default)s)",
    )
    run.add_argument(
        "--calibrate",
        action="store_true",
        help="calibrate the errors of the finished model (python -m kspecsr.calibrate)",
    )
    run.add_argument("--no-pictures", action="store_true", help="draw no picture after each epoch")
    return parser


def _preset(arguments: argparse.Namespace, stages: tuple[str, ...]) -> Preset:
    """The preset with the options' changes in the stages that are trained."""
    preset = load_preset(arguments.preset)
    names = ("epochs", "steps_per_epoch", "batch_size", "learning_rate", "patience", "precision")
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for stage in stages:
        if arguments.init_from and arguments.learning_rate is None:
            changes["learning_rate"] = _FINE_TUNING_RATE * preset.training[stage].learning_rate
        preset = preset.with_training(stage, **changes)
    return preset


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    for name, least in (("devices", 1), ("workers", 0), ("seed", 0)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name}: expected {least} or more, got {getattr(arguments, name)}")
    try:
        preset = _preset(arguments, stages)
        if arguments.show_preset:
            print(preset.to_json())
            return 0
        for stage in stages:
            if preset.training[stage].batch_size % arguments.devices:
                raise ValueError(
                    f"--devices {arguments.devices}: the batch of {preset.training[stage].batch_size} is no "
                    "multiple of it; give --batch-size"
                )
        from kspecsr.feeds.choice import choose_data  # half a second

        choice = choose_data(arguments.data)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    output = arguments.output or Path("runs") / preset.name
    try:
        _run(arguments, stages, preset, choice, output)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the same command{' without --restart' if arguments.restart else ''} goes on "
            f"after the last finished epoch in {output}",
            file=sys.stderr,
        )
        return 130
    except WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(
    arguments: argparse.Namespace,
    stages: tuple[str, ...],
    preset: Preset,
    choice: DataChoice,
    output: Path,
) -> None:
    """Trains the stages; everything that needs Keras is imported here, seconds that --help does not wait."""
    print(choice.reason)
    print(f"output: {output}{'' if arguments.output else ' (--output says otherwise)'}")
    print(f"preset: {preset.name}; stages: {', '.join(stages)}; seed {arguments.seed}", flush=True)
    with held_back_stderr():
        from kspecsr.training.data import TrainingData
        from kspecsr.training.devices import find_devices
        from kspecsr.training.run_settings import TrainingOptions
        from kspecsr.training.stage import begin_again, train_stage

        find_devices()
    data = TrainingData(choice.directory, preset.feed, preset.model.grid, arguments.seed, arguments.workers)
    options = TrainingOptions(
        seed=arguments.seed,
        deterministic=arguments.deterministic,
        devices=arguments.devices,
        jit="auto" if arguments.jit is None else arguments.jit,
        restart=arguments.restart,
        init_from=arguments.init_from,
        upstream=arguments.upstream,
        pictures=not arguments.no_pictures,
    )
    if arguments.restart:
        begin_again(output, stages)
    for stage in stages:
        result = train_stage(stage, preset, data, output, options, _say)
        print(f"{stage}: {result.path}", flush=True)
    if arguments.calibrate:
        from kspecsr.evaluation.calibrate import GALAXIES, SEED, calibrate_model

        print(f"calibration: {calibrate_model(output, GALAXIES, SEED)[1]}", flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
