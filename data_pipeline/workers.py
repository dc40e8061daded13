"""Work over processes: ordered results, bounded look-ahead, a clean end on Ctrl-C."""

import fcntl
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

LOCK_FILE = ".lock"
OrderedMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


# Matrices here are small: threads of linear algebra beside processes made a build 3.5 times slower.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside get one thread each, unless the environment says otherwise."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def only_process(folder: Path, error: Exception) -> Iterator[None]:
    """Holds the lock file of a folder, however the process ends; raises ``error`` if another one holds it."""
    with (folder / LOCK_FILE).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise error from None
        yield


class WorkerError(OSError):
    """A worker process died before it had answered."""


def prepare_worker() -> None:
    """Make this process ignore Ctrl-C and end with its parent."""
    # Ctrl-C reaches the whole process group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when its parent is gone, even killed, so that none is left behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def worker_pool(workers: int, background: bool = False, ahead: int | None = None) -> Iterator[OrderedMap]:
    """``map`` over processes; results in the order of the items, few of them in memory at a time.

    Processes are spawned, not forked, so that threads of numerical libraries are never copied half-way. When
    the block is left by an exception (Ctrl-C included), what waits is dropped and the processes are ended at
    once. With 0 or 1 ``workers`` this process computes, unless ``background`` asks to leave it free. At most
    ``ahead`` results wait, four per worker when left out.

    Raises:
        WorkerError: if a process died, for instance killed for want of memory.
    """
    if workers < 1 or (workers == 1 and not background):
        yield map
        return
    others = multiprocessing.active_children()
    with _single_threaded():
        pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=prepare_worker
        )
        try:
            yield partial(_bounded_map, pool, ahead or 4 * workers)
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _bounded_map(
    pool: ProcessPoolExecutor, ahead: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """At most ``ahead`` results wait: `Executor.map` would submit all items whatever the consumer does."""
    pending: deque = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died (killed, or out of memory?); rerun the same command to resume; "
            "use fewer --workers"
        ) from error
