"""Large constants of several graphs, kept once as variables: an operator of 17 MB is used in seven places."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import tensorflow as tf

_LARGE = 16_384  # bytes: smaller constants stay in the graph


class SharedConstants:
    """Takes large constants out of traced functions.

    Attributes:
        variables: what was taken out, to be tracked by whatever is saved.
    """

    def __init__(self):
        self.variables: list[tf.Variable] = []
        self._by_content: dict[bytes, tf.Variable] = {}

    def without(self, function: tf.types.experimental.ConcreteFunction) -> Callable:
        """The same function with its large constants read from variables.

        Checks that raise for a whole batch are left out besides (``CheckNumerics``, which Keras puts behind a
        Cholesky factorisation): a bad spectrum's NaN stays with that spectrum.

        Args:
            function: of tensors, with an input signature.

        Returns:
            Callable to be used inside another traced function, with the same arguments and results.
        """
        graph = function.graph
        definition = graph.as_graph_def()
        constants, kept = {}, []
        for node in definition.node:
            if node.op == "Placeholder":
                continue
            if node.op == "Const" and node.attr["value"].tensor.ByteSize() > _LARGE:
                constants[node.name] = self._variable(node.attr["value"].tensor)
                continue
            if node.op == "CheckNumerics":
                node.op = "Identity"
                del node.attr["message"]
            kept.append(node)
        for node in kept:
            wanted = [
                name for name in node.input if name.removeprefix("^") not in constants or name[0] != "^"
            ]
            node.ClearField("input")
            node.input.extend(wanted)
        definition.ClearField("node")
        definition.node.extend(kept)
        explicit = function.inputs[: len(function.inputs) - len(graph.captures)]
        names = [tensor.name for tensor in function.outputs]

        def call(*arguments: tf.Tensor):
            here = tf.compat.v1.get_default_graph()
            placed = dict(zip((tensor.name for tensor in explicit), arguments, strict=True))
            placed |= {inner.name: here.capture(outer) for outer, inner in graph.captures}
            placed |= {f"{name}:0": variable.read_value() for name, variable in constants.items()}
            found = tf.graph_util.import_graph_def(
                definition, input_map=placed, return_elements=names, name="kspecsr"
            )
            return tf.nest.pack_sequence_as(function.structured_outputs, found)

        return call

    def _variable(self, content) -> tf.Variable:
        array = tf.make_ndarray(content)
        key = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
        if key not in self._by_content:
            variable = tf.Variable(array, trainable=False, name=f"constant{len(self.variables)}")
            self._by_content[key] = variable
            self.variables.append(variable)
        return self._by_content[key]
