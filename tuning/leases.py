"""Signs of life of the workers: a file that each touches, and who has stopped doing so.

A killed worker tells nobody. The chief looks at files, which all workers have to share anyway, and at its
own clock alone: clocks of other machines may differ.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

_BEATS = 6  # in the time after which a worker counts as lost


def _path(folder: Path, worker: str) -> Path:
    return folder / "workers" / f"{worker}.alive"


class SignOfLife:
    """A context in which a worker's file is touched over and over.

    Args:
        folder: of the stage's sweep.
        worker: its tuner id.
        lease: seconds without a sign after which a worker counts as lost.
    """

    def __init__(self, folder: Path, worker: str, lease: float):
        self._path, self._pause = _path(folder, worker), lease / _BEATS
        self._end = threading.Event()

    def __enter__(self) -> SignOfLife:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def _beat(self) -> None:
        while not self._end.wait(self._pause):
            self._path.touch()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


class LostWorkers:
    """Tells which workers have given no sign of life for the length of a lease.

    Args:
        folder: of the stage's sweep.
        lease: in seconds.
        clock: seconds, never going back.
    """

    def __init__(self, folder: Path, lease: float, clock: Callable[[], float] = time.monotonic):
        self._folder, self._lease, self._clock = folder, lease, clock
        self._seen: dict[str, tuple[int, float]] = {}

    def is_lost(self, worker: str) -> bool:
        """Whether its last sign, as first seen here, is too long ago."""
        path = _path(self._folder, worker)
        sign = path.stat().st_mtime_ns if path.is_file() else 0
        now = self._clock()
        if worker not in self._seen or self._seen[worker][0] != sign:
            self._seen[worker] = (sign, now)
        return now - self._seen[worker][1] > self._lease
