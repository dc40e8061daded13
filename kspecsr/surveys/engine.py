"""Partitions over Dask workers, a bounded number of them in flight."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dask
from distributed import Client, Future, LocalCluster, as_completed
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from kspecsr.surveys.output import SurveyError, is_done, remove_leftovers
from kspecsr.surveys.partition import PartitionReport, process_partition
from kspecsr.surveys.reading import partition_counts
from kspecsr.surveys.tables import SurveySettings

# A worker has one partition in hand and one that waits, so that it never idles and nothing piles up.
PER_THREAD = 2
_MOST_FAILED = 3  # partitions; more of them have one cause, which the next would meet as well
# A scheduler that is there answers in milliseconds; its workers may have yet to start.
_ANSWER, _PATIENCE = "10 s", "120 s"
_THREADS_OF = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class ClusterOptions:
    """Processes that do the work.

    Attributes:
        workers: number of processes of a local cluster.
        threads: threads of TensorFlow in each; 0 divides the cores.
        memory: limit of each process [bytes], above which it is restarted.
        dashboard: port of the dashboard; 0 takes a free one.
        scheduler: address of a running scheduler instead; empty for a local cluster.
    """

    workers: int = 2
    threads: int = 0
    memory: int = 4 * 2**30
    dashboard: int = 8787
    scheduler: str = ""

    @property
    def threads_each(self) -> int:
        """Threads of TensorFlow per process of a local cluster."""
        return self.threads or max(1, _cores() // self.workers)


@dataclass
class SurveySummary:
    """Summary of a run.

    Attributes:
        reports: one per partition that was made.
        there: inputs in partitions that existed already.
        failed: partition and error text of each that failed.
        ended: why the run ended early; empty if it did not.
    """

    reports: list[PartitionReport] = field(default_factory=list)
    there: int = 0
    failed: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def complete(self) -> bool:
        """Whether every partition is there."""
        return not self.failed and not self.ended


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Client]:
    """A client of a cluster: of our own processes, or of a scheduler elsewhere.

    Raises:
        SurveyError: for a scheduler that does not answer or has no worker.
    """
    _quiet_loggers()
    if options.scheduler:
        with dask.config.set({"distributed.comm.timeouts.connect": _ANSWER}):  # its loss is seen as soon
            client = _client_of(options.scheduler)
            try:
                yield client
            finally:
                client.close(timeout=5)
        return
    # a crowded machine may take a minute to start a process
    with dask.config.set({"distributed.comm.timeouts.connect": _PATIENCE}):
        # Only while they start, since signal handlers are inherited.
        with _deaf_to_interrupts():
            cluster = _local(options)
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def _client_of(address: str) -> Client:
    try:
        client = Client(address, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise SurveyError(
            f"--scheduler {address}: no answer ({error}); start one with `dask scheduler` and workers with "
            "`dask worker ADDRESS --nthreads 1`"
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        client.close()
        raise SurveyError(
            f"--scheduler {address}: has no worker after {_PATIENCE}; start some with "
            f"`dask worker {address} --nthreads 1`"
        ) from None
    return client


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tensorflow_threads(client: Client, options: ClusterOptions) -> int:
    """Threads of TensorFlow per process; on a cluster elsewhere as many as Dask gave each worker."""
    if options.threads or not options.scheduler:
        return options.threads_each
    return max(1, min(client.nthreads().values(), default=1))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that start meanwhile leave Ctrl-C, which a terminal sends to all, to this one."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _quiet_loggers() -> None:
    """Keeps tracebacks of lost connections off the terminal: what they mean is in `SurveySummary`."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _local(options: ClusterOptions) -> LocalCluster:
    threads = str(options.threads_each)
    return LocalCluster(
        n_workers=options.workers,
        # The networks take one batch at a time; threads are TensorFlow's.
        threads_per_worker=1,
        processes=True,
        memory_limit=options.memory,
        host="127.0.0.1",
        dashboard_address=f"127.0.0.1:{_free_port(options.dashboard)}",
        silence_logs=logging.CRITICAL,
        # By the environment: linear algebra reads it when it is loaded, before any code of a worker runs.
        env={**dict.fromkeys(_THREADS_OF, threads), "DASK_LOGGING__DISTRIBUTED": "critical"},
    )


def _free_port(wanted: int) -> int:
    """The port, or 0 (any) where another program has it."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def run_partitions(
    client: Client,
    folder: Path,
    settings: SurveySettings,
    model: Path,
    threads: int,
    advance: Callable[[int], object],
    in_flight: int = 0,
) -> SurveySummary:
    """Makes every partition that is not there.

    Args:
        client: of the cluster.
        folder: of the output; the same path on all workers.
        settings: of the run.
        model: folder; the same path on all workers.
        threads: of TensorFlow per worker process.
        advance: takes the number of inputs that are finished.
        in_flight: partitions handed out at a time, at most; 0 for `PER_THREAD` per thread of the workers.

    Returns:
        Summary of the run, also where workers, the scheduler or the disk failed.
    """
    summary = SurveySummary()
    counts = partition_counts(folder)
    # A generator: of a million partitions, most there, the first missing one starts at once.
    waiting = _to_do(folder, settings, counts, summary, advance)

    def submit() -> Future | None:
        k = next(waiting, None)
        if k is None:
            return None
        arguments = (str(folder), settings, k, counts[k], str(model), threads)
        # With the client's name: a scheduler that outlived an earlier client would answer with what that one
        # had asked for.
        name = f"partition-{k:06d}-{client.id[-8:]}"
        return client.submit(process_partition, *arguments, key=name, pure=False, retries=1)

    running: dict[Future, int] = {}
    try:
        done = as_completed(loop=client.loop)
        while True:
            # Counted anew each time: workers of a cluster come and go.
            limit = in_flight or PER_THREAD * max(1, sum(client.nthreads().values()))
            while len(running) < limit and (future := submit()) is not None:
                running[future] = int(future.key.split("-")[1])
                done.add(future)
            if not running:
                break
            future = next(done)
            partition = running.pop(future)
            _take(future, partition, summary)
            advance(counts[partition])
            if len(summary.failed) >= _MOST_FAILED:
                summary.ended = f"{_MOST_FAILED} partitions failed"
                break
    except (FutureCancelledError, CommClosedError, OSError, TimeoutError, RuntimeError) as error:
        summary.ended = _why(error)
    finally:
        for future in running:
            # Or the scheduler would go on with them after this run has said that it ended.
            future.release()
    # Not before: temporary files of a partition that is still being made would go.
    if summary.complete:
        remove_leftovers(folder, settings)
    return summary


def _why(error: Exception) -> str:
    """In words: a file of the output that cannot be read, or else the connection."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        return text
    return f"the scheduler is gone ({text})"


def _to_do(folder, settings, counts, summary: SurveySummary, advance) -> Iterator[int]:
    """Partitions that are not there; looked for while others are under way."""
    for k, count in enumerate(counts):
        if is_done(folder, settings, k, count):
            summary.there += count
            advance(count)
        else:
            yield k


def _take(future: Future, partition: int, summary: SurveySummary) -> None:
    try:
        summary.reports.append(future.result())
    except (FutureCancelledError, CommClosedError):
        raise
    except Exception as error:  # of any kind: it happened on a worker
        text = " ".join(str(error).split()) or type(error).__name__
        summary.failed.append(f"partition {partition}: {text}")
