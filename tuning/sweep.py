"""Sweeps, one stage after the other, each on the best networks before it."""

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import grpc
from tqdm import tqdm

from kspecsr.configuration import STAGES
from kspecsr.model_folder import copy_stage
from kspecsr.model_settings import read_settings, stage_hash, stage_path
from kspecsr.training.output_folder import only_run
from tuning.oracle import SweepOracle
from tuning.proposals import Proposals
from tuning.role import Role
from tuning.space import values_of
from tuning.study import (
    BEST_MODEL,
    FINISHED_FILE,
    RETRAINED_FILE,
    STUDY_FILE,
    StudyError,
    SweepSettings,
    best_preset,
    check_same_study,
    read_json,
    read_study,
    stage_folder,
    study_records,
    trial_folder,
    write_json,
    write_preset,
    write_study,
)
from tuning.sweep_plan import SweepPlan, settings_of
from tuning.tensorboard_log import FOLDER, log_trial
from tuning.trial_process import TrialJob, TrialProcess
from tuning.trial_record import FAILED, best_of
from tuning.trial_training import train_job
from tuning.tuner import SweepTuner

_POLL = 2.0  # seconds between two looks of a worker that waits for its chief

Say = Callable[[str], None]


def run_plan(plan: SweepPlan, role: Role, say: Say = print) -> None:
    """Sweep all stages of a plan, continuing where an earlier start was stopped.

    Args:
        plan: what the user asks for.
        role: role of this process.
        say: called with each line of text.

    Raises:
        StudyError: if a stage has no trial with a finite goal.
        OSError: for a folder or an address in use.
    """
    if role.is_chief:
        role.check_address()
    for stage in plan.stages:
        if role.is_worker:
            _work(plan, stage, role, say)
            continue
        settings, upstream = settings_of(plan, stage)
        check_same_study(settings, plan.output)
        retrained = stage_folder(plan.output, stage) / RETRAINED_FILE
        if plan.retrain and retrained.is_file():
            say(f"{stage}: finished before ({read_json(retrained)['name']})")
            continue
        _sweep(plan, settings, upstream, role, say)
        if plan.retrain:
            with TrialProcess(train_job) as process:
                retrain_best(plan, settings, upstream, process, say)


def _sweep(plan: SweepPlan, settings: SweepSettings, upstream: Path | None, role: Role, say: Say) -> None:
    """Sweep a stage, alone or as a chief."""
    stage, folder = settings.stage, stage_folder(plan.output, settings.stage)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(only_run(folder))
        (folder / FINISHED_FILE).unlink(missing_ok=True)
        write_study(settings, plan.output, plan.trials)
        process = stack.enter_context(TrialProcess(train_job))
        bar = tqdm(total=plan.trials, desc=stage, unit="trial", disable=None, leave=False)
        stack.enter_context(bar)
        oracle = _oracle(plan, settings, role, say)
        tuner = SweepTuner(plan, settings, upstream, oracle, process, _above(bar, say))
        done = sum(record.finished for record in oracle.records())
        bar.update(done)
        say(
            f"{stage}: {done} of {plan.trials} trials done; {settings.algorithm}, {len(settings.axes)} axes, "
            f"up to {settings.epochs} epochs of {settings.galaxies} galaxies"
        )
        if role.is_chief:
            say(f"{stage}: chief at {role.address}, waiting for workers")
        try:
            with oracle.watching_workers() if role.is_chief else nullcontext():
                tuner.search()
        except KeyboardInterrupt:
            oracle.forgive(role.name)
            raise
        _conclude(plan, settings, oracle, say)


def _work(plan: SweepPlan, stage: str, role: Role, say: Say) -> None:
    """A worker's part: wait for the chief's study, then run trials until there are no more."""
    folder = stage_folder(plan.output, stage)
    if not (folder / STUDY_FILE).is_file():
        say(f"{role.name}: waits for the chief to begin {stage} in {plan.output}")
    while not (folder / STUDY_FILE).is_file():
        time.sleep(_POLL)
    if (folder / FINISHED_FILE).is_file():
        say(f"{role.name}: {stage} is finished")
        return
    settings = read_study(plan.output, stage)
    wanted, upstream = settings_of(plan, stage)
    check_same_study(wanted, plan.output)
    with TrialProcess(train_job) as process:
        oracle = _oracle(plan, settings, role, say)
        tuner = SweepTuner(plan, settings, upstream, oracle, process, say)
        say(f"{role.name}: {stage}, chief at {role.address}")
        try:
            tuner.search()
        except grpc.RpcError as error:
            raise StudyError(
                f"{role.name}: the chief at {role.address} does not answer ({error.code().name}); start it "
                "again, then this worker"
            ) from None


