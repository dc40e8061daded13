"""Requests over REST; needs no TensorFlow on this side."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kspecsr.serving.endpoint import Address, EndpointError, Transport
from kspecsr.serving.signatures import SIGNATURES

_PASSING = (408, 429, 502, 503, 504)


class RestTransport(Transport):
    """See `Transport`."""

    def __init__(self, address: Address, timeout: float):
        super().__init__(address, timeout)
        version = "" if address.version is None else f"/versions/{address.version}"
        self.url = f"{address.scheme}://{address.host}/v1/models/{address.model}{version}:predict"
        self._of_thread = threading.local()  # sessions are not made for several threads

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport.predict`."""
        arrays = SIGNATURES[signature].inputs.items()
        content = {
            "signature_name": signature,
            # NaN is no JSON, but TensorFlow Serving reads and writes it
            "inputs": {name: np.asarray(inputs[name], array.dtype).tolist() for name, array in arrays},
        }
        try:
            answer = self._session().post(self.url, data=json.dumps(content), timeout=self.timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise EndpointError(f"{self.address}: {type(error).__name__}: {error}", passing=True) from error
        except requests.RequestException as error:
            raise EndpointError(f"{self.address}: {error}") from error
        if answer.status_code != requests.codes.ok:
            raise EndpointError(
                f"{self.address}: HTTP {answer.status_code}: {_reason(answer)}",
                answer.status_code in _PASSING,
            )
        return self._arrays(signature, answer)

    def _session(self) -> requests.Session:
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = requests.Session()
        return self._of_thread.session

    def _arrays(self, signature: str, answer: requests.Response) -> dict[str, np.ndarray]:
        arrays = SIGNATURES[signature].outputs
        try:
            outputs = answer.json()["outputs"]
            return {
                name: np.array(outputs[name], dtype=object if array.dtype == "string" else array.dtype)
                for name, array in arrays.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self.address}: the answer is not that of a kspecsr model ({error!r}); expected "
                f"outputs {', '.join(arrays)}"
            ) from error


def _reason(answer: requests.Response) -> str:
    """What the server says, in one line."""
    try:
        text = answer.json()["error"]
    except (KeyError, TypeError, ValueError):
        text = answer.text
    return " ".join(str(text).split())[:300]


_GRPC_TRANSPORT_PASSING = (
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
                f"{self.address}: {error.code().name}: {text}", error.code() in _GRPC_TRANSPORT_PASSING
            ) from error
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
