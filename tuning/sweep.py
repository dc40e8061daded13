"""Sweeps, one stage after the other, each on the best ones before it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
from tqdm import tqdm

from kspecsr.training.output_folder import only_run
from tuning.chief import Role, serve
from tuning.leases import LostWorkers, SignOfLife
from tuning.oracle import SweepOracle
from tuning.proposals import Proposals
from tuning.retraining import retrain_best
from tuning.space import values_of
from tuning.study_folder import (
    FINISHED_FILE,
    RETRAINED_FILE,
    STUDY_FILE,
    StudyError,
    best_preset,
    check_same_study,
    read_json,
    read_study,
    write_json,
    write_preset,
    write_study,
)
from tuning.sweep_plan import SweepPlan, settings_of
from tuning.sweep_settings import SweepSettings, stage_folder
from tuning.tensorboard_log import FOLDER, log_trial
from tuning.trial_process import TrialProcess, train_job
from tuning.trial_record import FAILED, TrialRecord, best_of
from tuning.tuner import SweepTuner

_POLL = 2.0  # seconds between two looks of a worker that waits for its chief


Say = Callable[[str], None]


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
            with TrialProcess(train_job) as process:
                retrain_best(plan, settings, folder, process, say)


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
        try:
            tuner.search()
        except grpc.RpcError as error:
            raise StudyError(
                f"{role.name}: the chief at {role.address} does not answer ({error.code().name}); start it "
                "again, then this worker"
            ) from None
