"""Errors of TensorFlow and JAX, which are neither ValueError nor OSError, as one line of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_BACKENDS = ("tensorflow", "jax", "jaxlib")
_FULL = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "MemoryError", "out of memory")


class NetworkError(RuntimeError):
    """The networks could not be run; the text says why, and what to do."""


@contextmanager
def named_backend_errors() -> Iterator[None]:
    """Turns errors of the backend, and a lack of memory, into `NetworkError`; others pass."""
    try:
        yield
    except Exception as error:
        if not _of_backend(error):
            raise
        name = type(error).__name__
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        advice = ""
        if any(word in f"{name} {error}" for word in _FULL):
            advice = "; memory is full: end other programs, use fewer --workers, or another device"
        raise NetworkError(f"the networks failed: {name}: {first}{advice}") from error


def _of_backend(error: Exception) -> bool:
    modules = (kind.__module__.split(".")[0] for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or any(module in _BACKENDS for module in modules)
