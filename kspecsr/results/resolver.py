"""Interface of a model in this process or on a server: observed spectra in, results out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np

from data_pipeline.catalogue.known_redshifts import LARGEST
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
            f"{identity.grid.start:g}-{identity.grid.stop:g} um, {len(load_lines(identity.lines))} lines>"
        )

    def _repr_html_(self) -> str:
        """For notebooks: the model, its weights, and what it runs on."""
        identity = self.identity
        software = ", ".join(f"{name} {version}" for name, version in identity.software.items())
        rows = {"": repr(self), "SHA-256 of its weights": identity.sha256, "software": software}
        return "".join(f"<p>{escape(f'{k}: {v}' if k else v)}</p>" for k, v in rows.items() if v)

    @abstractmethod
    def resolve(
        self,
        inputs: Sequence[PrismInput],
        redshift: float | Sequence[float | None] | None = None,
        keep_flagged: bool = False,
    ) -> list[Result]:
        """Super-resolve spectra that are on the prism's pixels already; see `__call__`."""

    def __call__(
        self,
        spectra: Any,
        redshift: float | Sequence[float | None] | None = None,
        extraction: str = "3pix",
        hdu: str | int | None = None,
        row: int | None = None,
        keep_flagged: bool = False,
    ) -> Result | list[Result]:
        """Super-resolve one spectrum or a list.

        Args:
            spectra: path, specutils Spectrum, `ObservedSpectrum`, or wavelength, flux, error[, mask] as
                Quantity arrays (tuple or dict); or a list of these, or a specutils SpectrumCollection.
            redshift: known redshift, one for all or one for each; None or NaN to infer it.
            extraction: ``3pix`` or ``5pix``, for files that hold both.
            hdu: extension to read, of files with several spectra.
            row: spectrum to read, from 0, of tables with one per row.
            keep_flagged: report lines of flagged spectra, too; the flags stay.

        Returns:
            One result, or a list in the order of the spectra.

        Raises:
            SpectrumError: for what cannot be read or is no prism spectrum, naming it.
            ValueError: for redshifts that do not match.
        """
        if hasattr(spectra, "spectral_axis") and isinstance(spectra.meta, list):  # a SpectrumCollection
            spectra = [spectra[number] for number in range(len(spectra.meta))]
        several = isinstance(spectra, list)
        given = spectra if several else [spectra]
        observed = [observed_spectrum(one, extraction, hdu, row) for one in given]
        results = self.resolve([prism_input(one) for one in observed], redshift, keep_flagged)
        return results if several else results[0]


def redshifts_of(redshift: Any, n: int) -> np.ndarray:
    """Known redshifts (n,) float64, NaN where the redshift is to be inferred."""
    alone = not isinstance(redshift, list | tuple) and np.ndim(redshift) == 0
    given = [redshift] if alone else list(redshift)
    if any(isinstance(value, bool | np.bool_ | str) for value in given):
        raise ValueError(f"redshift: expected numbers from 0 to {LARGEST:g}, got {redshift!r}")
    # a masked value is none: NumPy would make it 0
    values = np.array([np.nan if one is None or one is np.ma.masked else float(one) for one in given])
    values = np.full(n, values[0]) if alone else values
    if values.shape != (n,):
        raise ValueError(f"redshift: expected one value or one for each of {n} spectra, got {values.size}")
    if (wrong := (values < 0) | (values > LARGEST)).any():
        raise ValueError(f"redshift: expected values from 0 to {LARGEST:g}, got {values[wrong][0]:g}")
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
