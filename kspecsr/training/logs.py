"""Logs of a training: history.csv, TensorBoard scalars, a line of text for each epoch; a bar over its steps.

Keras' own callbacks do not serve: `CSVLogger` keeps rows of epochs that are done again after a kill, and
`TensorBoard` needs the package of that name.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import keras

from data_pipeline.progress import Progress
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import TrainingConfig

# metric -> (word, format), in the order of the line
_SHOWN = {
    "sr1": {
        "error_ratio": ("error/cubic", "{:.3f}"),
        "typical_ratio": ("typical/cubic", "{:.3f}"),
        "coverage": ("coverage", "{:.3f}"),
    },
    "zhead": {
        "nmad": ("NMAD", "{:.5f}"),
        "outliers_0.15": ("dz>0.15", "{:.1%}"),
        "outliers_0.01": ("dz>0.01", "{:.1%}"),
        "confident_outliers": ("wrong though confident", "{:.1%}"),
        "coverage": ("coverage", "{:.3f}"),
    },
    "sr2": {
        "recovery": ("recovery", "{:.3f}"),
        "scatter": ("scatter", "{:.3f}"),
        "completeness": ("found", "{:.1%}"),
        "false_detections": ("false", "{:.1%}"),
        "coverage": ("coverage", "{:.3f}"),
        "error_ratio": ("error/cubic", "{:.3f}"),
        "chi_square": ("chi2", "{:.2f}"),
    },
}


def epoch_line(stage: str, row: Mapping[str, float], epochs: int, is_best: bool) -> str:
    """Line of text about an epoch, from its row of the history."""
    parts = [f"{stage} epoch {int(row['epoch'])}/{epochs}", f"loss {row['loss']:.4f}"]
    parts += [f"{word} {text.format(row[name])}" for name, (word, text) in _SHOWN[stage].items()]
    parts.append(f"goal {row['goal']:.4f}{' best' if is_best else ''}")
    parts.append(f"{row['spectra_per_second']:.1f} spectra/s")
    parts.append(f"input wait {row['input_wait']:.1%}")
    if row["skipped_steps"]:
        parts.append(f"skipped steps {int(row['skipped_steps'])}")
    return "  ".join(parts)


def append_history(path: Path, row: Mapping[str, float]) -> None:
    """Add an epoch to the CSV file; rows of the same and later epochs, from an earlier start, are dropped."""
    rows: list[dict[str, object]] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            # Epochs after the resumed one were killed before their state was saved, and are done again.
            rows = [dict(old) for old in csv.DictReader(file) if int(float(old["epoch"])) < row["epoch"]]
    rows.append(dict(row))
    # Columns of all rows: a newer version may log more than the one that began.
    names = list(dict.fromkeys(name for each in rows for name in each))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


class TensorBoardScalars:
    """Scalars for TensorBoard, which need not be installed to write them.

    Args:
        folder: folder of the event files.
        backend: backend of Keras; nothing is written but with ``tensorflow``.
    """

    def __init__(self, folder: Path, backend: str):
        self._writer = None
        if backend == "tensorflow":
            import tensorflow as tf  # only where it is the backend

            self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, row: Mapping[str, float]) -> None:
        """Write one point per number, at the row's epoch."""
        if self._writer is None:
            return
        import tensorflow as tf

        # what tf.summary.scalar does, which refuses to work where TensorBoard is not installed
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        )
        with self._writer.as_default():
            for name, value in row.items():
                tf.summary.write(
                    name, tf.constant(value, tf.float32), step=int(row["epoch"]), metadata=metadata
                )
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class StepBar(keras.callbacks.Callback):
    """A bar over the steps of each epoch, gone when the epoch's line appears; in a log, a line a minute.

    Args:
        stage: stage that is trained.
        config: numbers of steps and epochs.
        show: whether there is one.
    """

    def __init__(self, stage: str, config: TrainingConfig, show: bool = True):
        super().__init__()
        self._stage, self._config = stage, config
        self._disable = not show
        self._bar: Progress | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Keras hook."""
        self._bar = Progress(
            total=self._config.steps_per_epoch,
            desc=f"{self._stage} epoch {epoch + 1}/{self._config.epochs}",
            unit="step",
            leave=False,
            disable=self._disable,
        )

    def on_train_batch_end(self, batch, logs=None):
        """Keras hook."""
        self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Keras hook."""
        self._bar.close()
