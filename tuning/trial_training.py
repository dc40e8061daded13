"""What a trial's process does: the stage's own training, with a word after each epoch."""

from __future__ import annotations

import csv
import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras

from data_pipeline.quiet_start import held_back_stderr
from kspecsr.configuration import Preset
from kspecsr.training.data import TrainingData
from kspecsr.training.devices import find_devices
from kspecsr.training.options import TrainingOptions
from kspecsr.training.stage import train_stage
from kspecsr.training.state import Progress, read_progress
from tuning.trial_process import TrialJob
from tuning.trial_record import OBJECTIVE


def train_job(job: TrialJob, after_epoch: Callable[[int, float], bool]) -> dict[str, Any]:
    """Trains a stage, or goes on with it.

    Epochs that an interrupted start has left are told first: whoever asks may not have heard of them.

    Args:
        job: what.
        after_epoch: called with epoch and goal; True stops the training for now.

    Returns:
        Best goal, its epoch and metrics, epochs, seconds and SHA-256 of the stages before it.
    """
    with held_back_stderr():
        find_devices()
    keras.backend.clear_session()
    gc.collect()
    preset = Preset.from_json(job.preset)
    folder = job.folder / job.stage
    before = read_progress(folder / "state.npz")
    if before is not None and _told(folder / "history.csv", before.epoch, after_epoch):
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
        result = train_stage(
            job.stage, preset, data, job.folder, options, partial(print, file=log, flush=True)
        )
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


def _told(path: Path, until: int, after_epoch: Callable[[int, float], bool]) -> bool:
    """Tells the epochs that are in the state; whether the last of them is to be the last one."""
    stop = False
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(float(row["epoch"])) <= until:
                    stop = after_epoch(int(float(row["epoch"])), float(row[OBJECTIVE]))
    return stop
