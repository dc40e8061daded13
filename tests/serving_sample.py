"""An exported model and what Python makes of the same spectra, once for all processes of a test run."""

import fcntl
import os
import pickle
from dataclasses import dataclass

import numpy as np

import kspecsr
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr import export
from kspecsr.results.prism_input import PrismInput, prism_input, prism_wavelength
from kspecsr.results.result import Result
from model_sample import spectra

N = 64
NOTHING, FAINT, LITTLE, GAPS, WRONG_ERRORS = 1, 2, 3, 4, 5  # rows of the first seven that are odd
GIVEN = slice(5, None, 2)  # rows whose redshift is given to `with_redshift`


@dataclass(frozen=True)
class Sample:
    """Inputs by signature, and the results of Python in the same order.

    Attributes:
        folder: of the exported versions.
        inputs: signature to named arrays.
        given: signature to what the networks see of each.
        results: signature to results.
    """

    folder: str
    inputs: dict[str, dict[str, np.ndarray]]
    given: dict[str, list[PrismInput]]
    results: dict[str, list[Result]]


def serving_sample(tmp_path_factory) -> Sample:
    """Made by the first process that asks for it, read by the others."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # shared by all workers of a run
    folder = base / "serving"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "sample").exists():
            made = pickle.dumps(_made(folder / "kspecsr"))
            (folder / "sample").write_bytes(made)
    return pickle.loads((folder / "sample").read_bytes())


def _made(folder) -> Sample:
    assert export.main(["--output", str(folder)]) == 0
    inputs, redshift = _inputs()
    given = {name: [_given(name, arrays, row) for row in range(N)] for name, arrays in inputs.items()}
    names = list(given)
    sr = kspecsr.load()
    results = sr.resolve(
        [one for name in names for one in given[name]],
        np.concatenate([redshift if name == "with_redshift" else np.full(N, np.nan) for name in names]),
    )
    by_name = {name: results[k * N : (k + 1) * N] for k, name in enumerate(names)}
    return Sample(str(folder), inputs, given, by_name)


def _inputs():
    _, batch = spectra(N, seed=21)
    flux, error = batch.prism_flux.astype("f4"), batch.prism_error.astype("f4")
    mask = batch.prism_mask.copy()
    flux[NOTHING] = np.nan
    flux[FAINT] = 0.1 * error[FAINT]
    mask[LITTLE, 40:] = True
    flux[GAPS, 200:203], mask[GAPS, 400:440] = np.inf, True
    error[WRONG_ERRORS, 100:110], error[WRONG_ERRORS, 300] = -1.0, 0.0
    redshift = np.full(N, np.nan)
    redshift[GIVEN] = batch.truth.redshift[GIVEN] if hasattr(batch, "truth") else 2.5
    redshift = np.where(np.isfinite(redshift), redshift, np.nan)
    prism = {"flux": flux, "error": error, "mask": mask}
    return {
        "serving_default": prism,
        "with_redshift": {**prism, "redshift": redshift.astype("f4")},
        "from_wavelength": _on_own_pixels(flux, error, mask),
    }, redshift.astype("f4").astype(float)


def grids():
    """Pixels of several kinds, by name."""
    prism = prism_wavelength()
    place, rng = np.arange(prism.size), np.random.default_rng(4)
    moved = prism[:-1] + 0.3 * np.diff(prism)
    return {
        "the prism's": prism,
        "part of them": prism[60:650],
        "moved": moved,
        "falling": moved[::-1],
        "coarser": np.interp(np.arange(0, prism.size - 1, 2.7), place, prism),
        "finer": np.interp(np.arange(0, prism.size - 1, 0.41), place, prism),
        "finer, with the prism's among them": np.interp(np.arange(0, prism.size - 0.9, 0.5), place, prism),
        "with a gap": np.delete(moved, slice(300, 340)),
        "uneven": np.sort(rng.uniform(0.6, 5.4, 600)),
    }


def _on_own_pixels(flux, error, mask):
    """The same galaxies on other pixels, filled up with NaN."""
    prism, kinds = prism_wavelength(), list(grids().values())
    size = max(len(grid) for grid in kinds) + 2
    arrays = {name: np.full((N, size), np.nan) for name in ("wavelength", "flux", "error")}
    for row in range(N):
        grid = kinds[row % len(kinds)]
        good = np.isfinite(flux[row]) & (error[row] > 0)
        good = good if good.any() else np.ones(prism.size, bool)
        at = slice(row % 3, row % 3 + grid.size)  # what comes before it is no pixel either
        arrays["wavelength"][row, at] = grid
        arrays["flux"][row, at] = np.interp(grid, prism[good], np.nan_to_num(flux[row][good]))
        arrays["error"][row, at] = np.interp(grid, prism[good], np.abs(error[row][good]))
        arrays["error"][row, at][::50] = -1.0
    return arrays


def _given(name, arrays, row) -> PrismInput:
    """The way of a file, from the spectrum as read to the prism's pixels."""
    columns = {key: np.asarray(values[row], float) for key, values in arrays.items() if values.ndim == 2}
    wavelength = columns.get("wavelength", prism_wavelength())
    bad = columns.get("mask", np.zeros(wavelength.size)).astype(bool)
    placed = np.isfinite(wavelength)
    order = np.argsort(wavelength[placed])
    wavelength, flux, error, bad = (
        values[placed][order] for values in (wavelength, columns["flux"], columns["error"], bad)
    )
    bad = bad | ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
    observed = ObservedSpectrum(wavelength, flux, error, bad, SpectrumMeta(disperser="PRISM"))
    return prism_input(observed)
