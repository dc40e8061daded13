"""Training of a trial: the stage's own, one epoch after the other under the eyes of the oracle."""

import csv
import gc
from functools import partial
from pathlib import Path
from typing import Any

import keras

from data_pipeline.command_line import suppress_startup_stderr
from kspecsr.configuration import Preset
from kspecsr.training.data import TrainingData
from kspecsr.training.devices import find_devices
from kspecsr.training.run_settings import TrainingOptions
from kspecsr.training.stage import train_stage
from kspecsr.training.state import Progress, read_progress
from tuning.trial_process import AfterEpoch, TrialJob
from tuning.trial_record import OBJECTIVE


def train_job(job: TrialJob, after_epoch: AfterEpoch) -> dict[str, Any]:
    """Train a stage, or continue its training.

    Epochs of an interrupted start are told first: the oracle may not have heard of them.

    Args:
        job: training.
        after_epoch: called with epoch and goal; True stops the training for now.

    Returns:
        Best goal, its epoch and metrics, number of epochs, seconds, and SHA-256 of the earlier stages.
    """
    with suppress_startup_stderr():
        find_devices()
    keras.backend.clear_session()
    gc.collect()
    preset = Preset.from_json(job.preset)
    folder = job.folder / job.stage
    before = read_progress(folder / "state.npz")
    if before is not None and _tell_epochs(folder / "history.csv", before.epoch, after_epoch):
        return _outcome(before)
    data = TrainingData(job.data, preset.feed, preset.model.grid, job.seed, job.workers)
    options = TrainingOptions(
        seed=job.seed,
        upstream=job.upstream,
        pictures=False,
        stop_after=lambda row: after_epoch(int(row["epoch"]), float(row[OBJECTIVE])),
    )
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a", encoding="utf-8") as log:
        report = partial(print, file=log, flush=True)
        result = train_stage(job.stage, preset, data, job.folder, options, report)
    return _outcome(result.progress)


def _outcome(progress: Progress) -> dict[str, Any]:
    return {
        "goal": progress.best_goal,
        "best_epoch": progress.best_epoch,
        "metrics": progress.best_metrics,
        "epochs": progress.epoch,
        "seconds": progress.seconds,
        "trained_on": dict(progress.settings.get("upstream", {})),
    }


def _tell_epochs(path: Path, last: int, after_epoch: AfterEpoch) -> bool:
    """Tell the epochs up to the last one of the state; returns whether the training is to stop after it."""
    stop = False
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(float(row["epoch"])) <= last:
                    stop = after_epoch(int(float(row["epoch"])), float(row[OBJECTIVE]))
    return stop