def _oracle(plan: SweepPlan, settings: SweepSettings, role: Role, say: Say) -> SweepOracle:
    proposals = Proposals(
        settings.axes,
        settings.algorithm,
        settings.seed,
        values_of(settings.preset, settings.stage, settings.axes),
        settings.epochs,
        settings.first_epochs,
        settings.factor,
    )
    lease, seconds = plan.lease if role.is_chief else 0.0, 3600.0 * plan.hours
    return SweepOracle(
        settings.axes, proposals, settings.epochs, plan.trials, plan.retries, lease, seconds, say
    )


def _above(bar: tqdm, say: Say) -> Say:
    """Lines above the bar, which advances with each line about a trial that has ended."""

    def line(text: str) -> None:
        bar.clear()
        say(text)
        if " epochs, " in text:
            bar.update()

    return line


def _conclude(plan: SweepPlan, settings: SweepSettings, oracle: SweepOracle, say: Say) -> None:
    """Write and say what a sweep has found.

    Raises:
        StudyError: if all trials failed, or none has a finite goal.
    """
    stage, folder, records = settings.stage, stage_folder(plan.output, settings.stage), oracle.records()
    for record in records:
        if record.finished and not (folder / FOLDER / record.name).is_dir():
            log_trial(folder, settings.axes, record)  # its process was killed before it could
    failures = sum(record.state == FAILED for record in records)
    if oracle.ended.startswith("the last"):
        errors = trial_folder(plan.output, stage, records[-1].name) / "errors.txt"
        raise StudyError(f"{stage}: {oracle.ended}, so the sweep ends; see {errors}")
    best = best_of(records)
    if best is None:
        raise StudyError(
            f"{stage}: none of {len(records)} trials has a finite goal ({failures} failed); see errors.txt "
            "and log.txt in their folders"
        )
    content = {
        "ended": oracle.ended,
        "trials": len(records),
        "failed": failures,
        "best": best.name,
        "goal": best.goal,
    }
    write_json(folder / FINISHED_FILE, content)
    write_preset(best_preset(plan.output, (stage,)), folder / "best_preset.json")
    say(
        f"{stage}: {oracle.ended}; {len(records)} trials, {failures} failed; best trial {best.name}, "
        f"goal {best.goal:.4f}"
    )


def retrain_best(
    plan: SweepPlan, settings: SweepSettings, upstream: Path | None, process: TrialProcess, say: Say
) -> None:
    """Train the best configuration at full budget, into the studies' own model folder.

    Args:
        plan: what the user asks for.
        settings: settings of the sweep.
        upstream: model folder with the earlier stages.
        process: process that trains.
        say: called with each line of text.

    Raises:
        TrialError: if the training does not come to its end; the same command continues it.
    """
    stage, model = settings.stage, plan.output / BEST_MODEL
    folder = stage_folder(plan.output, stage)
    best = best_of(study_records(plan.output, settings))
    preset = settings.full_preset(dict(best.values), plan.output.name)
    epochs, run = preset.training[stage].epochs, folder / f"retrained_{best.name}"
    say(f"{stage}: trial {best.name} is trained again at full budget, {epochs} epochs")
    job = TrialJob(
        stage, preset.to_json(), plan.data, run, upstream, settings.seed, plan.workers, run / "log.txt"
    )
    with tqdm(total=epochs, desc=f"{stage} best", unit="epoch", disable=None, leave=False) as bar:
        outcome = process.run(job, lambda epoch, goal: bar.update() and False)
    if upstream is not None and upstream != model:
        for earlier in STAGES[: STAGES.index(stage)]:
            if not stage_path(model, earlier).is_file():
                copy_stage(upstream, model, earlier, preset, read_settings(upstream).stages.get(earlier, {}))
    copy_stage(run, model, stage, preset, read_settings(run).stages[stage])
    content = {
        "name": f"{plan.output.name} {stage} trial {best.name}, retrained",
        "trial": best.name,
        "values": dict(best.values),
        "goal_of_the_trial": best.goal,
        "goal": outcome["goal"],
        "metrics": outcome["metrics"],
        "epochs": outcome["epochs"],
        "sha256": stage_hash(model, stage),
    }
    write_json(folder / RETRAINED_FILE, content)
    say(
        f"{stage}: best at full budget: goal {outcome['goal']:.4f}, in {model} "
        f"(SHA-256 {content['sha256'][:12]})"
    )
