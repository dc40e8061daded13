"""AdamW that clips by global norm and skips steps whose gradient is not finite; schedules of a training."""

import keras
import numpy as np
from keras import ops

from kspecsr.configuration import TrainingConfig


@keras.saving.register_keras_serializable(package="kspecsr")
class GuardedAdamW(keras.optimizers.AdamW):
    """AdamW (decoupled decay) in which one bad batch does no harm.

    Gradients are summed over the devices, then scaled down to ``clip_norm`` by their global norm. Where this
    norm is not finite, weights and moments stay bit for bit as they are and `skipped_steps` goes up by one;
    the bias correction counts applied steps only, the learning rate's schedule all of them. Weights of less
    than two dimensions (biases, scales of normalisations) are not decayed.

    Args:
        learning_rate: number or schedule.
        weight_decay: decoupled weight decay, per unit of learning rate.
        clip_norm: largest global norm of the gradients.
        **options: options of `keras.optimizers.AdamW`.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=1e-4, clip_norm=1.0, **options):
        for name in ("clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps", "amsgrad"):
            if options.pop(name, None):
                raise ValueError(f"GuardedAdamW does not take {name}; it clips by clip_norm")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **options)
        self.clip_norm = clip_norm
        self.skipped_steps = self.add_variable(
            shape=(), dtype="int32", name="skipped_steps", aggregation="only_first_replica"
        )

    def get_config(self):
        """Keras configuration."""
        return {**super().get_config(), "clip_norm": self.clip_norm}

    def _clip_gradients(self, grads):
        grads = self._summed_over_devices(grads)
        # In float32 whatever the policy: squares of float16 gradients overflow at 256.
        square = sum(ops.sum(ops.square(ops.cast(grad, "float32"))) for grad in grads)
        norm = ops.sqrt(square)
        finite = ops.isfinite(norm)
        self.skipped_steps.assign_add(ops.cast(ops.logical_not(finite), "int32"))
        # A bad step is handed on as NaN in every element, which `update_step` sees in each weight by itself:
        # this way nothing has to be passed beside the gradients from device to device.
        factor = ops.where(finite, self.clip_norm / ops.maximum(norm, self.clip_norm), float("nan"))
        return [grad * ops.cast(factor, grad.dtype) for grad in grads]

    def _summed_over_devices(self, grads):
        if keras.backend.backend() != "tensorflow" or self._distribution_strategy.num_replicas_in_sync == 1:
            return grads
        import tensorflow as tf  # only where it is the backend

        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # Keras would sum them once more: `_clip_gradients` needs the sum

    def _apply_weight_decay(self, variables):
        pass  # in `update_step`, which knows whether the step counts

    def _use_weight_decay(self, variable):
        return len(variable.shape) > 1

    def update_step(self, gradient, variable, learning_rate):
        """One weight: moments, decay, step; all of them unchanged where the gradient is NaN."""
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        good = ops.isfinite(gradient)
        gradient = ops.where(good, gradient, ops.zeros_like(gradient))
        rate = ops.cast(learning_rate, dtype)
        # A skipped step leaves the moments as they were, so that it must not count as one in their bias
        # correction either.
        step = ops.cast(self.iterations + 1, dtype) - ops.cast(self.skipped_steps, dtype)
        beta_1_power = ops.power(ops.cast(self.beta_1, dtype), step)
        beta_2_power = ops.power(ops.cast(self.beta_2, dtype), step)
        # In a skipped first step the count is 0 and this 0 / 0; nothing of it is used.
        alpha = rate * ops.sqrt(1 - beta_2_power) / (1 - beta_1_power)

        def add(target, change):
            self.assign_add(target, ops.where(good, change, ops.zeros_like(change)))

        if self.weight_decay is not None and self._use_weight_decay(variable):
            add(variable, -(variable * ops.cast(self.weight_decay, dtype) * rate))
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        add(momentum, (gradient - momentum) * (1 - self.beta_1))
        add(velocity, (ops.square(gradient) - velocity) * (1 - self.beta_2))
        add(variable, -(momentum * alpha / (ops.sqrt(velocity) + self.epsilon)))


def skipped_steps(optimizer: keras.optimizers.Optimizer) -> int:
    """Number of skipped steps, also of an optimizer inside one that scales the loss (float16)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return int(inner.skipped_steps.numpy())


@keras.saving.register_keras_serializable(package="kspecsr")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine.

    Args:
        peak: learning rate at the end of the warm-up.
        steps: total number of steps; later ones keep the last value.
        warmup: number of steps of the warm-up; the first has ``peak / warmup``.
        final: last value as a fraction of the peak.
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
    """Schedule of a training."""
    return WarmUpCosine(
        config.learning_rate, config.steps, round(config.warmup * config.steps), config.final_learning_rate
    )


def teacher_probability(step: int, config: TrainingConfig) -> float:
    """Teacher forcing: probability that SR2 is given the true redshift in a step, linear in the step."""
    # From the step alone: a resumed training goes on with the probability where it was.
    progress = min(max(step / max(config.steps - 1, 1), 0.0), 1.0)
    return config.teacher_start + (config.teacher_stop - config.teacher_start) * progress
