"""Mean spectra of stars by age and metallicity, and the light of the gas they ionise: the shipped table.

The table is made by ``kspecsr data stellar-library`` from the BC03-MILES grids; its header names source,
licence and citations. Reading it needs NumPy alone.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.tables import TABLES

TABLE = "stellar_populations.npz"
# Bins of stellar age [Myr]: the light of each is that of stars formed at a constant rate within it.
AGE_EDGES = (0.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 13000.0)
START, STOP, SAMPLING = 0.09, 5.7, 6000.0  # um; lambda / step
# Case B at 1e4 K: energy in Hbeta per ionising photon [erg] (Osterbrock & Ferland 2006).
HBETA_PER_PHOTON = 4.76e-13
_STEP = 2e-4  # dex, of the stored integers
_NOTHING = np.iinfo(np.int16).min  # stands for zero


@dataclass(frozen=True, eq=False)
class StellarLibrary:
    """Populations of M metallicities and A age bins on n rest-frame wavelengths.

    Attributes:
        wavelength: (n,) pixel centres [um, vacuum], logarithmic.
        metallicity: (M,) in units of the solar one.
        age_edges: (A + 1,) [Myr].
        stars: (M, A, n) luminosity per mass formed [solar luminosities per Angstrom per solar mass].
        ionising: (M, A) hydrogen-ionising photons per mass formed [1 / s per solar mass].
        nebular: (M, n) nebular continuum per Hbeta luminosity [1 / Angstrom]: bound-free, free-free and
            two-photon.
        header: source, licence, citations, how it was made.
    """

    wavelength: np.ndarray
    metallicity: np.ndarray
    age_edges: np.ndarray
    stars: np.ndarray
    ionising: np.ndarray
    nebular: np.ndarray
    header: dict[str, Any]

    @property
    def edges(self) -> np.ndarray:
        """(n + 1,) pixel edges [um]."""
        return pixel_edges()


def pixel_edges() -> np.ndarray:
    """(n + 1,) edges of the library's pixels [um]."""
    count = int(np.log(STOP / START) * SAMPLING)
    return START * np.exp(np.arange(count + 1) / SAMPLING)


def write_library(path: Path, library: StellarLibrary) -> None:
    """Writes a table; spectra are stored as integers of 2e-4 dex, which is 0.02 % of the flux."""
    arrays = {}
    for name in ("stars", "nebular"):
        values = getattr(library, name)
        with np.errstate(divide="ignore"):
            logarithm = np.log10(values)
        peak = np.max(logarithm, axis=-1, keepdims=True)
        steps = np.rint((logarithm - peak) / _STEP)
        usable = np.isfinite(steps) & (steps > _NOTHING)
        stored = np.where(usable, steps, _NOTHING).astype(np.int16)
        # neighbours differ little: their differences compress to half the size
        arrays[name] = np.diff(stored, axis=-1, prepend=np.int16(0))
        arrays[f"{name}_peak"] = peak[..., 0]
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            metallicity=library.metallicity,
            age_edges=library.age_edges,
            ionising=library.ionising,
            header=np.array(json.dumps(library.header)),
            **arrays,
        )


def read_library(path: Path) -> StellarLibrary:
    """Reads a table.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: for a file that is no such table.
    """
    try:
        with np.load(path) as stored:
            given = dict(stored)
        spectra = {}
        for name in ("stars", "nebular"):
            steps = np.cumsum(given[name], axis=-1, dtype=np.int16)
            values = 10.0 ** (given[f"{name}_peak"][..., None] + _STEP * steps.astype(np.float64))
            spectra[name] = np.where(steps == _NOTHING, 0.0, values)
        edges = pixel_edges()
        library = StellarLibrary(
            wavelength=0.5 * (edges[1:] + edges[:-1]),
            metallicity=given["metallicity"],
            age_edges=given["age_edges"],
            ionising=given["ionising"],
            header=json.loads(str(given["header"])),
            **spectra,
        )
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: is no table of stellar populations ({error}); expected one of kspecsr data "
            "stellar-library"
        ) from error
    if library.stars.shape[-1] != edges.size - 1:
        raise ValueError(f"{path}: has {library.stars.shape[-1]} wavelengths, expected {edges.size - 1}")
    return library


def planck(wavelength: np.ndarray, temperature: float) -> np.ndarray:
    """Black body per unit wavelength, in arbitrary units; ``wavelength`` in um."""
    # exp of more than 709 overflows; beyond 600 there is no light left anyway.
    exponent = np.minimum(14_388.0 / (wavelength * temperature), 600.0)
    return wavelength**-5.0 / np.expm1(exponent)


@lru_cache(maxsize=1)
def load_library() -> StellarLibrary:
    """The library that ships with the package."""
    return read_library(TABLES / TABLE)
