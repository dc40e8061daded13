"""Work spread over processes, in order, surviving Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

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


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def worker_pool(workers: int) -> Iterator[OrderedMap]:
    """``map`` over processes; results in the order of the items, few of them in memory at a time.

    Processes are spawned, not forked, so that threads of numerical libraries are never copied half-way.

    Args:
        workers: number of processes; 0 or 1 computes in this one.

    Yields:
        A function like ``map`` for one picklable function and picklable items.
    """
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with _single_threaded(), context.Pool(workers, initializer=_ignore_interrupt) as pool:
        yield partial(_bounded_map, pool, 4 * workers)


def _bounded_map(
    pool: Any, ahead: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """At most ``ahead`` results wait: `imap` alone would run through all items whatever the consumer does."""
    pending: deque = deque()
    for item in items:
        pending.append(pool.apply_async(function, (item,)))
        if len(pending) >= ahead:
            yield pending.popleft().get()
    while pending:
        yield pending.popleft().get()
