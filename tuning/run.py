"""``kspecsr tune``: hyper-parameter sweeps."""

import argparse
import importlib.util
import math
import sys
from pathlib import Path

from data_pipeline import command_line as cli
from kspecsr.configuration import PRESETS, STAGES, load_preset
from tuning.space import SPACES, search_space
from tuning.study import ALGORITHMS

_NEEDED = ("keras_tuner", "optuna", "tensorboard", "sklearn", "plotly")
EXAMPLES = """examples:
  # three sweeps, one after the other: SR1, then ZHead on the best SR1, then SR2 on both
  kspecsr tune
  # a night on a laptop with two cores: 30 configurations of SR1, most of them stopped early
  kspecsr tune --stage sr1 --trials 30 --output tuning_runs/night
  # the same within an hour: shorter epochs
  kspecsr tune --stage sr1 --algorithm hyperband --trials 30 --galaxies 640 --output tuning_runs/night
  # ZHead on the SR1 that ships; three axes only, one of them over a range of your own
  kspecsr tune --stage zhead --upstream default --axes learning_rate,dropout,width
      --range learning_rate=1e-4:1e-2
  # the best preset so far, and a training with it
  kspecsr tune --output tuning_runs/night --export best.json
  kspecsr train --preset best.json

Rerun the same command to resume, even after a kill; more --trials extend a sweep. Several machines:
docs/tuning.md. Then look at kspecsr tune-report.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--stage", f"{', '.join(STAGES)} or all", default="all")
    cli.add(p, "--data")
    cli.add(p, "--output", "folder of the sweeps (default: tuning_runs/<preset>)")
    cli.add(p, "--trials", "trials of each stage", type=cli.at_least(1), default=30)
    cli.add(p, "--algorithm", "how trials are chosen", choices=ALGORITHMS, default="hyperband")
    cli.add(
        p,
        "--preset",
        f"preset to start from: {', '.join(PRESETS)} or a file",
        default="default",
        metavar="NAME|FILE",
    )
    cli.add(p, "--upstream", "model with the earlier stages, for one stage alone", metavar="NAME|DIR")
    cli.add(p, "--show-axes", "print the search space, and exit", action="store_true")
    cli.add(p, "--export", "write the best preset so far, and exit", type=Path, metavar="FILE")
    space = p.add_argument_group("search space")
    cli.add(
        space,
        "--axes",
        "only these; the rest stays as in the preset",
        type=cli.columns_of,
        default=(),
        metavar="A,B,...",
    )
    cli.add(
        space,
        "--range",
        "other values of an axis",
        action="append",
        default=[],
        metavar="AXIS=LOW:HIGH|A,B,...",
    )
    budget = p.add_argument_group("budget of a trial")
    for name, least, default, text in (
        ("epochs", 1, None, "largest number of epochs (default: a third of the preset's)"),
        ("first-epochs", 1, 1, "epochs before any trial is stopped"),
        ("factor", None, 3, "hyperband: one of so many trials continues"),
        ("galaxies", 1, None, "galaxies in an epoch (default: the preset's)"),
        ("validation", 1, None, "galaxies that measure the goal (default: the preset's)"),
    ):
        kind = int if least is None else cli.at_least(least)
        cli.add(budget, f"--{name}", text, type=kind, default=default, metavar="N")
    run = p.add_argument_group("how to run")
    cli.add(run, "--seed", "random seed of proposals, weights and examples")
    cli.add(
        run,
        "--retrain",
        "train the best one at full budget (default: for all stages, not for a single one)",
        action=argparse.BooleanOptionalAction,
        default=None,
    )
    cli.add(run, "--retries", "repetitions of a killed trial", type=cli.at_least(0), default=2)
    cli.add(
        run,
        "--hours",
        "begin no trial of a stage after so many hours (default: no limit)",
        type=cli.above_zero,
        default=math.inf,
    )
    cli.add(run, "--workers", "processes that simulate")
    cli.add(
        run,
        "--lease",
        "a worker without a heartbeat for so long is lost",
        type=cli.above_zero,
        default=60.0,
        metavar="S",
    )


@cli.command("kspecsr tune", EXAMPLES, _options, interrupted=cli.RESUMES, extra="tuning")
def main(args: argparse.Namespace) -> None:
    """Search for better settings of the networks and their training."""
    with cli.interpreting_options():
        stages = _stages(args.stage)
        narrowed = _narrowed(args.range)
        spaces = {stage: search_space(stage, args.axes, narrowed) for stage in stages}
        if args.show_axes:
            for stage, axes in spaces.items():
                for axis in axes:
                    print(f"{stage:6} {axis.name:14} {axis.place:26} {axis.words}")
            return
        preset = load_preset(args.preset)
        output = args.output or Path("tuning_runs") / preset.name
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise ModuleNotFoundError(name=missing[0])
        if args.export is not None:
            _export(output, args)
            return
    _sweep(args, stages, narrowed, preset, output)


def _sweep(args: argparse.Namespace, stages: tuple[str, ...], narrowed, preset, output: Path) -> None:
    with cli.suppress_startup_stderr():  # TensorFlow is loaded here
        from kspecsr.feeds.choice import choose_data
        from kspecsr.model_settings import find_model
        from tuning.role import role_from
        from tuning.sweep import run_plan
        from tuning.sweep_plan import SweepPlan, check_plan

    with cli.interpreting_options():
        role = role_from()
        choice = choose_data(args.data)
        plan = SweepPlan(
            preset=preset,
            stages=stages,
            output=output,
            data=choice.directory,
            upstream=args.upstream and find_model(args.upstream),
            axes=args.axes,
            narrowed=narrowed,
            trials=args.trials,
            budget={
                "algorithm": args.algorithm,
                "epochs": args.epochs,
                "first_epochs": args.first_epochs,
                "factor": args.factor,
                "galaxies": args.galaxies,
                "validation": args.validation,
                "seed": args.seed,
            },
            retrain=len(stages) > 1 if args.retrain is None else args.retrain,
            retries=args.retries,
            workers=args.workers,
            lease=args.lease,
            hours=args.hours,
        )
        check_plan(plan)
    cli.say(choice.reason)
    cli.say(f"output: {output}{'' if args.output else ' (--output says otherwise)'}")
    run_plan(plan, role, cli.say)
    if not role.is_worker:
        cli.say(f"look at it with: kspecsr tune-report {output}")
        cli.say(f"take the best: kspecsr tune --output {output} --export best.json")


def _stages(stage: str) -> tuple[str, ...]:
    if stage == "all":
        return STAGES
    if stage not in SPACES:
        raise ValueError(f"--stage {stage!r} is unknown; expected one of {', '.join(STAGES)}, all")
    return (stage,)


def _narrowed(given: list[str]) -> dict[str, str]:
    narrowed = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise ValueError(f"--range {text!r}: expected AXIS=LOW:HIGH or AXIS=A,B,...")
        narrowed[name.strip()] = values.strip()
    return narrowed


def _export(output: Path, args: argparse.Namespace) -> None:
    from tuning.study import StudyError, best_preset, studies, write_preset

    found = studies(output)
    if not found:
        raise StudyError(f"{output}: holds no sweep; expected a folder that kspecsr tune wrote (--output)")
    stages = [stage for stage in found if args.stage in ("all", stage)]
    if not stages:
        raise StudyError(f"{output}: holds no sweep of {args.stage}, only of {', '.join(found)}")
    if args.stage == "all":
        stages = [stage for stage in stages if _has_best(output, stage)] or stages
    preset = best_preset(output, stages)
    write_preset(preset, args.export)
    print(f"{args.export}: best of {', '.join(stages)}; train it with")
    print(f"kspecsr train --preset {args.export}")


def _has_best(output: Path, stage: str) -> bool:
    from tuning.study import read_study, study_records
    from tuning.trial_record import best_of

    return best_of(study_records(output, read_study(output, stage))) is not None


if __name__ == "__main__":
    sys.exit(main())
