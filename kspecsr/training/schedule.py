"""What changes over a training: the learning rate, and how often SR2 is told the true redshift."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.configuration import TrainingConfig


@keras.saving.register_keras_serializable(package="kspecsr")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine.

    Args:
        peak: learning rate at the end of the warm-up.
        steps: in all; later ones keep the last value.
        warmup: steps of the warm-up; the first has ``peak / warmup``.
        final: last value as a share of the peak.
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, final: float = 0.01):
        super().__init__()
        self.peak, self.steps, self.warmup, self.final = float(peak), int(steps), int(warmup), float(final)

    def __call__(self, step):
        """Learning rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rising = (step + 1.0) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        falling = self.final + (1.0 - self.final) * 0.5 * (1.0 + ops.cos(np.pi * progress))
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict:
        """Keras configuration."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "final": self.final}


def learning_rate_schedule(config: TrainingConfig) -> WarmUpCosine:
    """The schedule that a training's settings ask for."""
    return WarmUpCosine(
        config.learning_rate, config.steps, round(config.warmup * config.steps), config.final_learning_rate
    )


def teacher_probability(step: int, config: TrainingConfig) -> float:
    """Probability that SR2 is given the true redshift in this step, linear over the training."""
    progress = min(max(step / max(config.steps - 1, 1), 0.0), 1.0)
    return config.teacher_start + (config.teacher_stop - config.teacher_start) * progress
