"""Command line of the sweeps: ``python -m tuning.run``."""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.quiet_start import held_back_stderr
from kspecsr.configuration import PRESETS, STAGES, load_preset
from tuning.chief import Role, role_from
from tuning.space import SPACES, search_space
from tuning.sweep_settings import ALGORITHMS

if TYPE_CHECKING:
    from tuning.sweep_plan import SweepPlan

_NEEDED = ("keras_tuner", "optuna", "tensorboard", "sklearn", "plotly")
_EXAMPLES = """examples:
  # three sweeps, one after the other: SR1, then ZHead on the best SR1, then SR2 on both
  python -m tuning.run
  # a night on a laptop with two cores: 30 configurations of SR1, most of them stopped early
  python -m tuning.run --stage sr1 --trials 30 --output tuning_runs/night
  # the same within an hour: shorter epochs
  python -m tuning.run --stage sr1 --algorithm hyperband --trials 30 --galaxies 640 --output tuning_runs/night
  # ZHead on the SR1 that ships; three axes only, one of them over a range of your own
  python -m tuning.run --stage zhead --upstream saved_models/default --axes learning_rate,dropout,width
      --range learning_rate=1e-4:1e-2
  # what was found so far, as a preset, and a training with it
  python -m tuning.run --output tuning_runs/night --export best.json
  python -m kspecsr.train --preset best.json

The same command goes on where it was stopped, also killed; more --trials extend a sweep. Several machines:
docs/tuning.md. Then look at python -m tuning.report. Exit status: 0 done, 1 failed, 2 wrong options, 130
interrupted.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tuning.run",
        description="Searches for better settings of the stages' networks and training.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", default="all", help=f"{', '.join(STAGES)} or all (default: %(default)s)")
    parser.add_argument(
        "--data",
        metavar="DIR|simulation",
        help="records, or fresh simulation (default: records in data/ if there are some, else simulation)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: tuning_runs/<preset>")
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="per stage (default %(default)s)")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="hyperband", help="default: %(default)s")
    parser.add_argument(
        "--preset",
        default="default",
        metavar="NAME|FILE",
        help=f"to start from: {', '.join(PRESETS)} or a file",
    )
    parser.add_argument(
        "--upstream", type=Path, metavar="MODEL", help="the stages before, for one stage alone"
    )
    parser.add_argument("--show-axes", action="store_true", help="print the search space and leave")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the best preset so far and leave")
    space = parser.add_argument_group("search space")
    space.add_argument(
        "--axes", default="", metavar="A,B,...", help="these only; the rest stays as in the preset"
    )
    space.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="AXIS=LOW:HIGH|A,B,...",
        help="other values of an axis",
    )
    budget = parser.add_argument_group("budget of a trial")
    budget.add_argument(
        "--epochs", type=int, metavar="N", help="most epochs (default: a third of the preset's)"
    )
    budget.add_argument(
        "--first-epochs", type=int, default=1, metavar="N", help="before any is stopped (default 1)"
    )
    budget.add_argument("--factor", type=int, default=3, help="hyperband: one of so many goes on (default 3)")
    budget.add_argument("--galaxies", type=int, metavar="N", help="in an epoch (default: the preset's)")
    budget.add_argument(
        "--validation", type=int, metavar="N", help="that measure the goal (default: the preset's)"
    )
    run = parser.add_argument_group("how to run")
    run.add_argument(
        "--seed", type=int, default=0, help="of proposals, weights, examples (default %(default)s)"
    )
    run.add_argument(
        "--retrain",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="train the best one at full budget (default: for all stages, not for a single one)",
    )
    run.add_argument(
        "--retries", type=int, default=2, metavar="N", help="of a killed trial (default %(default)s)"
    )
    run.add_argument(
        "--hours", type=float, default=math.inf, metavar="X", help="no new trial of a stage after these"
    )
    run.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that simulate (default 1)"
    )
    run.add_argument(
        "--lease",
        type=float,
        default=60.0,
        metavar="S",
        help="a worker silent for so long is lost (default 60)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        stages = _stages(arguments.stage)
        narrowed = _narrowed(arguments.range)
        axes = tuple(name.strip() for name in arguments.axes.split(",") if name.strip())
        if arguments.show_axes:
            for stage in stages:
                for axis in search_space(stage, axes, narrowed):
                    print(f"{stage:6} {axis.name:14} {axis.place:26} {axis.words}")
            return 0
        _check_numbers(arguments)
        preset = load_preset(arguments.preset)
        for stage in stages:
            search_space(stage, axes, narrowed)
        role = role_from()
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} not installed; sweeps need pip install -c constraints.txt '.[tuning]'"
            )
        output = arguments.output or Path("tuning_runs") / preset.name
        if arguments.export is not None:
            return _export(output, arguments)
        with held_back_stderr():
            from kspecsr.feeds.choice import choose_data
            from tuning.sweep_plan import SweepPlan, check_plan

        choice = choose_data(arguments.data)
        plan = SweepPlan(
            preset=preset,
            stages=stages,
            output=output,
            data=choice.directory,
            upstream=arguments.upstream,
            axes=axes,
            narrowed=narrowed,
            trials=arguments.trials,
            budget={
                "algorithm": arguments.algorithm,
                "epochs": arguments.epochs,
                "first_epochs": arguments.first_epochs,
                "factor": arguments.factor,
                "galaxies": arguments.galaxies,
                "validation": arguments.validation,
                "seed": arguments.seed,
            },
            retrain=len(stages) > 1 if arguments.retrain is None else arguments.retrain,
            retries=arguments.retries,
            workers=arguments.workers,
            lease=arguments.lease,
            hours=arguments.hours,
        )
        check_plan(plan)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(choice.reason)
    print(f"output: {output}{'' if arguments.output else ' (--output says otherwise)'}", flush=True)
    return _run(plan, role)


def _run(plan: SweepPlan, role: Role) -> int:
    with held_back_stderr():  # TensorFlow is loaded here
        from tuning.sweep import run_plan
        from tuning.trial_process import TrialError

    try:
        run_plan(plan, role, _say)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the same command goes on after the last finished epoch in {plan.output}",
            file=sys.stderr,
        )
        return 130
    except (OSError, ValueError, TrialError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not role.is_worker:
        print(f"look at it with: python -m tuning.report {plan.output}")
        print(f"take the best: python -m tuning.run --output {plan.output} --export best.json", flush=True)
    return 0


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


def _check_numbers(arguments: argparse.Namespace) -> None:
    least = {"trials": 1, "retries": 0, "workers": 0, "seed": 0}
    for name in ("epochs", "first_epochs", "galaxies", "validation"):
        if getattr(arguments, name) is not None:
            least[name] = 1
    for name, low in least.items():
        if getattr(arguments, name) < low:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected {low} or more, got {getattr(arguments, name)}")
    for name in ("hours", "lease"):
        if not getattr(arguments, name) > 0:
            raise ValueError(f"--{name}: expected a positive number, got {getattr(arguments, name)}")


def _export(output: Path, arguments: argparse.Namespace) -> int:
    from tuning.study_folder import StudyError, best_preset, studies, write_preset

    found = studies(output)
    if not found:
        raise StudyError(
            f"{output}: holds no sweep; expected a folder that python -m tuning.run wrote (--output)"
        )
    stages = [stage for stage in found if arguments.stage in ("all", stage)]
    if not stages:
        raise StudyError(f"{output}: holds no sweep of {arguments.stage}, only of {', '.join(found)}")
    if arguments.stage == "all":
        stages = [stage for stage in stages if _has_best(output, stage)] or stages
    preset = best_preset(output, stages)
    write_preset(preset, arguments.export)
    print(f"{arguments.export}: best of {', '.join(stages)}; train it with")
    print(f"python -m kspecsr.train --preset {arguments.export}")
    return 0


def _has_best(output: Path, stage: str) -> bool:
    from tuning.study_folder import read_study, study_records
    from tuning.trial_record import best_of

    return best_of(study_records(output, read_study(output, stage))) is not None


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
