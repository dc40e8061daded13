"""TensorFlow Serving itself, where ``TF_SERVING_BINARY`` or docker offers it."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

IMAGE = "tensorflow/serving"
_PATIENCE = 120.0  # seconds until it has loaded and warmed up


def serving_command(folder, grpc_port, rest_port):
    """Command that starts it; None where it is not to be had."""
    options = [f"--model_name={Path(folder).name}", f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    if binary := os.environ.get("TF_SERVING_BINARY"):
        return [binary, *options, f"--model_base_path={folder}"]
    if shutil.which("docker") and _has_image():
        inside = f"/models/{Path(folder).name}"
        start = ["docker", "run", "--rm", "--network=host", "-v", f"{folder}:{inside}:ro", IMAGE]
        return [*start, *options, f"--model_base_path={inside}"]
    return None


def _has_image():
    with suppress(OSError, subprocess.SubprocessError):
        command = ["docker", "image", "inspect", IMAGE]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    return False


@contextmanager
def serving_binary(folder):
    """Yields its gRPC and its REST endpoint once it is ready; None where it is not to be had."""
    grpc_port, rest_port = _free_port(), _free_port()
    command = serving_command(folder, grpc_port, rest_port)
    if command is None:
        yield None
        return
    name = Path(folder).name
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{rest_port}/v1/models/{name}")
        yield f"grpc://127.0.0.1:{grpc_port}/{name}", f"http://127.0.0.1:{rest_port}/{name}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(process, url):
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with suppress(requests.ConnectionError):
            if requests.get(url, timeout=5).ok and "AVAILABLE" in requests.get(url, timeout=5).text:
                return
        time.sleep(0.5)
    raise RuntimeError(f"{process.args}: not ready after {_PATIENCE:.0f} s")


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
