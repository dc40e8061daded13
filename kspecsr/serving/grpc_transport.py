"""Requests over gRPC, with TensorFlow Serving's own messages; needs the extra ``serving``."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kspecsr.serving.endpoint import Address, EndpointError, Transport
from kspecsr.serving.signatures import SIGNATURES

_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)
# an answer for 64 spectra has 10 MB, gRPC's own limit is 4
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcTransport(Transport):
    """See `Transport`."""

    def __init__(self, address: Address, timeout: float):
        super().__init__(address, timeout)
        if address.scheme == "grpcs":
            channel = grpc.secure_channel(address.host, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            channel = grpc.insecure_channel(address.host, _OPTIONS)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport.predict`."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.address.model
        request.model_spec.signature_name = signature
        if self.address.version is not None:
            request.model_spec.version.value = self.address.version
        for name, array in SIGNATURES[signature].inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(inputs[name], array.dtype)))
        try:
            answer = self._service.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            text = " ".join(str(error.details()).split())[:300]
            raise EndpointError(
                f"{self.address}: {error.code().name}: {text}", error.code() in _PASSING
            ) from error
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
