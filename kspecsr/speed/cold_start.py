"""How long a model takes until it answers, and how much memory, each in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from kspecsr.serving.signatures import SERVING_DEFAULT
from kspecsr.serving.warm_up import read_warm_up, warm_up_inputs
from kspecsr.super_resolver import SuperResolver

SERVED, WARMED, PYTHON = "exported model", "exported model with its warm-up requests", "Python path"
KINDS = (SERVED, WARMED, PYTHON)


@dataclass(frozen=True)
class ColdStart:
    """What a fresh process takes; TensorFlow is imported already.

    Attributes:
        load: seconds to load the model.
        warm_up: seconds to answer the warm-up requests; 0 without.
        first: seconds to answer the first request after that, of one spectrum.
        second: seconds to answer the next one.
        memory: bytes that loading and answering one spectrum added at most.
        memory_batch: bytes that it was in all after a batch of 64.
    """

    load: float
    warm_up: float
    first: float
    second: float
    memory: float
    memory_batch: float

    def __str__(self) -> str:
        warm_up = f"warm-up {self.warm_up:.1f} s, " if self.warm_up else ""
        return (
            f"load {self.load:.1f} s, {warm_up}first answer {self.first:.2f} s, second {self.second:.2f} s; "
            f"memory {self.memory / 1e6:.0f} MB for one spectrum, {self.memory_batch / 1e6:.0f} MB after 64"
        )


def cold_start(kind: str, exported: str | os.PathLike, folder: str | os.PathLike) -> ColdStart:
    """Measures one of `KINDS` in a new process.

    Args:
        kind: what is started.
        exported: folder of a version.
        folder: model folder that it was exported from.

    Raises:
        OSError: if the process failed, with its last words.
    """
    arguments = (kind, os.path.abspath(exported), os.path.abspath(folder))
    code = f"from kspecsr.speed.cold_start import measured; print(measured(*{arguments}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if run.returncode:
        raise OSError(f"the process that starts the {kind} failed: {run.stderr.strip()[-500:]}")
    return ColdStart(**json.loads(run.stdout.splitlines()[-1]))


def measured(kind: str, exported: str, folder: str) -> str:
    """Starts and measures in this process; JSON."""
    before, begin = _memory(), time.perf_counter()
    call = _python(folder) if kind == PYTHON else _signatures(exported)
    load, begin = time.perf_counter() - begin, time.perf_counter()
    if kind == WARMED:
        for signature, inputs in read_warm_up(exported):
            call(signature, inputs)
    warm_up = time.perf_counter() - begin if kind == WARMED else 0.0
    one = _flat(1)
    times = [_seconds(lambda: call(SERVING_DEFAULT, one)) for _ in range(2)]
    memory = _memory() - before
    many = _flat(64)
    call(SERVING_DEFAULT, many)
    return json.dumps(asdict(ColdStart(load, warm_up, *times, memory, _memory() - before)))


def _flat(size: int) -> dict[str, np.ndarray]:
    return warm_up_inputs(SERVING_DEFAULT, size)


def _signatures(exported: str) -> Callable:
    model = tf.saved_model.load(exported)

    def call(signature, inputs):
        outputs = model.signatures[signature](**{name: tf.constant(v) for name, v in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return call


def _python(folder: str) -> Callable:
    sr = SuperResolver.from_folder(folder)
    return lambda _, inputs: sr.predict_arrays(inputs["flux"], inputs["error"], inputs["mask"])


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _memory() -> float:
    """Bytes of memory that this process had at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most) * (1 if sys.platform == "darwin" else 1024)
