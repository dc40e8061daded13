"""Interface of a model in this process or on a server: observed spectra in, results out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np

from data_pipeline.lines import load_lines
from kspecsr.results.data import ModelIdentity
from kspecsr.results.prism_input import PrismInput, observed_spectrum, prism_input
from kspecsr.results.result import Result


class Resolver(ABC):
    """A model that super-resolves prism spectra.

    Attributes:
        identity: name, hash and grid of the model.
        redshift_bins: (Z,) ln(1 + z) of P(z).
    """

    identity: ModelIdentity
    redshift_bins: np.ndarray

    def __repr__(self) -> str:
        identity = self.identity
        return (
            f"<{type(self).__name__} of model {identity.name} ({identity.sha256[:12]}): spectra to "
            f"{identity.grid.start:g}-{identity.grid.stop:g} um, {len(load_lines())} lines>"
        )

    def _repr_html_(self) -> str:
        """For notebooks: the model, its weights, and what it runs on."""
        identity = self.identity
        software = ", ".join(f"{name} {version}" for name, version in identity.software.items())
        rows = {"": repr(self), "SHA-256 of its weights": identity.sha256, "software": software}
        return "".join(f"<p>{escape(f'{k}: {v}' if k else v)}</p>" for k, v in rows.items() if v)

    @abstractmethod
    def resolve(
        self, inputs: Sequence[PrismInput], redshift: float | Sequence[float | None] | None = None
    ) -> list[Result]:
        """Super-resolve spectra that are on the prism's pixels already; see `__call__`."""

    def __call__(
        self,
        spectra: Any,
        redshift: float | Sequence[float | None] | None = None,
        extraction: str = "3pix",
    ) -> Result | list[Result]:
        """Super-resolve one spectrum or a list.

        Args:
            spectra: path, specutils Spectrum, `ObservedSpectrum`, or wavelength, flux, error[, mask] as
                Quantity arrays (tuple or dict); or a list of these.
            redshift: known redshift, one for all or one for each; None or NaN to infer it.
            extraction: ``3pix`` or ``5pix``, for files that hold both.

        Returns:
            One result, or a list in the order of the spectra.

        Raises:
            SpectrumError: for what cannot be read or is no prism spectrum, naming it.
            ValueError: for redshifts that do not match.
        """
        several = isinstance(spectra, list)
        observed = [observed_spectrum(one, extraction) for one in (spectra if several else [spectra])]
        results = self.resolve([prism_input(one) for one in observed], redshift)
        return results if several else results[0]


def redshifts_of(redshift: Any, n: int) -> np.ndarray:
    """Known redshifts (n,) float64, NaN where the redshift is to be inferred."""
    if redshift is None or np.ndim(redshift) == 0:
        values = np.full(n, np.nan if redshift is None else redshift, dtype=np.float64)
    else:
        values = np.array([np.nan if value is None else value for value in redshift], dtype=np.float64)
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
    """The networks could not be run; the text says why, and what to do about it."""


@contextmanager
def named_backend_errors() -> Iterator[None]:
    """Turn errors of the backend, and a lack of memory, into `NetworkError`; others pass."""
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
