"""Work spread over processes, in order, surviving Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``map`` over processes; results in the order of the items, few of them in memory at a time.

    Processes are spawned, not forked, so that threads of numerical libraries are never copied half-way.

    Args:
        function: picklable.
        items: picklable.
        workers: 0 or 1 computes in this process.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_ignore_interrupt) as pool:
        yield from _bounded(pool, function, items, 4 * workers)


def _bounded(pool, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """At most ``ahead`` results wait: `imap` alone would run through all items whatever the consumer does."""
    pending = []
    for item in items:
        pending.append(pool.apply_async(function, (item,)))
        if len(pending) >= ahead:
            yield pending.pop(0).get()
    while pending:
        yield pending.pop(0).get()
