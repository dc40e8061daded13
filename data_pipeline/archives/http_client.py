"""Polite HTTP: a client that says who asks, paces its requests, and retries what is worth retrying."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

Result = TypeVar("Result")

# Statuses that mean "not now" rather than "no".
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class TransferError(Exception):
    """A request that failed for good; the text names the URL and the reason."""


class NotOnServerError(TransferError):
    """The server does not have it, or not for us (status 400 to 499)."""


class RetryableError(Exception):
    """A request that failed and may succeed if repeated.

    Attributes:
        wait: seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class InterruptedTransferError(Exception):
    """The user asked to stop."""


@dataclass(frozen=True)
class Politeness:
    """Pace and patience of requests to a server.

    Attributes:
        delay: least time between the starts of two requests [s], all connections together.
        retries: how often a request that failed is repeated.
        backoff: wait before the first repetition [s]; doubles with each further one.
        longest_wait: no single wait is longer [s], whatever the server asks.
        timeout: a connection that is silent for so long has failed [s].
    """

    delay: float = 0.2
    retries: int = 5
    backoff: float = 1.0
    longest_wait: float = 300.0
    timeout: float = 60.0

    def __post_init__(self):
        """Raise ValueError for a negative number."""
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name}={value} must not be negative.")


def user_agent() -> str:
    """User agent for the server's log: the project and its version."""
    try:
        release = version("kspecsr")
    except PackageNotFoundError:  # run from a checkout that is not installed
        release = "unreleased"
    return f"kspecsr/{release} (JADES spectra download; python-requests/{requests.__version__})"


class HttpClient:
    """Paced, retrying requests; may be used from several threads."""

    def __init__(self, politeness: Politeness | None = None):
        self.politeness = politeness or Politeness()
        self.stop = threading.Event()
        self._pace = threading.Lock()
        self._next_start = 0.0
        self._local = threading.local()

    def slow_down(self, delay: float) -> None:
        """Keep at least ``delay`` [s] between requests from now on."""
        self.politeness = replace(self.politeness, delay=max(delay, self.politeness.delay))

    def get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Send one request; the caller reads the body from the open response and closes it.

        Raises:
            InterruptedTransferError: after `stop` was set.
            NotOnServerError: if the server does not have it, or not for us.
            RetryableError: if the connection failed, or the server says "not now".
            TransferError: for any other failure.
        """
        self._take_turn()
        try:
            response = self._session().get(url, headers=headers, stream=True, timeout=self.politeness.timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise RetryableError(f"no answer from {url}: {error}") from error
        except requests.RequestException as error:
            raise TransferError(f"{url}: {error}") from error
        if response.ok or response.status_code == requests.codes.requested_range_not_satisfiable:
            return response
        reason = f"the server answers {response.status_code} ({response.reason}) for {url}"
        response.close()
        if response.status_code in _TRY_AGAIN:
            raise RetryableError(reason, _seconds(response.headers.get("Retry-After")))
        raise (NotOnServerError if response.status_code < 500 else TransferError)(reason)

    def text(self, url: str) -> tuple[str, str]:
        """Fetch a page, with retries.

        Returns:
            The text, and the URL that it came from in the end (after redirections).

        Raises:
            TransferError: if it cannot be had.
        """

        def once() -> tuple[str, str]:
            with closing(self.get(url)) as response:
                try:
                    return response.text, response.url
                except requests.RequestException as error:
                    raise RetryableError(f"{url} broke off: {error}") from error

        return self.retrying(once)

    def retrying(self, action: Callable[[], Result]) -> Result:
        """Run ``action``, again after each `RetryableError`, waiting longer every time.

        Raises:
            TransferError: with the last reason, once the retries are used up.
        """
        attempt = 1
        while True:
            try:
                return action()
            except RetryableError as error:
                if attempt > self.politeness.retries:
                    raise TransferError(f"{error} (tried {attempt} times)") from error
                # One loop for all that may pass: no answer, "not now", a body that breaks off or is damaged.
                # Up to a quarter more at random, so that several clients do not come back together
                backoff = self.politeness.backoff * 2 ** (attempt - 1) * random.uniform(1, 1.25)
                self.sleep(min(max(error.wait or 0.0, backoff), self.politeness.longest_wait))
                attempt += 1

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until `stop` is set."""
        if self.stop.wait(seconds):
            raise InterruptedTransferError

    def _session(self) -> requests.Session:
        # requests does not promise that one session serves several threads
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers["User-Agent"] = user_agent()
        return self._local.session

    def _take_turn(self) -> None:
        with self._pace:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self.politeness.delay
        self.sleep(start - now)


def _seconds(retry_after: str | None) -> float | None:
    """Wait that a Retry-After header asks for, in seconds or as a date; None for an unreadable one."""
    with suppress(InvalidHeader):
        return Retry().parse_retry_after(retry_after) if retry_after else None
