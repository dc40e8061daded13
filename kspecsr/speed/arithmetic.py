"""How much arithmetic a TensorFlow function does: its matrix products, convolutions and small solves."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

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
