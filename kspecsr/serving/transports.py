"""Requests to a served model: its address, and its transports REST and gRPC."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import requests

from kspecsr.serving.signatures import SIGNATURES

SCHEMES = ("grpc", "grpcs", "http", "https")
DEFAULT_MODEL_NAME = "kspecsr"


class EndpointError(OSError):
    """The endpoint cannot be reached, or does not answer as it should.

    Attributes:
        passing: True if the same request may succeed a little later.
    """

    def __init__(self, text: str, passing: bool = False):
        super().__init__(text)
        self.passing = passing


@dataclass(frozen=True)
class Address:
    """Address of a served model.

    Attributes:
        scheme: one of `SCHEMES`; those with an s are encrypted.
        host: host and port.
        model: name of the model on the server.
        version: version of the model; None for the newest.
    """

    scheme: str
    host: str
    model: str = DEFAULT_MODEL_NAME
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``SCHEME://HOST:PORT[/MODEL[/VERSION]]``.

        Raises:
            ValueError: for any other text, saying what is expected.
        """
        form = "SCHEME://HOST:PORT[/MODEL[/VERSION]], such as grpc://localhost:8500/kspecsr"
        parts = urlsplit(text)
        path = [part for part in parts.path.split("/") if part]
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in SCHEMES or not parts.hostname or port is None or len(path) > 2:
            raise ValueError(f"endpoint {text!r}: expected {form}, with a scheme out of {', '.join(SCHEMES)}")
        if len(path) == 2 and not path[1].isdecimal():
            raise ValueError(f"endpoint {text!r}: expected a number as VERSION, got {path[1]!r} ({form})")
        model = path[0] if path else DEFAULT_MODEL_NAME
        return cls(parts.scheme, parts.netloc, model, int(path[1]) if len(path) == 2 else None)

    def __str__(self) -> str:
        version = "" if self.version is None else f"/{self.version}"
        return f"{self.scheme}://{self.host}/{self.model}{version}"


class Transport(ABC):
    """Sends one request and returns the answer.

    Args:
        address: address of the model.
        timeout: longest wait for an answer [s].
    """

    def __init__(self, address: Address, timeout: float):
        self.address = address
        self.timeout = timeout

    @abstractmethod
    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a signature; safe in several threads.

        Raises:
            EndpointError: with the address, and what the endpoint answered.
        """


_PASSING_STATUS = (408, 429, 502, 503, 504)


class RestTransport(Transport):
    """Requests over REST; needs neither TensorFlow nor gRPC on this side."""

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
            # TensorFlow Serving's column format: one array per input instead of one object per spectrum.
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
                answer.status_code in _PASSING_STATUS,
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
                if name in outputs or not array.optional
            }
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self.address}: the answer is not that of a kspecsr model ({error!r}); expected "
                f"outputs {', '.join(arrays)}"
            ) from error


def _reason(answer: requests.Response) -> str:
    """Error text of the server, in one line."""
    try:
        text = answer.json()["error"]
    except (KeyError, TypeError, ValueError):
        text = answer.text
    return " ".join(str(text).split())[:300]


_PASSING_CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED")
# an answer for 64 spectra has 10 MB, gRPC's own limit is 4
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcTransport(Transport):
    """Requests over gRPC.

    Raises:
        ModuleNotFoundError: without the extra ``serving``.
    """

    def __init__(self, address: Address, timeout: float):
        # TensorFlow takes seconds, and REST needs none of these
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        super().__init__(address, timeout)
        self._tf, self._request, self._error = tf, predict_pb2.PredictRequest, grpc.RpcError
        if address.scheme == "grpcs":
            channel = grpc.secure_channel(address.host, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            channel = grpc.insecure_channel(address.host, _OPTIONS)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport.predict`."""
        request = self._request()
        request.model_spec.name = self.address.model
        request.model_spec.signature_name = signature
        if self.address.version is not None:
            request.model_spec.version.value = self.address.version
        for name, array in SIGNATURES[signature].inputs.items():
            request.inputs[name].CopyFrom(self._tf.make_tensor_proto(np.asarray(inputs[name], array.dtype)))
        try:
            answer = self._service.Predict(request, timeout=self.timeout)
        except self._error as error:
            # By name: the enumeration is grpc's, which REST callers need not have installed.
            code, text = error.code().name, " ".join(str(error.details()).split())[:300]
            raise EndpointError(f"{self.address}: {code}: {text}", code in _PASSING_CODES) from error
        return {name: self._tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
