"""A trial in a process of its own: whatever kills it kills nothing else, and its memory goes with it."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data_pipeline.command_line import suppress_startup_stderr
from data_pipeline.workers import prepare_worker

# TensorFlow never gives back the memory of its graphs; to start it anew costs seconds, a trial minutes.
_TRIALS = 8  # trials in one process before a fresh one takes over
_PATIENCE = 10.0  # seconds that a process has to end by itself
_SHOWN = 1500  # characters of an error's end that are kept


class TrialError(RuntimeError):
    """A trial that did not come to its end; the text says what happened."""


@dataclass(frozen=True)
class TrialJob:
    """A stage's training.

    Attributes:
        stage: name of the stage.
        preset: preset as JSON text.
        data: record directory; None for fresh simulation.
        folder: model folder that is trained into, or continued.
        upstream: model folder with the earlier stages.
        seed: seed of weights and examples.
        workers: number of processes that simulate.
        log: file for the lines of the training.
    """

    stage: str
    preset: str
    data: Path | None
    folder: Path
    upstream: Path | None
    seed: int
    workers: int
    log: Path


AfterEpoch = Callable[[int, float], bool]  # takes epoch and goal; True stops the trial
Train = Callable[[TrialJob, AfterEpoch], dict[str, Any]]  # returns the outcome


class TrialProcess:
    """Runs jobs in another process, one after the other; a context that ends the process.

    Args:
        train: function of a module that trains a job.
    """

    def __init__(self, train: Train):
        self._train = train
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._done = 0

    def run(
        self,
        job: TrialJob,
        after_epoch: AfterEpoch,
        while_waiting: Callable[[], object] = bool,
        pause: float | None = None,
    ) -> dict[str, Any]:
        """Train a job and return its outcome.

        Args:
            job: training.
            after_epoch: called with epoch and goal; True stops the trial.
            while_waiting: called again and again while the job runs.
            pause: seconds between two such calls; None for no calls.

        Raises:
            TrialError: for whatever went wrong in the process, its death included.
        """
        self._begin()
        try:
            message: TrialJob | bool = job
            while True:
                self._connection.send(message)
                while not self._connection.poll(pause):
                    while_waiting()
                kind, content = self._connection.recv()
                if kind != "epoch":
                    break
                message = after_epoch(*content)
        except (EOFError, ConnectionError) as error:
            raise TrialError(self._death()) from error
        except BaseException:
            self.close(at_once=True)
            raise
        if kind == "error":
            self.close(at_once=True)  # whatever it left in memory
            raise TrialError(content)
        self._done += 1
        return content

    def _begin(self) -> None:
        if self._done >= _TRIALS:
            self.close()
        if self._process is not None:
            return
        # A fork would copy TensorFlow's threads and locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        # by its name: a function itself would be imported, with TensorFlow, before its warnings are held back
        function = (self._train.__module__, self._train.__name__)
        self._process = context.Process(target=_serve, args=(other, *function))
        self._process.start()
        # The parent's copy, or a dead child would leave the pipe open and the parent waiting.
        other.close()
        self._done = 0

    def _death(self) -> str:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        self.close(at_once=True)
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"its process was ended by {name}{' (out of memory, or killed)' if code == -9 else ''}"
        return f"its process ended with status {code}"

    def close(self, at_once: bool = False) -> None:
        """End the process.

        Args:
            at_once: do not wait for what it is doing.
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

    def __enter__(self) -> TrialProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(at_once=error[0] is not None)


def _serve(connection: Connection, module: str, name: str) -> None:
    """Body of the process: train one job after the other."""
    prepare_worker()
    with suppress_startup_stderr():
        train: Train = getattr(importlib.import_module(module), name)  # seconds where it needs TensorFlow

    def after_epoch(epoch: int, goal: float) -> bool:
        connection.send(("epoch", (epoch, goal)))
        return connection.recv()

    while True:
        try:
            job = connection.recv()
            answer = ("done", train(job, after_epoch))
        except EOFError:  # the other side has closed the connection
            return
        except MemoryError:
            answer = ("error", "out of memory")
        except Exception as error:
            # Text only: an exception of TensorFlow holds graph nodes, which cannot be pickled.
            kind = type(error).__name__
            if kind == "ResourceExhaustedError":  # TensorFlow's, which need not be loaded here
                answer = ("error", f"out of memory: {str(error)[:200]}")
            else:
                answer = ("error", f"{kind}: {error}\n{traceback.format_exc()[-_SHOWN:]}")
        connection.send(answer)
