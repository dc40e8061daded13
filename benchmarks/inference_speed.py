"""Spectra per second of the composed model, from arrays."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from kspecsr.configuration import STAGES, Preset
from kspecsr.feeds.simulated import validation_examples
from kspecsr.model_folder import load_composed, read_settings
from kspecsr.models import BUILDERS, RECORD_UNIT, compose, redshift_bins
from kspecsr.models.precision import dtype_policy, fast_policy
from kspecsr.results.data import ModelIdentity
from kspecsr.results.prism_input import prism_wavelength
from kspecsr.super_resolver import LARGE_BATCH, SuperResolver

_SEED = 7


class Inference:
    """A composed model and spectra to give it.

    Args:
        preset: networks, with fresh weights: the time does not depend on them.
        folder: a trained model instead; None for none.
        most: spectra at most in a batch.
        compiled: with XLA.
        precision: of the trunks.
    """

    def __init__(
        self,
        preset: Preset,
        folder: str | os.PathLike | None,
        most: int,
        compiled: bool,
        precision: str = "float32",
    ):
        config = preset.model
        if folder is None:
            with dtype_policy(fast_policy(precision)):
                parts = [BUILDERS[stage](config) for stage in STAGES]
            self._network = compose(*parts)
        else:
            self._network = load_composed(folder, precision=precision)
        self._network.compile(jit_compile=compiled)
        identity = ModelIdentity(preset.name, "", config.grid, {})
        self._resolver = SuperResolver(self._network, identity, redshift_bins(config), compiled=compiled)
        batch = validation_examples(max(most, 2 * LARGE_BATCH), _SEED, preset.feed, config.grid)
        self._arrays = {
            "prism_flux": (batch["prism_flux"] * RECORD_UNIT).astype(np.float32),
            "prism_error": (batch["prism_error"] * RECORD_UNIT).astype(np.float32),
            "prism_mask": batch["prism_mask"],
            "redshift": batch["redshift"],
        }

    def rate(self, batch_size: int, seconds: float) -> float:
        """Spectra per second in batches of a size, start-up and compilation excluded.

        Args:
            batch_size: of each call.
            seconds: to measure for, at least two calls.
        """
        arrays = {name: array[:batch_size] for name, array in self._arrays.items()}
        return _rate(lambda: self._network.predict_on_batch(arrays), batch_size, seconds)

    def resolver_rate(self, seconds: float) -> float:
        """Spectra per second of `SuperResolver.predict_arrays`, what a user calls, for two of its batches.

        Args:
            seconds: to measure for, at least two calls.
        """
        arrays = [self._arrays[f"prism_{name}"] for name in ("flux", "error", "mask")]
        arrays = [array[: 2 * LARGE_BATCH] for array in arrays]
        return _rate(lambda: self._resolver.predict_arrays(*arrays), 2 * LARGE_BATCH, seconds)


def precision_parity(folder: str | os.PathLike, n: int, population: str) -> list[str]:
    """What trunks in bfloat16 change of ``n`` galaxies' redshifts and line fluxes; lines of text."""
    preset = read_settings(folder).preset
    feed = replace(preset.feed, population=population)
    batch = validation_examples(n, _SEED, feed, preset.model.grid)
    arrays = [batch["prism_flux"] * RECORD_UNIT, batch["prism_error"] * RECORD_UNIT, batch["prism_mask"]]
    first, second = (
        SuperResolver.from_folder(folder, precision=precision).predict_arrays(*arrays)
        for precision in ("float32", "mixed_bfloat16")
    )
    moved = np.abs(second["redshift"] - first["redshift"]) / (1.0 + first["redshift"])
    same = moved < _SAME
    text = (
        f"{np.mean(same):.2%} of {n} redshifts within {_SAME:g} (1 + z); median change {np.median(moved):.1e}"
    )
    # elsewhere other lines stand at the same places
    seen = (first["line_in_range"] > 0) & same[:, None]
    off = np.abs(second["line_flux"] - first["line_flux"])[seen] / first["line_flux_error"][seen]
    return [text, f"line fluxes, {off.size}: {_quantiles(off)} of their error"]


_SAME = 0.003  # of 1 + z


def _quantiles(values: np.ndarray) -> str:
    half, most = np.quantile(values, (0.5, 0.99))
    return f"median change {half:.4f}, 99 % within {most:.3f}"


def first_result(model: str, preset: Preset) -> tuple[float, float]:
    """Wall and processor seconds of ``kspecsr enhance`` for one simulated spectrum, in a new process.

    Args:
        model: name or folder.
        preset: of which the spectrum is drawn.
    """
    batch = validation_examples(1, _SEED, preset.feed, preset.model.grid)
    flux, error = (batch[f"prism_{name}"][0] * RECORD_UNIT for name in ("flux", "error"))
    meta = SpectrumMeta(disperser="PRISM", filter="CLEAR")
    spectrum = ObservedSpectrum(prism_wavelength(), flux, error, batch["prism_mask"][0], meta)
    with tempfile.TemporaryDirectory() as folder:
        write_spectrum(Path(folder) / "galaxy.fits", spectrum, {})
        options = ["--quiet", str(Path(folder) / "galaxy.fits"), "--output", folder, "--model", model]
        command = [sys.executable, "-m", "kspecsr", "enhance", *options]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [*command, "--output", folder, "--model", model], check=True, stdout=subprocess.DEVNULL
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _rate(call: Callable[[], object], spectra: int, seconds: float) -> float:
    call()  # compiles
    calls, start = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - start < seconds:
        call()
        calls += 1
    return calls * spectra / (time.perf_counter() - start)
