"""Batches as Keras takes them, and how long its steps wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from kspecsr.feeds import RecordsFeed, SimulationFeed, split_batch
from kspecsr.feeds.example import Batch


class TimedBatches:
    """Iterates over (x, y), and knows when each pair was handed over.

    Keras reads ahead, in a thread of its own: what a step waits is the time from its beginning until its own
    batch was handed over, nothing where that was earlier. A context that closes the feed, also while that
    thread is waiting for it.

    Args:
        feed: of the batches, in the order of the steps.
    """

    def __init__(self, feed: SimulationFeed | RecordsFeed):
        self._feed = feed
        self._handed: list[float] = []
        self._begun: list[float] = []
        self._reading = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        while True:
            with self._reading:
                if self._closed:
                    return
                pair = split_batch(next(self._feed))
            self._handed.append(time.perf_counter())
            yield pair

    def begin_step(self) -> None:
        """To be called at the beginning of each step."""
        self._begun.append(time.perf_counter())

    def waits(self) -> list[float]:
        """Seconds that each step so far waited."""
        return [max(0.0, handed - begun) for handed, begun in zip(self._handed, self._begun, strict=False)]

    def __enter__(self) -> TimedBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with self._reading:
            self._feed.close()
