"""``kspecsr train``: train the stages of a model."""

import argparse
import sys
from pathlib import Path

from data_pipeline import command_line as cli
from kspecsr.configuration import PRESETS, STAGES, Preset, load_preset
from kspecsr.configuration.training import PRECISIONS

_FINE_TUNING_RATE = 0.1  # of the preset's learning rate
EXAMPLES = """examples:
  # the first stage with documented defaults; rerun the same command to resume
  kspecsr train --stage sr1
  # all three stages, one after the other, on records that kspecsr data build wrote of an archive (67 lines)
  kspecsr train --preset first --data data/jades --output runs/jades
  # a small model in minutes
  kspecsr train --preset small --data simulation --output runs/small
  # fine-tune a model on records of its list of lines, with a tenth of the learning rate
  kspecsr train --init-from runs/jades --data data/mine --output runs/mine
  # a preset of your own: write a shipped one to a file, edit it, train it
  kspecsr train --preset default --show-preset > mine.json
  kspecsr train --preset mine.json

The best weights of the last fifth of the epochs (by a goal metric, not by the loss) are in OUTPUT as
<stage>.keras with model.json; logs, pictures and the state to resume from are in OUTPUT/<stage>/.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--stage", "stage to train", choices=(*STAGES, "all"), default="all")
    cli.add(p, "--data")
    cli.add(p, "--output", "model folder (default: runs/<preset>)")
    cli.add(p, "--preset", f"{', '.join(PRESETS)} or a JSON file", default="default", metavar="NAME|FILE")
    cli.add(p, "--show-preset", "print the preset as JSON, and exit", action="store_true")
    start = p.add_argument_group("where to start")
    cli.add(start, "--init-from", "fine-tune this model: its weights are the first ones", metavar="NAME|DIR")
    cli.add(
        start,
        "--upstream",
        "model with the earlier stages, where OUTPUT has none; sr1 needs none",
        metavar="NAME|DIR",
    )
    cli.add(start, "--restart", "begin again where OUTPUT holds a training", action="store_true")
    change = p.add_argument_group("changes of the preset, for the stages trained")
    cli.add(change, "--epochs", "largest number of epochs", type=int)
    cli.add(change, "--steps-per-epoch", "batches of an epoch", type=int)
    cli.add(change, "--batch-size", "galaxies in a batch", type=int)
    cli.add(change, "--learning-rate", "learning rate at its peak", type=float)
    cli.add(change, "--patience", "epochs without a better goal before the end; 0: no end", type=int)
    cli.add(change, "--precision", "heads and losses stay float32", choices=PRECISIONS, default=None)
    run = p.add_argument_group("how to run")
    cli.add(run, "--seed", "random seed of weights and examples")
    cli.add(run, "--deterministic", "repeatable to the last bit; slower", action="store_true")
    cli.add(run, "--devices", "number of GPUs that share a batch", type=cli.at_least(1), default=1)
    cli.add(
        run,
        "--jit",
        "compile with XLA (default: on one GPU, not on a CPU, where it slows training)",
        action=argparse.BooleanOptionalAction,
        default=None,
    )
    cli.add(run, "--workers", "processes that simulate; records need none")
    cli.add(
        run, "--calibrate", "calibrate the finished model, as kspecsr calibrate does", action="store_true"
    )
    cli.add(run, "--no-pictures", "draw no picture after each epoch", action="store_true")


def _preset(args: argparse.Namespace, stages: tuple[str, ...]) -> Preset:
    """The preset with the options' changes in the stages that are trained."""
    preset = load_preset(args.preset)
    names = ("epochs", "steps_per_epoch", "batch_size", "learning_rate", "patience", "precision")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for stage in stages:
        if args.init_from and args.learning_rate is None:
            changes["learning_rate"] = _FINE_TUNING_RATE * preset.training[stage].learning_rate
        preset = preset.with_training(stage, **changes)
    return preset


@cli.command("kspecsr train", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> None:
    """Train the stages of a super-resolution model, each on the frozen ones before it."""
    from kspecsr.feeds.choice import choose_data  # half a second

    stages = STAGES if args.stage == "all" else (args.stage,)
    with cli.interpreting_options():
        preset = _preset(args, stages)
        if args.show_preset:
            print(preset.to_json())
            return
        for stage in stages:
            if (size := preset.training[stage].batch_size) % args.devices:
                raise cli.OptionError(
                    f"--devices {args.devices}: the batch of {size} is no multiple of it; give --batch-size"
                )
        choice = choose_data(args.data)
    output = args.output or Path("runs") / preset.name
    cli.say(choice.reason)
    cli.say(f"output: {output}{'' if args.output else ' (--output says otherwise)'}")
    cli.say(f"preset: {preset.name}; stages: {', '.join(stages)}; seed {args.seed}")
    _run(args, stages, preset, choice.directory, output)


def _run(
    args: argparse.Namespace, stages: tuple[str, ...], preset: Preset, records: Path | None, output: Path
) -> None:
    """Trains the stages; everything that needs Keras is imported here, seconds that --help does not wait."""
    with cli.suppress_startup_stderr():
        from kspecsr.model_settings import find_model
        from kspecsr.training.data import TrainingData
        from kspecsr.training.devices import find_devices
        from kspecsr.training.run_settings import TrainingOptions
        from kspecsr.training.stage import begin_again, train_stage

        find_devices()
    data = TrainingData(records, preset.feed, preset.model.grid, args.seed, args.workers)
    settings = TrainingOptions(
        seed=args.seed,
        deterministic=args.deterministic,
        devices=args.devices,
        jit="auto" if args.jit is None else args.jit,
        restart=args.restart,
        init_from=args.init_from and find_model(args.init_from),
        upstream=args.upstream and find_model(args.upstream),
        pictures=not args.no_pictures,
        bar=not args.quiet,
    )
    if args.restart:
        begin_again(output, stages)
    for stage in stages:
        result = train_stage(stage, preset, data, output, settings, cli.say)
        cli.say(f"{stage}: {result.path}")
    if args.calibrate:
        from kspecsr.evaluation.calibrate import GALAXIES, SEED, calibrate_model

        cli.say(f"calibration: {calibrate_model(output, GALAXIES, SEED, args.quiet)[1]}")


if __name__ == "__main__":
    sys.exit(main())
