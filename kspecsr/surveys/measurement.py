"""The speed, memory and storage of a survey, beside the networks alone, in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from distributed import Client

from kspecsr.surveys.cost import MeasuredCosts
from kspecsr.surveys.engine import ClusterOptions, SurveySummary, connected, run_partitions
from kspecsr.surveys.hats_catalogue import write_hats
from kspecsr.surveys.memory_watch import MemoryWatch
from kspecsr.surveys.output import is_done, table_names
from kspecsr.surveys.partition import load_resolver
from kspecsr.surveys.plan import PlannedFile, partition_counts, write_files_plan
from kspecsr.surveys.reading import read_partition
from kspecsr.surveys.settings import CHUNK, SurveySettings

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
    def core(self) -> float:
        """Seconds of a core per spectrum, without each worker's first partition; NaN without another."""
        reports = self.summary.reports[len({one.process for one in self.summary.reports}) :]
        spectra = sum(one.objects + one.failures for one in reports)
        return sum(one.core for one in reports) / spectra if spectra else float("nan")

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


def measure_costs(
    folder: Path, settings: SurveySettings, cluster: ClusterOptions, run: EndToEnd
) -> MeasuredCosts:
    """What goes into the arithmetic of larger surveys, out of a finished run and its folder."""
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
        core_seconds=run.core,
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
    files = (PlannedFile(f"{where}.{k}", state=str(os.stat(where).st_mtime_ns)) for k in range(_STATED))
    write_files_plan(place, files, 1024)
    seconds = (time.perf_counter() - started) / _STATED
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    return seconds
