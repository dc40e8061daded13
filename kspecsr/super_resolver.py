"""A trained model in this process: from prism spectra to results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from data_pipeline.configuration import software_versions
from kspecsr.gratings.joint import join_given
from kspecsr.model_folder import load_composed
from kspecsr.model_settings import read_settings, weights_hash
from kspecsr.models import redshift_bins
from kspecsr.models.precision import fast_policy
from kspecsr.results.data import ModelIdentity
from kspecsr.results.interpretation import Interpreter, results_of
from kspecsr.results.prism_input import PrismInput, masked, prism_wavelength, stacked
from kspecsr.results.resolver import Resolver, redshifts_of
from kspecsr.results.result import Result

# Batches have one of two sizes, because Keras compiles each size anew. That takes as long as a dozen spectra
# op by op, so the first calls with few spectra do without.
SMALL_BATCH, LARGE_BATCH = 8, 128
_UNCOMPILED_CALLS = 16
_BACKENDS = ("keras", "tensorflow", "jax")


class SuperResolver(Resolver):
    """A trained model, called with prism spectra.

    Example:
        >>> sr = SuperResolver.from_folder("runs/mine")
        >>> result = sr("spectrum.fits")
        >>> result.redshift.value, result.lines, result.spectrum

    Args:
        network: composed model, from a mapping of arrays to a mapping of arrays in physical units.
        identity: name, hash and grid of the model.
        bins: (Z,) ln(1 + z) of P(z).
        compiled: compile with XLA, where the network is a Keras model.
    """

    def __init__(
        self,
        network: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]],
        identity: ModelIdentity,
        bins: np.ndarray,
        compiled: bool = False,
    ):
        self.identity = identity
        self._interpreter = Interpreter(identity, bins)
        self._sizes: set[int] = set()
        self._predict: Callable = network
        self._uncompiled_calls = 0  # that are left
        if hasattr(network, "predict_on_batch"):  # Keras: compiles for its backend, and gives NumPy arrays
            network.compile(jit_compile=compiled)
            self._predict, self._network = network.predict_on_batch, network
            # JAX compiles op by op as well, one after the other
            self._uncompiled_calls = _UNCOMPILED_CALLS * (
                keras.backend.backend() == "tensorflow" and not compiled
            )

    def __call__(
        self,
        spectra: Any,
        redshift: float | Sequence[float | None] | None = None,
        extraction: str = "3pix",
        hdu: str | int | None = None,
        row: int | None = None,
        keep_flagged: bool = False,
        gratings: Sequence[Any] | None = None,
    ) -> Result | list[Result]:
        """Super-resolve one spectrum or a list; the arguments are those of `Resolver.__call__`, and one more.

        Args:
            spectra: as there.
            redshift: as there; with gratings, lines are looked for near it.
            extraction: as there.
            hdu: as there, of the prism.
            row: as there, of the prism.
            keep_flagged: as there.
            gratings: medium gratings of the same source, one per disperser, that are joined with the prism
                (`kspecsr.gratings.joint`); for a list of spectra a list for each.
        """
        if gratings is None:
            return super().__call__(spectra, redshift, extraction, hdu, row, keep_flagged)
        reading = {"extraction": extraction, "hdu": hdu, "row": row}
        return join_given(self, spectra, gratings, redshift, keep_flagged, **reading)

    @property
    def redshift_bins(self) -> np.ndarray:
        """(Z,) ln(1 + z) of P(z)."""
        return self._interpreter.bins

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike, calibrated: bool = True, precision: str = "float32"
    ) -> SuperResolver:
        """Load a model folder.

        Args:
            folder: model folder, as ``kspecsr train`` writes it.
            calibrated: apply the folder's calibration, if it has one.
            precision: of the networks' trunks: ``float32``, ``mixed_bfloat16``, or ``auto`` for the faster of
                both on this machine. Heads, direct fit and P(z) are float32.

        Raises:
            ModelFolderError: for a folder without a complete, undamaged model.
        """
        settings = read_settings(folder)
        software = software_versions(*_BACKENDS)
        if (policy := fast_policy(precision)) != "float32":  # stated with the results: their digits differ
            software["precision"] = policy
        sha256 = weights_hash(folder, calibrated)
        identity = ModelIdentity(settings.name, sha256, settings.grid, software, settings.preset.model.lines)
        return cls(
            load_composed(folder, calibrated, precision), identity, redshift_bins(settings.preset.model)
        )

    def resolve(
        self,
        inputs: Sequence[PrismInput],
        redshift: float | Sequence[float | None] | None = None,
        keep_flagged: bool = False,
    ) -> list[Result]:
        """See `Resolver.resolve`."""
        redshifts = redshifts_of(redshift, len(inputs))
        results = []
        for start in range(0, len(inputs), LARGE_BATCH):
            part, given = inputs[start : start + LARGE_BATCH], redshifts[start : start + LARGE_BATCH]
            prism = stacked(part)
            outputs = self.predict_arrays(*prism, given)
            outputs = {name: np.asarray(values, np.float64) for name, values in outputs.items()}
            reported = self._interpreter.everything(prism, outputs, given, keep_flagged)
            results += results_of(reported, part, given, self.identity, self.redshift_bins, keep_flagged)
        return results

    def predict_arrays(
        self,
        flux: np.ndarray,
        error: np.ndarray,
        mask: np.ndarray | None = None,
        redshift: float | Sequence[float | None] | np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs of the networks for arrays on the prism's pixels: the fast way, without flags or units.

        Args:
            flux: (n, P) [erg/s/cm2/A].
            error: (n, P) one sigma.
            mask: (n, P) bool, True = bad; pixels without finite flux and positive error are masked too.
            redshift: as in `__call__`.

        Returns:
            Name to array with leading axis n: ``flux``, ``flux_error``, ``continuum``,
            ``continuum_error``, ``sr1_flux``, ``sr1_error`` (n, N) [erg/s/cm2/A]; ``redshift``,
            ``redshift_error``, ``chi_square`` (n,); ``redshift_probability`` (n, Z); ``line_*`` (n, K);
            ``prism_model`` (n, P); ``line_correlation`` (n, K, K) of models with joint line errors.

        Raises:
            ValueError: for arrays of another shape.
        """
        flux, error, mask = _checked(flux, error, mask)
        redshifts = redshifts_of(redshift, flux.shape[0])
        parts = list(self._batches(flux, error, mask, redshifts))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _batches(self, flux, error, mask, redshifts) -> Iterator[dict[str, np.ndarray]]:
        names = ("prism_flux", "prism_error", "prism_mask", "redshift")
        inputs = dict(zip(names, (flux, error, mask, redshifts.astype(np.float32)), strict=True))
        n = flux.shape[0]
        if n <= SMALL_BATCH and self._uncompiled_calls and SMALL_BATCH not in self._sizes:
            self._uncompiled_calls -= 1
            yield {name: np.asarray(values) for name, values in self._network(inputs, training=False).items()}
            return
        size = self._batch_size(n)
        for start in range(0, n, size):
            rows = slice(start, start + size)
            batch = {name: _padded(values[rows], size) for name, values in inputs.items()}
            outputs = self._predict(batch)
            yield {name: np.asarray(values)[: n - start] for name, values in outputs.items()}

    def _batch_size(self, n: int) -> int:
        """The small size for few spectra, unless only the large one is compiled already."""
        small = n <= SMALL_BATCH and (SMALL_BATCH in self._sizes or LARGE_BATCH not in self._sizes)
        size = SMALL_BATCH if small else LARGE_BATCH
        self._sizes.add(size)
        return size


def _checked(flux, error, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = prism_wavelength().size
    flux, error = np.asarray(flux), np.asarray(error)
    mask = np.zeros(flux.shape, bool) if mask is None else np.asarray(mask, dtype=bool)
    if flux.ndim != 2 or flux.shape[0] == 0 or not flux.shape == error.shape == mask.shape:
        raise ValueError(
            f"expected flux, error and mask of shape (n, {pixels}), one or more spectra, got {flux.shape}, "
            f"{error.shape} and {mask.shape}"
        )
    if flux.shape[1] != pixels:
        raise ValueError(
            f"expected {pixels} pixels (kspecsr.results.prism_input.prism_wavelength), got {flux.shape[1]}; "
            "other pixels go through the call with a spectrum, which resamples them"
        )
    flux, error, mask = masked(flux, error, mask)
    return flux.astype(np.float32), error.astype(np.float32), mask


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row up to a full batch."""
    missing = size - values.shape[0]
    return values if missing == 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
