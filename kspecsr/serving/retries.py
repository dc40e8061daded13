"""Asking again when an endpoint is busy, restarting, or out of reach for a moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kspecsr.serving.endpoint import EndpointError

Answer = TypeVar("Answer")
_JITTER = 0.25  # so that many callers do not come back at the same moment


@dataclass(frozen=True)
class Retries:
    """How often, and after how long.

    Attributes:
        attempts: in all.
        first_wait: seconds before the second attempt; each further wait is twice as long.
        longest_wait: seconds.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 15.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError(f"retries: expected one attempt or more and waits of 0 or more, got {self}")

    def wait_before(self, attempt: int) -> float:
        """Seconds before an attempt (the second one is 1), without the random part."""
        return min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """Asks until there is an answer.

        Raises:
            EndpointError: the last one, where all attempts failed or another one would fail as well.
        """
        attempt = 1
        while True:
            try:
                return ask()
            except EndpointError as error:
                if not error.passing:
                    raise
                if attempt >= self.attempts:
                    raise EndpointError(f"{error} (after {attempt} attempts)") from error
            time.sleep(self.wait_before(attempt) * (1.0 + random.uniform(-_JITTER, _JITTER)))
            attempt += 1
