"""The redshift network on one spectrum per galaxy, trained for the comparison of inputs (paper Fig. 9).

Needs Keras, which takes seconds to import: only `kspecsr.evaluation.identical_networks` uses it.
"""

from __future__ import annotations

import keras
import numpy as np

from kspecsr.configuration import ModelConfig, TrainingConfig
from kspecsr.losses import redshift_nll
from kspecsr.models import build_zhead, redshift_step
from kspecsr.training.optimizer import GuardedAdamW
from kspecsr.training.schedule import learning_rate_schedule

_JUDGED = 64  # galaxies at a time


class SpectrumRedshiftNetwork(keras.Model):
    """The second stage's architecture on a spectrum of the unified grid, without the prism.

    Args:
        config: of a model: grid and second stage.
        name: of the input that it sees.
    """

    def __init__(self, config: ModelConfig, name: str):
        super().__init__(name=name)
        self.network = build_zhead(config)
        self.step_of_log = redshift_step(config)

    def call(self, x, training=False):
        """Outputs of `build_zhead`.

        Args:
            x: of `kspecsr.evaluation.identical.examples.network_inputs`.
            training: whether dropout is live.
        """
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Likelihood of the true redshift; galaxies without one do not count."""
        return redshift_nll(y_pred["redshift_log_probability"], y["true_redshift"], self.step_of_log)


def build_spectrum_redshift(
    config: ModelConfig, training: TrainingConfig, name: str, seed: int
) -> SpectrumRedshiftNetwork:
    """A network ready to be trained; the same weights and dropout for the same seed, whatever its name.

    Args:
        config: grid and second stage.
        training: optimiser and schedule.
        name: of the input.
        seed: of weights and dropout.
    """
    keras.utils.set_random_seed(seed)
    model = SpectrumRedshiftNetwork(config, name)
    optimizer = GuardedAdamW(
        learning_rate_schedule(training), weight_decay=training.weight_decay, clip_norm=training.clip_norm
    )
    model.compile(optimizer=optimizer, jit_compile="auto")
    model.build(None)
    optimizer.build(model.trainable_variables)
    return model


def train_step(model: SpectrumRedshiftNetwork, inputs: dict[str, np.ndarray], redshift: np.ndarray) -> float:
    """One optimiser step; returns the loss."""
    model.reset_metrics()
    return float(model.train_on_batch(inputs, {"true_redshift": redshift}))


def infer(model: SpectrumRedshiftNetwork, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Redshifts (B,)."""
    count = len(inputs["redshift"])
    found = []
    for start in range(0, count, _JUDGED):
        # always of one size: every further one would be compiled anew
        rows = np.minimum(np.arange(start, start + _JUDGED), count - 1)
        outputs = model.predict_on_batch({name: array[rows] for name, array in inputs.items()})
        found.append(np.asarray(outputs["redshift"]))
    return np.concatenate(found)[:count]
