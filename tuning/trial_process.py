"""A trial in a process of its own: what kills it kills nothing else, and its memory goes with it."""

from __future__ import annotations

import csv
import gc
import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
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
from tuning.trial_record import OBJECTIVE

_TRIALS = 8  # in one process, before a fresh one takes over
_PATIENCE = 10.0  # seconds that a process has to end by itself
_SHOWN = 1500  # characters of an error's end that are kept


class TrialError(RuntimeError):
    """A trial that did not come to its end; the text says what happened."""


@dataclass(frozen=True)
class TrialJob:
    """What is to be trained.

    Attributes:
        stage: its name.
        preset: JSON of the preset.
        data: record directory; None for fresh simulation.
        folder: model folder that it is trained into, or goes on in.
        upstream: model folder with the stages before it.
        seed: of weights and examples.
        workers: processes that simulate.
        log: file that takes the lines of the training.
    """

    stage: str
    preset: str
    data: Path | None
    folder: Path
    upstream: Path | None
    seed: int
    workers: int
    log: Path


# trains a job; calls with epoch and goal after each epoch, which answers whether to stop; gives the outcome
Train = Callable[[TrialJob, Callable[[int, float], bool]], dict[str, Any]]


class TrialProcess:
    """Runs jobs, one after the other; a context that ends the process.

    Args:
        train: what is done with a job, a function of a module.
    """

    def __init__(self, train: Train):
        self._train = train
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._done = 0

    def run(self, job: TrialJob, after_epoch: Callable[[int, float], bool]) -> dict[str, Any]:
        """Trains a job.

        Args:
            job: what.
            after_epoch: called with epoch and goal; True stops the trial.

        Raises:
            TrialError: for whatever went wrong in the process, its death among it.
        """
        self._begin()
        try:
            kind, content = self._answer(job)
            while kind == "epoch":
                kind, content = self._answer(after_epoch(*content))
        except BaseException:
            self.close(at_once=True)
            raise
        if kind == "error":
            self.close(at_once=True)  # whatever it left in memory
            raise TrialError(content)
        self._done += 1
        return content

    def _answer(self, message: TrialJob | bool) -> tuple[str, Any]:
        try:
            self._connection.send(message)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise TrialError(self._death()) from error

    def _begin(self) -> None:
        if self._done >= _TRIALS:
            self.close()
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._train.__module__, self._train.__name__)
        )
        self._process.start()
        other.close()
        self._done = 0

    def _death(self) -> str:
        process = self._process
        process.join(_PATIENCE)
        code = process.exitcode
        self.close(at_once=True)
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"its process was ended by {name}{' (out of memory, or killed)' if code == -9 else ''}"
        return f"its process ended with status {code}"

    def close(self, at_once: bool = False) -> None:
        """Ends the process.

        Args:
            at_once: whatever it is doing.
        """
        if self._process is None:
            return
        self._connection.close()  # it reads the end of its input
        if at_once:
            self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = self._connection = None
        self._done = 0

    def __enter__(self) -> TrialProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(at_once=error[0] is not None)


def _serve(connection: Connection, module: str, name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the other one decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    with suppress_startup_stderr():
        train: Train = getattr(importlib.import_module(module), name)  # seconds where it needs TensorFlow

    def after_epoch(epoch: int, goal: float) -> bool:
        connection.send(("epoch", (epoch, goal)))
        return connection.recv()

    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", train(job, after_epoch))
        except EOFError:
            return
        except MemoryError:
            answer = ("error", "out of memory")
        except Exception as error:
            kind = type(error).__name__
            if kind == "ResourceExhaustedError":  # of TensorFlow, which need not be loaded here
                answer = ("error", f"out of memory: {str(error)[:200]}")
            else:
                answer = ("error", f"{kind}: {error}\n{traceback.format_exc()[-_SHOWN:]}")
        connection.send(answer)


def _leave_with_parent() -> None:
    """Ends this process when the other one is gone, even killed: nobody would take its results."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def train_job(job: TrialJob, after_epoch: Callable[[int, float], bool]) -> dict[str, Any]:
    """Trains a stage, or goes on with it.

    Epochs that an interrupted start has left are told first: whoever asks may not have heard of them.

    Args:
        job: what.
        after_epoch: called with epoch and goal; True stops the training for now.

    Returns:
        Best goal, its epoch and metrics, epochs, seconds and SHA-256 of the stages before it.
    """
    with suppress_startup_stderr():
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
