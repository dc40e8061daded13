"""What happens after each epoch: measure, keep the best, write it all down, stop where nothing improves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from data_pipeline.pictures.style import save_picture
from kspecsr.feeds.example import Batch
from kspecsr.measures.goal import GoalReference, goal_metrics
from kspecsr.training.data import TimedBatches
from kspecsr.training.logs import TensorBoardScalars, append_history, epoch_line
from kspecsr.training.optimizer import skipped_steps
from kspecsr.training.pictures import draw_redshifts, draw_spectra, shown_rows
from kspecsr.training.state import Progress, save_state, training_variables


@dataclass(frozen=True)
class Judged:
    """The fixed galaxies and what is needed to measure on them.

    Attributes:
        x: inputs.
        y: targets.
        reference: cubic interpolation and line S/N of these galaxies.
        prism: (P,) wavelength [um].
        grid: (N,) wavelength [um].
        bins: (Z,) ln(1 + z) of the redshift distribution.
    """

    x: Batch
    y: Batch
    reference: GoalReference
    prism: np.ndarray
    grid: np.ndarray
    bins: np.ndarray


@dataclass(eq=False)
class EpochEnd(keras.callbacks.Callback):
    """Callback of the training loop.

    Attributes:
        stage: that is trained.
        folder: of the stage's logs, state and pictures.
        epochs: most epochs.
        batch_size: examples per step.
        patience: epochs without a better goal before the training stops; 0 never stops it.
        judged: fixed galaxies.
        batches: that the steps take.
        progress: so far; changed in place.
        best: weights of the stage's network after the best epoch so far; changed in place.
        publish: called with these when an epoch is the best so far, after the state is on disk.
        report: takes each line of text.
        pictures: draw one per epoch.
        stop_after: called with the row of each epoch at the very end; True ends the training for now.
    """

    stage: str
    folder: Path
    epochs: int
    batch_size: int
    patience: int
    judged: Judged
    batches: TimedBatches
    progress: Progress
    best: list[np.ndarray]
    publish: Callable[[list[np.ndarray], Progress], None]
    report: Callable[[str], None]
    pictures: bool = True
    stop_after: Callable[[Mapping[str, float]], bool] | None = None
    _begun: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._scalars = TensorBoardScalars(self.folder / "tensorboard", keras.backend.backend())
        self._rows = shown_rows(self.judged.x, self.judged.y)
        self._first_step = True  # of this process: it compiles

    def on_epoch_begin(self, epoch, logs=None):
        """Keras hook."""
        self._begun = []
        self._epoch_start = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        """Keras hook."""
        self._begun.append(time.perf_counter())
        self.batches.begin_step()

    def on_epoch_end(self, epoch, logs=None):
        """Keras hook."""
        now = time.perf_counter()
        outputs = {
            name: np.asarray(value, np.float32) if np.asarray(value).dtype.kind != "b" else np.asarray(value)
            for name, value in self.model.predict(
                self.judged.x, batch_size=self.batch_size, verbose=0
            ).items()
        }
        metrics = goal_metrics(self.stage, outputs, self.judged.y, self.judged.reference, self.judged.bins)
        row = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in (logs or {}).items()},
            **metrics,
            **self._speed(now),
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "skipped_steps": skipped_steps(self.model.optimizer),
        }
        progress = self.progress
        is_best = metrics["goal"] < progress.best_goal or progress.best_epoch == 0
        progress.epoch = epoch + 1
        if is_best:
            progress.best_goal, progress.best_epoch = metrics["goal"], epoch + 1
            progress.best_metrics = metrics
            self.best[:] = [np.array(weight) for weight in self.model.stage_network.get_weights()]
        if self.pictures:
            self._draw(outputs, epoch + 1)
        progress.seconds += time.perf_counter() - self._epoch_start
        row["seconds"] = progress.seconds
        append_history(self.folder / "history.csv", row)
        self._scalars.write(row)
        self.report(epoch_line(self.stage, row, self.epochs, is_best))
        self._decide()
        # Whatever an earlier line wrote is written again when the run is killed before this. What the model
        # folder holds follows the state: where the run is killed between the two, the next start mends it.
        save_state(self.folder / "state.npz", training_variables(self.model), progress, self.best)
        if is_best:
            self.publish(self.best, progress)
        if self.stop_after is not None and self.stop_after(row):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Keras hook."""
        self._scalars.close()

    def _speed(self, now: float) -> dict[str, float]:
        """Spectra per second and the share of waiting, without the first step of the process."""
        skip = 1 if self._first_step and len(self._begun) > 1 else 0
        self._first_step = False
        steps = len(self._begun) - skip
        seconds = max(now - self._begun[skip], 1e-9)
        wait = sum(self.batches.waits()[-steps:])
        return {"spectra_per_second": steps * self.batch_size / seconds, "input_wait": wait / seconds}

    def _decide(self) -> None:
        progress = self.progress
        if self.patience and progress.without_improvement >= self.patience:
            progress.stopped = f"no better goal for {progress.without_improvement} epochs"
            self.model.stop_training = True
        elif progress.epoch >= self.epochs:
            progress.stopped = f"all {self.epochs} epochs done"

    def _draw(self, outputs: Batch, epoch: int) -> None:
        judged, rows = self.judged, self._rows
        if self.stage == "zhead":
            figure = draw_redshifts(epoch, outputs, judged.y, rows, judged.bins)
        else:
            seen = (outputs, judged.x, judged.y, rows, judged.prism, judged.grid)
            figure = draw_spectra(self.stage, epoch, *seen)
        save_picture(figure, self.folder / "pictures" / f"epoch_{epoch:03d}.png")
