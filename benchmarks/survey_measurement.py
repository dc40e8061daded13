"""The speed, memory and storage of a survey, beside the networks alone, in one run."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from distributed import Client

from kspecsr.surveys.engine import ClusterOptions, SurveySummary, connected, run_partitions
from kspecsr.surveys.hats_catalogue import write_hats
from kspecsr.surveys.output import is_done, table_names
from kspecsr.surveys.partition import load_resolver, process_partition
from kspecsr.surveys.reading import PLAN_FILE, partition_counts, read_partition, write_files_plan
from kspecsr.surveys.tables import CHUNK, OBJECTS, SurveyInput, SurveySettings


@dataclass(frozen=True)
class MemorySample:
    """Memory at one moment.

    Attributes:
        seconds: since the start.
        client: of this process [bytes].
        workers: of the largest child [bytes].
    """

    seconds: float
    client: int
    workers: int


class MemoryWatch:
    """Samples memory in a thread while the block runs.

    Args:
        interval: between samples [s].
    """

    def __init__(self, interval: float = 1.0):
        self.samples: list[MemorySample] = []
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self._interval):
            children = [_resident(child) for child in me.children(recursive=True)]
            self.samples.append(
                MemorySample(time.monotonic() - self._started, _resident(me), max(children, default=0))
            )

    def quarters(self, start: float, stop: float) -> list[tuple[int, int]]:
        """Largest client and worker memory in each quarter of a stretch of time [bytes]."""
        found = []
        for k in range(4):
            low, high = (start + (stop - start) * part / 4 for part in (k, k + 1))
            part = [one for one in self.samples if low <= one.seconds <= high]
            found.append(
                (max((one.client for one in part), default=0), max((one.workers for one in part), default=0))
            )
        return found


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it ended between listing and asking
        return 0


_NOTHING = 200  # tasks without work, for the time of the scheduler
_STATED = 2000  # files that are listed, for the time of that


@dataclass(frozen=True)
class EndToEnd:
    """A survey that was watched.

    Attributes:
        seconds: from nothing to closed processes, the HATS catalogue included.
        started: until as many partitions were there as there are workers [s].
        first: spectra in these partitions.
        finished: until the last partition was there [s].
        summary: of the run.
        quarters: largest memory of client and of a worker in each quarter after the start [bytes].
        hats: seconds of the HATS catalogue.
    """

    seconds: float
    started: float
    first: int
    finished: float
    summary: SurveySummary
    quarters: list[tuple[int, int]]
    hats: float

    @property
    def steady_rate(self) -> float:
        """Spectra per second after the first partitions; NaN where there is only one."""
        rest = sum(one.objects + one.failures for one in self.summary.reports) - self.first
        duration = self.finished - self.started
        return rest / duration if rest > 0 and duration > 0 else float("nan")


def network_rate(
    folder: str, settings: SurveySettings, model: str, threads: int, seconds: float
) -> tuple[float, float]:
    """Speed of `SuperResolver.predict_arrays` alone, on the survey's spectra, without start-up.

    Args:
        folder: of the output, with its plan.
        settings: of the run.
        model: folder.
        threads: of TensorFlow.
        seconds: to measure for.

    Returns:
        Spectra per second, and seconds of a core per spectrum.
    """
    resolver = load_resolver(model, settings.model_sha256, threads)
    inputs = [one.spectrum for one in read_partition(Path(folder), settings, 0) if one.spectrum][:CHUNK]
    inputs = [inputs[i % len(inputs)] for i in range(CHUNK)]
    arrays = [np.stack([getattr(one, name) for one in inputs]) for name in ("flux", "error", "mask")]
    resolver.predict_arrays(*arrays)
    calls, start, core = 0, time.perf_counter(), time.process_time()
    while calls < 2 or time.perf_counter() - start < seconds:
        resolver.predict_arrays(*arrays)
        calls += 1
    spectra = calls * CHUNK
    return spectra / (time.perf_counter() - start), (time.process_time() - core) / spectra


@dataclass(frozen=True)
class NetworkSpeed:
    """The networks alone.

    Attributes:
        single: spectra per second in one process with all threads.
        together: in all workers at once.
        core: seconds of a core per spectrum, in the workers.
    """

    single: float
    together: float
    core: float


def network_speed(
    folder: Path, settings: SurveySettings, model: Path, cluster: ClusterOptions, seconds: float
) -> NetworkSpeed:
    """Measures the networks alone, in processes of their own; arguments as in `network_rate`."""
    every = cluster.workers * cluster.threads_each
    one = ClusterOptions(1, every, 2 * cluster.memory, 0)
    arguments = (str(folder), settings, str(model))
    with connected(one) as client:
        single, _ = client.submit(network_rate, *arguments, every, seconds).result()
    with connected(cluster) as client:
        client.wait_for_workers(cluster.workers)
        found = client.run(network_rate, *arguments, cluster.threads_each, seconds).values()
    rates, cores = zip(*found, strict=True)
    return NetworkSpeed(single, sum(rates), sum(cores) / len(cores))


@dataclass(frozen=True)
class SideBySide:
    """Networks alone and whole partitions, in turn in the same processes: other programs disturb both.

    Attributes:
        networks: seconds per spectrum and process.
        partitions: likewise, from inputs to tables.
        networks_core: seconds of a core per spectrum.
        partitions_core: likewise.
    """

    networks: float
    partitions: float
    networks_core: float
    partitions_core: float


def _in_turn(folder: str, settings: SurveySettings, model: str, threads: int, rounds: int) -> list[float]:
    """Sums of `SideBySide` over rounds, and their number; in one worker."""
    counts = partition_counts(Path(folder))
    sums = [0.0] * 4
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(Path(folder) / PLAN_FILE, scratch)
        for k in range(-1, rounds):  # the first one starts everything up
            number = max(k, 0) % len(counts)
            shutil.rmtree(Path(scratch) / OBJECTS, ignore_errors=True)
            start, core = time.perf_counter(), time.process_time()
            process_partition(scratch, settings, number, counts[number], model, threads)
            whole = (time.perf_counter() - start) / counts[number]
            whole_core = (time.process_time() - core) / counts[number]
            seconds = min(whole * counts[number], 20.0)
            rate, alone_core = network_rate(folder, settings, model, threads, seconds)
            if k >= 0:
                found = (1.0 / rate, whole, alone_core, whole_core)
                sums = [a + b for a, b in zip(sums, found, strict=True)]
    return [one / rounds for one in sums]


def side_by_side(
    folder: Path, settings: SurveySettings, model: Path, cluster: ClusterOptions, rounds: int
) -> SideBySide:
    """Measures networks and partitions in turn, in all workers at once.

    Args:
        folder: of the output, with its plan; its tables are left alone.
        settings: of the run.
        model: folder.
        cluster: local processes.
        rounds: of a partition and as long a time of the networks.
    """
    with connected(cluster) as client:
        client.wait_for_workers(cluster.workers)
        arguments = (str(folder), settings, str(model), cluster.threads_each, rounds)
        found = list(client.run(_in_turn, *arguments).values())
    return SideBySide(*(sum(column) / len(column) for column in zip(*found, strict=True)))


def measure_survey(
    folder: Path,
    settings: SurveySettings,
    model: Path,
    cluster: ClusterOptions,
    advance: Callable[[int], object],
) -> EndToEnd:
    """Runs a survey as the command does, watching time and memory."""
    times: list[float] = []
    first: list[int] = []

    def note(n: int) -> None:
        times.append(time.monotonic() - start)
        first.append(n)
        advance(n)

    start = time.monotonic()
    with MemoryWatch() as watch:
        with connected(cluster) as client:
            summary = run_partitions(client, folder, settings, model, cluster.threads_each, note)
        before = time.monotonic()
        write_hats(folder, settings)
        end = time.monotonic()
    if not summary.complete:
        raise OSError(f"the survey ended early: {summary.ended} {' '.join(summary.failed)}")
    # each worker has had its first partition by then
    k = min(cluster.workers, len(times)) - 1
    quarters = watch.quarters(times[k], times[-1])
    return EndToEnd(end - start, times[k], sum(first[: k + 1]), times[-1], summary, quarters, end - before)


@dataclass(frozen=True)
class MeasuredCosts:
    """What one machine was seen to need.

    Attributes:
        core_seconds: of a worker core per spectrum, all included.
        start_up: of a worker, until its first partition is under way [core s].
        partition_size: spectra per partition.
        table_bytes: table to bytes per spectrum.
        plan: per input, listing and hashing [s]; one process.
        scheduling: per partition, with nothing to do in it [s]; one scheduler.
        checking: per partition, whether it is done [s]; the client.
        hats: per object, for the HATS catalogue [s]; one process.
    """

    core_seconds: float
    start_up: float
    partition_size: int
    table_bytes: Mapping[str, float]
    plan: float
    scheduling: float
    checking: float
    hats: float


def measure_costs(
    folder: Path, settings: SurveySettings, cluster: ClusterOptions, run: EndToEnd, core_seconds: float
) -> MeasuredCosts:
    """What goes into the arithmetic of larger surveys, out of a finished run and its folder.

    Args:
        folder: of the output.
        settings: of the run.
        cluster: local processes.
        run: that was measured.
        core_seconds: per spectrum, all included.
    """
    counts = partition_counts(folder)
    started = time.perf_counter()
    for k, count in enumerate(counts):
        is_done(folder, settings, k, count)
    checking = (time.perf_counter() - started) / len(counts)
    with connected(cluster) as client:
        scheduling = _scheduling(client)
    sizes = {
        name: sum(path.stat().st_size for path in (folder / name).glob("part-*.parquet")) / settings.total
        for name in table_names(settings)
    }
    return MeasuredCosts(
        core_seconds=core_seconds,
        start_up=max(0.0, run.started - run.first / run.steady_rate),
        partition_size=settings.partition_size,
        table_bytes=sizes,
        plan=_listing(folder),
        scheduling=scheduling,
        checking=checking,
        hats=run.hats / settings.total,
    )


def _scheduling(client: Client) -> float:
    """Seconds per task that does nothing, one at a time in flight per worker as the engine does."""
    client.wait_for_workers(1)
    client.submit(abs, -1, pure=False).result()
    started = time.perf_counter()
    client.gather([client.submit(abs, -k, pure=False) for k in range(_NOTHING)])
    return (time.perf_counter() - started) / _NOTHING


def _listing(folder: Path) -> float:
    """Seconds per file that is asked for its size and written to a plan."""
    place, where = folder / ".listing", os.fspath(folder / "survey.json")
    place.mkdir(exist_ok=True)
    started = time.perf_counter()
    files = (SurveyInput(0, "", f"{where}.{k}") for k in range(_STATED))
    write_files_plan(place, files, 1024)
    seconds = (time.perf_counter() - started) / _STATED
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    return seconds
