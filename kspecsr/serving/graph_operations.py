"""Which TensorFlow operations an exported model consists of."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

# what TensorFlow registers, and a server of another build may lack or refuse
_FOREIGN = ("Xla", "PyFunc", "EagerPyFunc", "TPU", "Infeed", "Outfeed", "Collective", "NumericalPredict")


def graph_operations(folder: str | os.PathLike) -> Counter[str]:
    """Kind of operation to how often it occurs, in the main graph and in every function.

    Args:
        folder: version of an exported model.

    Raises:
        FileNotFoundError: if it holds no ``saved_model.pb``.
    """
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found: Counter[str] = Counter()
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        found.update(node.op for node in graph.node)
        for function in graph.library.function:
            found.update(node.op for node in function.node_def)
    return found


def foreign_operations(folder: str | os.PathLike) -> list[str]:
    """Operations that are not stock TensorFlow, or that need a compiler or Python where the model is served.

    Args:
        folder: as above.
    """
    model_functions = _functions(folder)
    return sorted(
        name
        for name in graph_operations(folder)
        if name.startswith(_FOREIGN) or not (name in model_functions or _is_registered(name))
    )


def _functions(folder: str | os.PathLike) -> set[str]:
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    return {
        function.signature.name
        for meta_graph in model.meta_graphs
        for function in meta_graph.graph_def.library.function
    }


def _is_registered(name: str) -> bool:
    return hasattr(tf.raw_ops, name)
