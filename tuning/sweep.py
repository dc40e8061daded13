"""Sweeps, one stage after the other, each on the best ones before it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from kspecsr.configuration import STAGES, Preset
from kspecsr.model_folder import copy_stage, read_settings, stage_hash, stage_path
from kspecsr.training.data import TrainingData
from kspecsr.training.output_folder import only_run
from tuning.chief import serve
from tuning.export import best_preset, write_preset
from tuning.leases import LostWorkers, SignOfLife
from tuning.oracle import SweepOracle
from tuning.proposals import Proposals
from tuning.role import Role
from tuning.space import check_space, search_space, values_of
from tuning.study_folder import (
    BEST_MODEL,
    FINISHED_FILE,
    RETRAINED_FILE,
    STUDY_FILE,
    StudyError,
    check_output,
    check_same_study,
    read_json,
    read_study,
    study_records,
    write_json,
    write_study,
)
from tuning.sweep_settings import SweepSettings, preset_galaxies, reduced_epochs, stage_folder
from tuning.tensorboard_log import FOLDER, log_trial
from tuning.trial_process import TrialJob, TrialProcess
from tuning.trial_record import FAILED, TrialRecord, best_of
from tuning.trial_training import train_job
from tuning.tuner import SweepTuner
from tuning.upstream import adopt, described, upstream_folder

_POLL = 2.0  # seconds between two looks of a worker that waits for its chief


@dataclass(frozen=True)
class SweepPlan:
    """What is asked for.

    Attributes:
        preset: that everything starts from.
        stages: in their order.
        output: folder of the studies.
        data: record directory; None for fresh simulation.
        upstream: model with earlier stages, where the output's own best is not meant.
        axes: names; none for all.
        narrowed: axis to other values.
        trials: per stage.
        budget: of `SweepSettings`, where it is not the default.
        retrain: train the best configuration of each stage at full budget.
        retries: of a trial.
        workers: processes that simulate.
        lease: seconds after which a silent worker counts as lost.
        hours: after which a stage hands out no new trial.
    """

    preset: Preset
    stages: tuple[str, ...]
    output: Path
    data: Path | None
    upstream: Path | None
    axes: tuple[str, ...]
    narrowed: dict[str, str]
    trials: int
    budget: dict
    retrain: bool
    retries: int = 2
    workers: int = 1
    lease: float = 60.0
    hours: float = float("inf")


Say = Callable[[str], None]


def settings_of(plan: SweepPlan, stage: str) -> tuple[SweepSettings, Path | None]:
    """Settings of a stage's sweep, and the model folder with the stages before it.

    Raises:
        AxisError: for a bad axis.
        StudyError: for a missing upstream stage.
        ModelFolderError: for one that does not fit.
        ValueError: for data on another grid, or a bad budget.
    """
    folder = upstream_folder(stage, plan.output, plan.upstream)
    preset = adopt(plan.preset, stage, folder)
    axes = search_space(stage, plan.axes, plan.narrowed)
    budget = {
        "epochs": reduced_epochs(preset, stage),
        "galaxies": preset_galaxies(preset, stage),
        "validation": preset.training[stage].validation_size,
        **{name: value for name, value in plan.budget.items() if value is not None},
    }
    budget["first_epochs"] = min(budget.get("first_epochs", 1), budget["epochs"])
    settings = SweepSettings(
        stage=stage,
        preset=preset,
        axes=axes,
        upstream=described(stage, plan.output, folder),
        data=_data_description(plan, preset, stage, budget),
        **budget,
    )
    check_space(preset, stage, axes)
    return settings, folder


def _data_description(plan: SweepPlan, preset: Preset, stage: str, budget: dict) -> dict:
    """What the examples are; reads one of the galaxies that judge, so that nothing is missing later."""
    data = TrainingData(plan.data, preset.feed, preset.model.grid, budget.get("seed", 0), workers=0)
    if plan.data is not None:
        data.validation(stage, 1)
    with data.open(stage, preset.training[stage].batch_size) as feed:
        return feed.description


def check_plan(plan: SweepPlan) -> None:
    """Refuses what cannot be swept, before the first trial.

    Raises:
        Everything that `settings_of` does, and StudyError for a folder that is another study's or none.
    """
    check_output(plan.output)
    for stage in STAGES:
        if stage in plan.stages:
            search_space(stage, plan.axes, plan.narrowed)
    settings, _ = settings_of(plan, plan.stages[0])
    check_same_study(settings, plan.output)
    for stage in plan.stages[1:]:
        check_space(plan.preset, stage, search_space(stage, plan.axes, plan.narrowed))


def run_plan(plan: SweepPlan, role: Role, say: Say = print) -> None:
    """Sweeps all stages of a plan; goes on where an earlier start was stopped.

    Raises:
        StudyError: if a stage has no trial that may be chosen.
        OSError: for a folder or an address in use.
    """
    for stage in plan.stages:
        if role.is_worker:
            _work(plan, stage, role, say)
            continue
        settings, folder = settings_of(plan, stage)
        check_same_study(settings, plan.output)
        own = stage_folder(plan.output, stage)
        if plan.retrain and (own / RETRAINED_FILE).is_file():
            say(f"{stage}: finished before ({read_json(own / RETRAINED_FILE)['name']})")
            continue
        _sweep(plan, settings, folder, role, say)
        if plan.retrain:
            _retrain(plan, settings, folder, say)


def _sweep(plan: SweepPlan, settings: SweepSettings, folder: Path | None, role: Role, say: Say) -> None:
    stage, own = settings.stage, stage_folder(plan.output, settings.stage)
    own.mkdir(parents=True, exist_ok=True)
    lost = LostWorkers(own, plan.lease) if role.is_chief else None
    with ExitStack() as stack:
        stack.enter_context(only_run(own))
        (own / FINISHED_FILE).unlink(missing_ok=True)
        write_study(settings, plan.output, plan.trials)
        process = stack.enter_context(TrialProcess(train_job))
        bar = stack.enter_context(
            tqdm(total=plan.trials, desc=stage, unit="trial", disable=None, leave=False)
        )
        oracle = _oracle(plan, settings, lost, say)
        tuner = SweepTuner(
            settings, oracle, plan.output, process, plan.data, folder, plan.workers, _above(bar, say)
        )
        if not role.is_chief:
            oracle.take_over(role.name)
        records = oracle.records()
        done = sum(record.finished for record in records)
        bar.update(done)
        say(f"{stage}: {done} of {plan.trials} trials done; {_budget_words(settings)}")
        try:
            if role.is_chief:
                say(f"{stage}: chief at {role.address}, waiting for workers")
                serve(oracle, role.address)
            else:
                tuner.search()
        except KeyboardInterrupt:
            oracle.forgive(role.name)
            raise
        records = oracle.records()
        _log_missing(own, settings, records)
        _conclude(plan, settings, records, oracle.ended, say)


def _oracle(plan: SweepPlan, settings: SweepSettings, lost: LostWorkers | None, say: Say) -> SweepOracle:
    proposals = Proposals(
        settings.axes,
        settings.algorithm,
        settings.seed,
        values_of(settings.preset, settings.stage, settings.axes),
        settings.epochs,
        settings.first_epochs,
        settings.factor,
    )
    return SweepOracle(
        settings.axes, proposals, settings.epochs, plan.trials, plan.retries, lost, 3600.0 * plan.hours, say
    )


def _above(bar: tqdm, say: Say) -> Say:
    """Lines above the bar, which counts them: one is a trial that has ended."""

    def line(text: str) -> None:
        bar.clear()
        say(text)
        if " epochs, " in text:
            bar.update()

    return line


def _budget_words(settings: SweepSettings) -> str:
    return (
        f"{settings.algorithm}, {len(settings.axes)} axes, up to {settings.epochs} epochs of "
        f"{settings.galaxies} galaxies"
    )


def _log_missing(own: Path, settings: SweepSettings, records: list[TrialRecord]) -> None:
    for record in records:
        if record.finished and not (own / FOLDER / record.name).is_dir():
            log_trial(own, settings.axes, record)


def _conclude(
    plan: SweepPlan, settings: SweepSettings, records: list[TrialRecord], ended: str, say: Say
) -> None:
    stage, best = settings.stage, best_of(records)
    failures = sum(record.state == FAILED for record in records)
    if ended.startswith("the last"):
        last = stage_folder(plan.output, stage) / f"trial_{records[-1].name}" / "errors.txt"
        raise StudyError(f"{stage}: {ended}, so the sweep ends; see {last}")
    if best is None:
        raise StudyError(
            f"{stage}: none of {len(records)} trials has a finite goal ({failures} failed); see errors.txt "
            "and log.txt in their folders"
        )
    content = {
        "ended": ended,
        "trials": len(records),
        "failed": failures,
        "best": best.name,
        "goal": best.goal,
    }
    write_json(stage_folder(plan.output, stage) / FINISHED_FILE, content)
    write_preset(best_preset(plan.output, (stage,)), stage_folder(plan.output, stage) / "best_preset.json")
    say(
        f"{stage}: {ended}; {len(records)} trials, {failures} failed; best trial {best.name}, "
        f"goal {best.goal:.4f}"
    )


def _retrain(plan: SweepPlan, settings: SweepSettings, folder: Path | None, say: Say) -> None:
    """Trains the best configuration at full budget, into the studies' own model folder."""
    stage, own, model = settings.stage, stage_folder(plan.output, settings.stage), plan.output / BEST_MODEL
    best = best_of(study_records(plan.output, settings))
    name = f"{plan.output.name} {stage} trial {best.name}, retrained"
    preset = settings.full_preset(dict(best.values), plan.output.name)
    run = own / f"retrained_{best.name}"
    say(f"{stage}: trial {best.name} is trained again at full budget, {preset.training[stage].epochs} epochs")
    with TrialProcess(train_job) as process:
        job = TrialJob(
            stage, preset.to_json(), plan.data, run, folder, settings.seed, plan.workers, run / "log.txt"
        )
        bar = tqdm(
            total=preset.training[stage].epochs, desc=f"{stage} best", unit="epoch", disable=None, leave=False
        )
        with bar:
            outcome = process.run(job, lambda epoch, goal: bar.update() and False)
    if folder is not None and folder != model:
        for earlier in STAGES[: STAGES.index(stage)]:
            if not stage_path(model, earlier).is_file():
                entry = read_settings(folder).stages.get(earlier, {})
                copy_stage(folder, model, earlier, preset, entry)
    copy_stage(run, model, stage, preset, read_settings(run).stages[stage])
    content = {
        "name": name,
        "trial": best.name,
        "values": dict(best.values),
        "goal_of_the_trial": best.goal,
        "goal": outcome["goal"],
        "metrics": outcome["metrics"],
        "epochs": outcome["epochs"],
        "sha256": stage_hash(model, stage),
    }
    write_json(own / RETRAINED_FILE, content)
    say(
        f"{stage}: best at full budget: goal {outcome['goal']:.4f}, in {model} "
        f"(SHA-256 {content['sha256'][:12]})"
    )


def _work(plan: SweepPlan, stage: str, role: Role, say: Say) -> None:
    """A worker's part: waits for the chief's study, then runs trials until there are no more."""
    own = stage_folder(plan.output, stage)
    told = False
    while not (own / STUDY_FILE).is_file():
        if not told:
            say(f"{role.name}: waits for the chief to begin {stage} in {plan.output}")
            told = True
        time.sleep(_POLL)
    if (own / FINISHED_FILE).is_file():
        say(f"{role.name}: {stage} is finished")
        return
    settings = read_study(plan.output, stage)
    wanted, folder = settings_of(plan, stage)
    check_same_study(wanted, plan.output)
    with SignOfLife(own, role.name, plan.lease), TrialProcess(train_job) as process:
        oracle = _oracle(plan, settings, None, say)
        tuner = SweepTuner(settings, oracle, plan.output, process, plan.data, folder, plan.workers, say)
        say(f"{role.name}: {stage}, chief at {role.address}")
        tuner.search()
