"""Where a served model answers: an address in one line of text, and what can go wrong there."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np

SCHEMES = ("grpc", "grpcs", "http", "https")
DEFAULT_MODEL_NAME = "kspecsr"


class EndpointError(OSError):
    """The endpoint cannot be reached, or does not answer as it should.

    Attributes:
        passing: whether the same request may well succeed a little later.
    """

    def __init__(self, text: str, passing: bool = False):
        super().__init__(text)
        self.passing = passing


@dataclass(frozen=True)
class Address:
    """Address of a served model.

    Attributes:
        scheme: one of `SCHEMES`; the ones with s are encrypted.
        host: with port.
        model: name that the server has for it.
        version: of the model; None for the newest.
    """

    scheme: str
    host: str
    model: str = DEFAULT_MODEL_NAME
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``SCHEME://HOST:PORT[/MODEL[/VERSION]]``.

        Raises:
            ValueError: for anything else, saying what is expected.
        """
        form = "SCHEME://HOST:PORT[/MODEL[/VERSION]], such as grpc://localhost:8500/kspecsr"
        parts = urlsplit(text)
        path = [part for part in parts.path.split("/") if part]
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in SCHEMES or not parts.hostname or port is None or len(path) > 2:
            raise ValueError(f"endpoint {text!r}: expected {form}, with a scheme out of {', '.join(SCHEMES)}")
        if len(path) == 2 and not path[1].isdecimal():
            raise ValueError(f"endpoint {text!r}: expected a number as VERSION, got {path[1]!r} ({form})")
        model = path[0] if path else DEFAULT_MODEL_NAME
        return cls(parts.scheme, parts.netloc, model, int(path[1]) if len(path) == 2 else None)

    def __str__(self) -> str:
        version = "" if self.version is None else f"/{self.version}"
        return f"{self.scheme}://{self.host}/{self.model}{version}"


class Transport(ABC):
    """Sends one request and takes the answer.

    Args:
        address: of the model.
        timeout: seconds that an answer may take.
    """

    def __init__(self, address: Address, timeout: float):
        self.address = address
        self.timeout = timeout

    @abstractmethod
    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a signature; safe to be called from several threads.

        Raises:
            EndpointError: saying which endpoint, and what it answered.
        """


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
