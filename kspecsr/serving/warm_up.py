"""Requests that TensorFlow Serving answers for itself before it takes any: a first answer takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from kspecsr.results.prism_input import prism_wavelength
from kspecsr.serving.signatures import SIGNATURES

WARM_UP_FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 64)
_FLUX, _ERROR, _REDSHIFT = 1e-20, 1e-21, 3.0


def warm_up_inputs(signature: str, batch_size: int) -> dict[str, np.ndarray]:
    """Inputs that send a batch through the whole graph: flat spectra of S/N 10.

    Args:
        signature: one of `SIGNATURES`.
        batch_size: spectra.
    """
    wavelength = prism_wavelength()
    # as on the prism's own pixels, but not quite: they must be resampled
    moved = wavelength[:-1] + 0.4 * np.diff(wavelength)
    shape = (batch_size, moved.size if signature == "from_wavelength" else wavelength.size)
    values = {
        "wavelength": np.tile(moved, (batch_size, 1)),
        "flux": np.full(shape, _FLUX),
        "error": np.full(shape, _ERROR),
        "mask": np.zeros(shape, bool),
        "redshift": np.full(batch_size, _REDSHIFT),
    }
    inputs = SIGNATURES[signature].inputs
    return {name: values[name].astype(array.dtype) for name, array in inputs.items()}


def write_warm_up(folder: str | os.PathLike, model_name: str, version: int | None = None) -> Path:
    """Writes ``assets.extra/tf_serving_warmup_requests`` of an exported version.

    Args:
        folder: of the version.
        model_name: that the server knows the model by.
        version: of the model; None for whichever is loaded.
    """
    path = Path(folder) / "assets.extra" / WARM_UP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for size in BATCH_SIZES:
            for signature in SIGNATURES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                if version is not None:
                    request.model_spec.version.value = version
                for name, values in warm_up_inputs(signature, size).items():
                    request.inputs[name].CopyFrom(_proto(values))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
    return path


def _proto(values: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor as a message; short where all values are the same."""
    if np.all(values == values.flat[0]):
        return tf.make_tensor_proto(values.flat[0], values.dtype, values.shape)
    return tf.make_tensor_proto(values)


def read_warm_up(folder: str | os.PathLike) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each warm-up request of an exported version."""
    path = Path(folder) / "assets.extra" / WARM_UP_FILE
    for record in tf.data.TFRecordDataset(os.fspath(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name, inputs
