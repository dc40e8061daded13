"""Progress within an epoch, on a terminal."""

from __future__ import annotations

import keras
from tqdm import tqdm

from kspecsr.configuration import TrainingConfig


class StepBar(keras.callbacks.Callback):
    """A bar over the steps of each epoch, gone when the epoch's line appears.

    Args:
        stage: that is named.
        config: steps and epochs.
        show: False for none; None where the output is a terminal.
    """

    def __init__(self, stage: str, config: TrainingConfig, show: bool | None = None):
        super().__init__()
        self._stage, self._config = stage, config
        self._disable = None if show is None else not show
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Keras hook."""
        self._bar = tqdm(
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
