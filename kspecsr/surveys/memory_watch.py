"""Resident memory of a process and all its children, over time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psutil


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
