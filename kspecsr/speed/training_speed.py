"""Speed of training steps: arithmetic beside that of a dense product, waiting for data, cost per spectrum."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kspecsr.configuration import STAGES, Preset
from kspecsr.feeds import SimulationFeed, split_batch, validation_examples
from kspecsr.feeds.example import Batch
from kspecsr.feeds.simulation_feed import LOOK_AHEAD
from kspecsr.models import build_sr1, build_zhead
from kspecsr.speed.arithmetic import largest_product, operations
from kspecsr.training.batches import TimedBatches
from kspecsr.training.optimizer import GuardedAdamW
from kspecsr.training.stage_model import StageModel, build_stage_model

_SEED = 7
_LEAST_STEPS = 40  # of a measurement of waiting


@dataclass(frozen=True)
class StepSpeed:
    """Training steps of one stage.

    Attributes:
        stage: its name.
        batch_size: examples per step.
        seconds: of the quickest step.
        arithmetic: floating-point operations of a step, products alone.
        product: sizes (m, k, n) of the dense product beside it: the step's largest convolution as one.
        product_rate: floating-point operations per second of that product, measured between the steps.
    """

    stage: str
    batch_size: int
    seconds: float
    arithmetic: float
    product: tuple[int, int, int]
    product_rate: float

    @property
    def share(self) -> float:
        """Rate of the step's arithmetic over the dense product's."""
        return self.arithmetic / self.seconds / self.product_rate

    @property
    def cost(self) -> float:
        """Seconds per spectrum."""
        return self.seconds / self.batch_size


def step_speed(preset: Preset, stage: str, batch_size: int, steps: int) -> StepSpeed:
    """Measures a stage's training step on a batch in memory, and a dense product in turn with it."""
    batch = split_batch(validation_examples(batch_size, _SEED, preset.feed, preset.model.grid))
    model = _model(preset, stage)
    graph = _step_graph(model, batch)
    sizes = largest_product(graph)
    step = tf.function(model.train_step)
    data = tf.nest.map_structure(tf.constant, batch)
    product = _product(sizes)
    taken: dict[str, list[float]] = {"step": [], "product": []}
    for repeat in range(steps + 1):
        for name, run in (("step", lambda: step(data)), ("product", product)):
            seconds = _seconds(run)
            if repeat:  # the first ones compile
                taken[name].append(seconds)
    return StepSpeed(
        stage,
        batch_size,
        min(taken["step"]),
        sum(count for _, count in operations(graph)),
        sizes,
        2.0 * float(np.prod(sizes)) / min(taken["product"]),
    )


def input_wait(preset: Preset, stage: str, batch_size: int, steps: int, workers: int) -> float:
    """Share of the time of training steps that they wait for fresh simulated examples.

    Measured over at least 40 steps, after those that use up what was simulated while the first one compiled:
    too slow a simulation would not show in them.
    """
    stored, steps = LOOK_AHEAD + 1, max(steps, _LEAST_STEPS)
    model = _model(preset, stage)
    step = tf.function(model.train_step)
    feed = SimulationFeed(preset.feed, preset.model.grid, batch_size, _SEED, workers=workers)
    with TimedBatches(feed) as batches:
        started = waited = 0.0
        iterator = iter(batches)
        for number in range(stored + steps):
            if number == stored:
                started = time.perf_counter()
            begin = time.perf_counter()
            pair = next(iterator)
            if number >= stored:
                waited += time.perf_counter() - begin
            _wait_for(step(tf.nest.map_structure(tf.constant, pair)))
        return waited / (time.perf_counter() - started)


def _model(preset: Preset, stage: str) -> StageModel:
    """A stage on fresh ones before it; what weights they have does not matter here."""
    builders = {"sr1": build_sr1, "zhead": build_zhead}
    needed = STAGES[: STAGES.index(stage)]
    model = build_stage_model(stage, preset, {name: builders[name](preset.model) for name in needed})
    model.build(None)
    model.compile(optimizer=GuardedAdamW(1e-4))
    model.optimizer.build(model.trainable_variables)
    return model


def _step_graph(model: StageModel, batch: tuple[Batch, Batch]) -> tf.Graph:
    specifications = tf.nest.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), batch)
    return tf.function(model.train_step).get_concrete_function(specifications).graph


def _product(sizes: tuple[int, int, int]) -> Callable[[], object]:
    rows, inner, columns = sizes
    rng = np.random.default_rng(_SEED)
    first = tf.constant(rng.normal(size=(rows, inner)).astype(np.float32))
    second = tf.constant(rng.normal(size=(inner, columns)).astype(np.float32))
    product = tf.function(lambda: tf.matmul(first, second), autograph=False)
    return lambda: product()


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    _wait_for(run())
    return time.perf_counter() - start


def _wait_for(result: object) -> None:
    for tensor in tf.nest.flatten(result):
        tensor.numpy()
