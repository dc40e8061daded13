"""What makes results of spectra, here or on a server: the interface that both have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kspecsr.results.prism_input import PrismInput, observed_spectrum, prism_input
from kspecsr.results.result import ModelIdentity, Result


class Resolver(ABC):
    """Super-resolves prism spectra.

    Attributes:
        identity: which model does it.
        redshift_bins: (Z,) ln(1 + z) of P(z).
    """

    identity: ModelIdentity
    redshift_bins: np.ndarray

    @abstractmethod
    def resolve(
        self, inputs: Sequence[PrismInput], redshift: float | Sequence[float | None] | None = None
    ) -> list[Result]:
        """Super-resolves spectra that are on the prism's pixels already; see `__call__`."""

    def __call__(
        self,
        spectra: Any,
        redshift: float | Sequence[float | None] | None = None,
        extraction: str = "3pix",
    ) -> Result | list[Result]:
        """Super-resolves one spectrum or a list.

        Args:
            spectra: path, specutils Spectrum, `ObservedSpectrum`, or wavelength, flux, error[, mask] as
                Quantity arrays (tuple or dict); or a list of these.
            redshift: where it is known: one for all, or one for each, None or NaN for "infer it".
            extraction: ``3pix`` or ``5pix``, for files that hold both.

        Returns:
            A result, or a list of them in the order given.

        Raises:
            SpectrumError: for what cannot be read or is no prism spectrum, naming it.
            ValueError: for redshifts that do not match.
        """
        several = isinstance(spectra, list)
        observed = [observed_spectrum(one, extraction) for one in (spectra if several else [spectra])]
        results = self.resolve([prism_input(one) for one in observed], redshift)
        return results if several else results[0]


def redshifts_of(given: Any, n: int) -> np.ndarray:
    """(n,) float64, NaN where it is to be inferred."""
    if given is None or np.ndim(given) == 0:
        values = np.full(n, np.nan if given is None else given, dtype=np.float64)
    else:
        values = np.array([np.nan if one is None else one for one in given], dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"redshift: expected one value or one for each of {n} spectra, got {values.size}")
    if np.any(values < 0) or np.any(np.isinf(values)):
        raise ValueError(
            f"redshift: expected values of 0 or more, got {values[(values < 0) | np.isinf(values)][0]:g}"
        )
    return values


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
