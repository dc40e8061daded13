"""Speed of training steps: arithmetic beside that of a dense product, waiting for data, cost per spectrum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from kspecsr.configuration import STAGES, Preset
from kspecsr.feeds.example import Batch, split_batch
from kspecsr.feeds.simulated import validation_examples
from kspecsr.feeds.simulation_feed import LOOK_AHEAD, SimulationFeed
from kspecsr.models import BUILDERS
from kspecsr.models.precision import dtype_policy, fast_policy
from kspecsr.training.data import TimedBatches
from kspecsr.training.optimizer import GuardedAdamW
from kspecsr.training.stage_model import StageModel

if TYPE_CHECKING:
    import tensorflow as tf


def operations(graph: tf.Graph) -> Iterator[tuple[str, float]]:
    """Kind and floating-point operations of each product, convolution and solve in a graph.

    A multiplication and an addition count as two. Element-wise arithmetic, gathers and resampling are left
    out, so that a rate made of these numbers is a lower bound; so is what no result needs, which TensorFlow
    leaves out as well: gradients of frozen weights, for instance.

    Args:
        graph: with static shapes.

    Raises:
        ValueError: for a product whose shape is not known.
    """
    for operation in _needed(graph):
        count = _COUNTS.get(operation.type)
        if count is not None:
            yield operation.type, float(count(operation))


def largest_product(graph: tf.Graph) -> tuple[int, int, int]:
    """Sizes (m, k, n), as one dense product, of the convolution or product with the most arithmetic."""
    sizes = [_as_product(operation) for operation in _needed(graph) if operation.type in _FORWARD]
    return max(sizes, key=prod)


def _needed(graph: tf.Graph) -> list[tf.Operation]:
    """Operations that the graph's results or its effects on variables depend on."""
    pending = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    found = set(pending)
    while pending:
        operation = pending.pop()
        before = {tensor.op for tensor in operation.inputs} | set(operation.control_inputs)
        pending += before - found
        found |= before
    return [operation for operation in graph.get_operations() if operation in found]


def _shape(tensor: tf.Tensor) -> list[int]:
    shape = tensor.shape.as_list()
    if None in shape:
        raise ValueError(f"{tensor.name}: expected a static shape, got {shape}")
    return shape


def _matmul(operation: tf.Operation) -> float:
    first = _shape(operation.inputs[0])
    flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
    inner = first[-2] if operation.get_attr(flag) else first[-1]
    return 2.0 * inner * prod(_shape(operation.outputs[0]))


def _convolution(operation: tf.Operation) -> float:
    return 2.0 * prod(_as_product(operation))


def _input_gradient(operation: tf.Operation) -> float:
    kernel, gradient = _shape(operation.inputs[1]), _shape(operation.inputs[2])
    return 2.0 * prod(gradient) * prod(kernel[:-1])


def _kernel_gradient(operation: tf.Operation) -> float:
    kernel, gradient = _shape(operation.outputs[0]), _shape(operation.inputs[2])
    return 2.0 * prod(gradient) * prod(kernel[:-1])


def _einsum(operation: tf.Operation) -> float:
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    size: dict[str, int] = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        shape = _shape(tensor)
        # an ellipsis stands for the axes in front
        letters = term.replace("...", "".join(chr(0x3B1 + i) for i in range(len(shape) - len(term) + 3)))
        size.update(zip(letters, shape, strict=True))
    return 2.0 * prod(size.values())


def _cholesky(operation: tf.Operation) -> float:
    shape = _shape(operation.outputs[0])
    return prod(shape) * shape[-1] / 3.0


def _triangular_solve(operation: tf.Operation) -> float:
    return float(prod(_shape(operation.outputs[0])) * _shape(operation.inputs[0])[-1])


def _as_product(operation: tf.Operation) -> tuple[int, int, int]:
    if operation.type == "Conv2D":
        kernel, output = _shape(operation.inputs[1]), _shape(operation.outputs[0])
        return prod(output[:-1]), prod(kernel[:-1]), kernel[-1]
    output = _shape(operation.outputs[0])
    return prod(output[:-1]), int(_matmul(operation) / 2 / prod(output)), output[-1]


_FORWARD = frozenset({"Conv2D", "MatMul"})
_COUNTS = {
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _input_gradient,
    "Conv2DBackpropFilter": _kernel_gradient,
    "Einsum": _einsum,
    "Cholesky": _cholesky,
    "MatrixTriangularSolve": _triangular_solve,
}


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
    needed = STAGES[: STAGES.index(stage)]
    with dtype_policy(fast_policy(preset.training[stage].precision)):
        model = StageModel(stage, preset, {name: BUILDERS[name](preset.model) for name in needed})
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
