"""A stand-in for TensorFlow Serving: its official messages and REST forms over a loaded SavedModel.

This is not TensorFlow Serving. It answers `PredictionService.Predict` and ``POST /v1/models/NAME:predict``
with what the SavedModel's own signatures return, so that clients talk to a real endpoint where the server's
binary is not to be had. It can be told to fail first.
"""

import json
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Served:
    """A SavedModel by its name.

    Attributes:
        failures: how many of the next requests are turned away as by a busy server.
        sizes: batch size of each request that was answered.
    """

    def __init__(self, folder, name):
        self.model, self.name = tf.saved_model.load(str(folder)), name
        self.failures, self.sizes = 0, []

    def busy(self):
        self.failures -= 1
        return self.failures >= 0

    def predict(self, signature, inputs):
        function = self.model.signatures[signature]
        wanted = function.structured_input_signature[1]
        tensors = {name: tf.constant(inputs[name], spec.dtype) for name, spec in wanted.items()}
        outputs = {name: tensor.numpy() for name, tensor in function(**tensors).items()}
        self.sizes.append(len(outputs["status"]))
        return outputs


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    def Predict(self, request, context):  # noqa: N802 - the protocol's name
        if self.served.busy():
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        if request.model_spec.name != self.served.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {request.model_spec.name}")
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        answer = predict_pb2.PredictResponse()
        for name, values in self.served.predict(request.model_spec.signature_name, inputs).items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return answer


class Handler(BaseHTTPRequestHandler):
    served: Served

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.served.busy():
            self.answer(503, {"error": "busy"})
        elif self.path != f"/v1/models/{self.served.name}:predict":
            self.answer(404, {"error": f"Servable not found: {self.path}"})
        else:
            outputs = self.served.predict(content["signature_name"], content["inputs"])
            lists = {name: _plain(values) for name, values in outputs.items()}
            self.answer(200, {"outputs": lists})

    def answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _plain(values):
    if values.dtype == object:
        return [one.decode() for one in values]
    return values.astype(np.float64).tolist() if values.dtype == np.float32 else values.tolist()


@contextmanager
def prediction_service(folder, name="kspecsr"):
    """Yields the stand-in, its gRPC and its REST endpoint, on free ports of the loopback interface."""
    served = Served(folder, name)
    server = grpc.server(
        futures.ThreadPoolExecutor(2),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(served), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    rest = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"served": served}))
    thread = threading.Thread(target=rest.serve_forever, daemon=True)
    thread.start()
    try:
        yield served, f"grpc://127.0.0.1:{port}/{name}", f"http://127.0.0.1:{rest.server_port}/{name}"
    finally:
        rest.shutdown()
        rest.server_close()
        server.stop(None).wait()
