"""End of an epoch: measure the goal, keep the best weights, write logs and state, decide whether to stop."""

import time
from dataclasses import dataclass

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
from kspecsr.training.run_settings import StageRun
from kspecsr.training.state import Progress, PublishedStage, save_state, training_variables


@dataclass(frozen=True)
class Judged:
    """Fixed validation galaxies, and what is needed to measure the goal on them.

    Attributes:
        x: inputs, see `kspecsr.feeds.example.INPUTS`.
        y: targets, see `kspecsr.feeds.example.TARGETS`.
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


class EpochEnd(keras.callbacks.Callback):
    """Callback of the training loop; changes the progress and the best weights in place."""

    def __init__(
        self,
        run: StageRun,
        judged: Judged,
        batches: TimedBatches,
        progress: Progress,
        published: PublishedStage,
    ):
        super().__init__()
        self._run, self._judged, self._batches = run, judged, batches
        self._progress, self._published = progress, published
        self._scalars = TensorBoardScalars(run.folder / "tensorboard", keras.backend.backend())
        self._rows = shown_rows(judged.x, judged.y)
        self._begun: list[float] = []  # times at which the steps of this epoch began
        self._first_step = True  # of this process: it compiles

    def on_epoch_begin(self, epoch, logs=None):
        """Keras hook."""
        self._begun = []
        self._epoch_start = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        """Keras hook."""
        self._begun.append(time.perf_counter())
        self._batches.begin_step()

    def on_epoch_end(self, epoch, logs=None):
        """Keras hook."""
        run, progress, end = self._run, self._progress, time.perf_counter()
        # Before anything is written: an epoch whose goal cannot be measured is an epoch that is done again.
        outputs = self._outputs()
        judged = self._judged
        metrics = goal_metrics(run.stage, outputs, judged.y, judged.reference, judged.bins)
        row = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in (logs or {}).items()},
            **metrics,
            **self._speed(end),
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "skipped_steps": skipped_steps(self.model.optimizer),
        }
        progress.epoch = epoch + 1
        # The first epoch counts as best even with an infinite goal, so that there are weights to publish; and
        # the first of the last fifth. Before it, at a high learning rate, goals of a few hundred galaxies
        # scatter by more than epochs differ, and the luckiest is not the best.
        settled = run.config.epochs - run.config.epochs // 5 + 1
        is_best = metrics["goal"] < progress.best_goal or progress.best_epoch == 0
        is_best |= progress.best_epoch < settled <= epoch + 1
        if is_best:
            progress.best_goal, progress.best_epoch = metrics["goal"], epoch + 1
            progress.best_metrics = metrics
            self._published.best = [np.array(weight) for weight in self.model.stage_network.get_weights()]
        if run.options.pictures:
            self._draw(outputs)
        # With the goal and the pictures: it is what the user waits for.
        progress.seconds += time.perf_counter() - self._epoch_start
        row["seconds"] = progress.seconds
        append_history(run.folder / "history.csv", row)
        self._scalars.write(row)
        run.report(epoch_line(run.stage, row, run.config.epochs, is_best))
        self._decide()
        # Whatever an earlier line wrote is written again when the run is killed before this. What the model
        # folder holds follows the state: where the run is killed between the two, the next start mends it.
        save_state(run.state, training_variables(self.model), progress, self._published.best)
        if is_best:
            self._published.publish(progress)
        # After everything is on disk: a sweep may kill the process as soon as it is told the goal.
        if run.options.stop_after is not None and run.options.stop_after(row):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Keras hook."""
        self._scalars.close()

    def _outputs(self) -> Batch:
        """Outputs for the fixed galaxies; numbers in float32, whatever the precision of the training."""
        # In the batch size of the training: another one would be compiled anew.
        outputs = self.model.predict(self._judged.x, batch_size=self._run.config.batch_size, verbose=0)
        arrays = {name: np.asarray(value) for name, value in outputs.items()}
        return {name: a if a.dtype.kind == "b" else a.astype(np.float32) for name, a in arrays.items()}

    def _speed(self, end: float) -> dict[str, float]:
        """Spectra per second and fraction of time spent waiting, without the first step of the process."""
        # The first step of a process compiles, for seconds to a minute.
        skip = 1 if self._first_step and len(self._begun) > 1 else 0
        self._first_step = False
        steps = len(self._begun) - skip
        seconds = max(end - self._begun[skip], 1e-9)
        wait = sum(self._batches.waits()[-steps:])
        return {
            "spectra_per_second": steps * self._run.config.batch_size / seconds,
            "input_wait": wait / seconds,
        }

    def _decide(self) -> None:
        """End the training where all epochs are done, or the goal no longer improves."""
        progress, config = self._progress, self._run.config
        if config.patience and progress.without_improvement >= config.patience:
            progress.stopped = f"no better goal for {progress.without_improvement} epochs"
            self.model.stop_training = True
        elif progress.epoch >= config.epochs:
            progress.stopped = f"all {config.epochs} epochs done"

    def _draw(self, outputs: Batch) -> None:
        run, judged, rows, epoch = self._run, self._judged, self._rows, self._progress.epoch
        if run.stage == "zhead":
            figure = draw_redshifts(epoch, outputs, judged.y, rows, judged.bins)
        else:
            seen = (outputs, judged.x, judged.y, rows, judged.prism, judged.grid)
            figure = draw_spectra(run.stage, epoch, *seen)
        save_picture(figure, run.folder / "pictures" / f"epoch_{epoch:03d}.png")
