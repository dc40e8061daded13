"""Speed of an exported model, beside the Python path and a dense product; ratios within one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from benchmarks.simulation_speed import peak_memory
from benchmarks.training_speed import largest_product, operations
from kspecsr.feeds.simulated import validation_examples
from kspecsr.model_folder import load_composed, read_settings
from kspecsr.models import RECORD_UNIT, redshift_bins
from kspecsr.results.data import ModelIdentity
from kspecsr.results.prism_input import PrismInput, prism_wavelength
from kspecsr.serving.saved_model import WARM_UP_FILE, warm_up_inputs
from kspecsr.serving.signatures import CLASSIFY_REDSHIFT, FROM_WAVELENGTH, SERVING_DEFAULT
from kspecsr.super_resolver import SuperResolver

_SEED = 7
_LEAST_CALLS = 100  # of a percentile
Arrays = dict[str, np.ndarray]


def read_warm_up(folder: str | os.PathLike) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each warm-up request of an exported version."""
    path = Path(folder) / "assets.extra" / WARM_UP_FILE
    for record in tf.data.TFRecordDataset(os.fspath(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


@dataclass(frozen=True)
class Latency:
    """Seconds that single calls took.

    Attributes:
        median: half of the calls took less.
        late: 99 % of the calls took less.
    """

    median: float
    late: float

    def __str__(self) -> str:
        return f"p50 {1e3 * self.median:.1f} ms, p99 {1e3 * self.late:.1f} ms"


class ServingSpeed:
    """An exported model and the same model in Python, with spectra to give them.

    Args:
        exported: folder of a version.
        folder: model folder that it was exported from.
        most: spectra at most in a batch.
    """

    def __init__(self, exported: str | os.PathLike, folder: str | os.PathLike, most: int):
        settings = read_settings(folder)
        config = settings.preset.model
        self._loaded = tf.saved_model.load(os.fspath(exported))
        self._network = load_composed(folder)
        identity = ModelIdentity(settings.name, "", config.grid)
        self._python = SuperResolver(self._network, identity, redshift_bins(config))
        batch = validation_examples(max(most, 2), _SEED, settings.preset.feed, config.grid)
        self._prism = {
            "flux": (batch["prism_flux"] * RECORD_UNIT).astype(np.float32),
            "error": (batch["prism_error"] * RECORD_UNIT).astype(np.float32),
            "mask": batch["prism_mask"],
        }
        moved = prism_wavelength()[:-1] + 0.3 * np.diff(prism_wavelength())
        masked = self._prism["mask"][:, :-1]
        self._own_pixels = {
            "wavelength": np.tile(moved, (len(masked), 1)),
            "flux": np.where(masked, np.nan, self._prism["flux"][:, :-1]).astype(np.float64),
            "error": self._prism["error"][:, :-1].astype(np.float64),
        }

    def report(self, batch_sizes: Sequence[int], seconds: float) -> Iterator[str]:
        """Lines of text, as they are measured.

        Args:
            batch_sizes: for throughput.
            seconds: for each.
        """
        yield from self._latencies(seconds)
        for size in batch_sizes:
            (served, python), _ = _alternating(
                [self._signature(SERVING_DEFAULT, self._prism, size), self._arrays(size)], seconds
            )
            yield (
                f"batch of {size}: {SERVING_DEFAULT} {size / served.median:.1f} spectra/s, Python path "
                f"(predict_arrays) {size / python.median:.1f}; ratio {python.median / served.median:.2f}"
            )
        yield self._beside_product(max(batch_sizes), seconds)
        yield from self._other_signatures(max(batch_sizes), seconds)

    def _latencies(self, seconds: float) -> Iterator[str]:
        """One spectrum: the signature, the networks in Python, and all of the Python path."""
        given = PrismInput(None, *(self._prism[name][0] for name in ("flux", "error", "mask")))
        calls = [
            self._signature(SERVING_DEFAULT, self._prism, 1),
            self._arrays(1),
            lambda: self._python.resolve([given]),
        ]
        (served, arrays, python), count = _alternating(calls, seconds, _LEAST_CALLS)
        yield f"one spectrum, {count} calls each: {SERVING_DEFAULT} {served}"
        yield f"one spectrum: Python path, predict_arrays {arrays}; ratio {arrays.median / served.median:.2f}"
        yield f"one spectrum: Python path, resolve {python}; ratio {python.median / served.median:.2f}"

    def _other_signatures(self, size: int, seconds: float) -> Iterator[str]:
        calls = [
            self._signature(SERVING_DEFAULT, self._prism, size),
            self._signature(FROM_WAVELENGTH, self._own_pixels, size),
            self._signature(CLASSIFY_REDSHIFT, self._prism, size),
        ]
        (default, own, redshift), _ = _alternating(calls, seconds)
        for name, one in ((FROM_WAVELENGTH, own), (CLASSIFY_REDSHIFT, redshift)):
            yield (
                f"batch of {size}: {name} {size / one.median:.1f} spectra/s, "
                f"{one.median / default.median:.2f} of the time of {SERVING_DEFAULT}"
            )

    def _beside_product(self, size: int, seconds: float) -> str:
        """Arithmetic per second beside that of a dense product as large as the largest in the networks."""
        arrays = {f"prism_{name}": values[:size] for name, values in self._prism.items()}
        arrays["redshift"] = np.full(size, np.nan, np.float32)
        specifications = {name: tf.TensorSpec(values.shape, values.dtype) for name, values in arrays.items()}
        graph = tf.function(self._network, autograph=False).get_concrete_function(specifications).graph
        sizes, arithmetic = largest_product(graph), sum(count for _, count in operations(graph))
        rows, inner, columns = sizes
        rng = np.random.default_rng(_SEED)
        first = tf.constant(rng.normal(size=(rows, inner)).astype(np.float32))
        second = tf.constant(rng.normal(size=(inner, columns)).astype(np.float32))
        product = tf.function(lambda: tf.matmul(first, second), autograph=False)
        (served, dense), _ = _alternating(
            [self._signature(SERVING_DEFAULT, self._prism, size), lambda: product().numpy()], seconds
        )
        rate, possible = arithmetic / served.median, 2.0 * rows * inner * columns / dense.median
        return (
            f"batch of {size}: networks {arithmetic / size / 1e9:.2f} GFLOP per spectrum, {rate / 1e9:.0f} "
            f"GFLOP/s; dense float32 product {rows} x {inner} x {columns}: {possible / 1e9:.0f} GFLOP/s; "
            f"share {rate / possible:.0%}"
        )

    def _signature(self, name: str, arrays: Arrays, size: int) -> Callable[[], object]:
        """A call with arrays, answered with arrays."""
        function = self._loaded.signatures[name]
        part = {key: values[:size] for key, values in arrays.items()}

        def call():
            outputs = function(**{key: tf.constant(values) for key, values in part.items()})
            return {key: value.numpy() for key, value in outputs.items()}

        return call

    def _arrays(self, size: int) -> Callable[[], object]:
        part = [self._prism[name][:size] for name in ("flux", "error", "mask")]
        return lambda: self._python.predict_arrays(*part)


def _alternating(
    calls: Sequence[Callable[[], object]], seconds: float, least: int = 2
) -> tuple[list[Latency], int]:
    """Times calls in turn, so that what else the machine does falls on all alike; the first of each is free.

    Args:
        calls: to be timed.
        seconds: for each.
        least: calls of each.

    Returns:
        Latency of each, and how often each was called.
    """
    for call in calls:
        call()
    taken: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    while len(taken[0]) < least or time.perf_counter() - begin < seconds * len(calls):
        for times, call in zip(taken, calls, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [Latency(*np.quantile(times, (0.5, 0.99))) for times in taken], len(taken[0])


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
        memory: largest memory that loading and answering one spectrum added [MB].
        memory_batch: the same after a batch of 64 [MB].
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
            f"memory {self.memory:.0f} MB for one spectrum, {self.memory_batch:.0f} MB after 64"
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
    code = f"from benchmarks.serving_speed import measured; print(measured(*{arguments}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if run.returncode:
        raise OSError(f"the process that starts the {kind} failed: {run.stderr.strip()[-500:]}")
    return ColdStart(**json.loads(run.stdout.splitlines()[-1]))


def measured(kind: str, exported: str, folder: str) -> str:
    """Starts and measures in this process; JSON."""
    before, begin = peak_memory(), time.perf_counter()
    call = _python(folder) if kind == PYTHON else _signatures(exported)
    load, begin = time.perf_counter() - begin, time.perf_counter()
    if kind == WARMED:
        for signature, inputs in read_warm_up(exported):
            call(signature, inputs)
    warm_up = time.perf_counter() - begin if kind == WARMED else 0.0
    one = _flat(1)
    times = [_seconds(lambda: call(SERVING_DEFAULT, one)) for _ in range(2)]
    memory = peak_memory() - before
    many = _flat(64)
    call(SERVING_DEFAULT, many)
    return json.dumps(asdict(ColdStart(load, warm_up, *times, memory, peak_memory() - before)))


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
