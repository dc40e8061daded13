"""Spectra of single stars: brown dwarfs from the shipped table, M and L dwarfs, earlier types.

Everything is at rest, in flux density per wavelength, and of the detail that a resolving power of 100 shows:
the table's models went through the NIRSpec prism, and the simulated one takes them through it again.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.simulation.continua import METALS, absorption, hydrogen_absorption, jump
from data_pipeline.stellar_library import planck
from data_pipeline.tables import TABLES

TABLE = "ultracool_dwarfs.npz"
STEP = 0.004  # dex, of the stored integers
COOLEST_STAR = 2700.0  # K: cooler ones are ultracool dwarfs (M7 and later)
HOTTEST_STAR = 30_000.0  # K
_HAZY = 1800.0  # K: between the table's hottest models and this, they are mixed with black bodies with bands
# Bands of molecules and atoms: blue edge and width of what is absorbed [um], how sharp the blue edge is [um],
# and the optical depth of the band in dwarfs of 1,300, 1,900, 2,500, 3,100 and 3,900 K. Places after Cushing
# et al. (2005, ApJ 623, 1115); depths by eye, after M and L dwarfs (an M8 dwarf's spectrum among them).
_TEMPERATURES = (1300.0, 1900.0, 2500.0, 3100.0, 3900.0)
_BANDS = (
    # TiO heads, which degrade to the red
    *((edge, 0.016, 0.003, (0.1, 0.6, 1.6, 1.2, 0.1)) for edge in (0.6159, 0.6651, 0.7053, 0.7590)),
    *((edge, 0.016, 0.003, (0.1, 0.4, 0.9, 0.5, 0.0)) for edge in (0.8206, 0.8432, 0.8859)),
    # VO
    *((edge, 0.020, 0.004, (0.1, 0.4, 0.8, 0.2, 0.0)) for edge in (0.7334, 0.7851, 1.0460)),
    # FeH and CrH
    *((edge, 0.018, 0.003, (0.3, 0.6, 0.35, 0.1, 0.0)) for edge in (0.8611, 0.8692, 0.9896)),
    (1.1939, 0.050, 0.004, (0.15, 0.25, 0.12, 0.03, 0.0)),
    # broad wings of Na and K, which darken the visible light of cool dwarfs
    (0.560, 0.055, 0.025, (3.0, 2.0, 1.0, 0.4, 0.1)),
    (0.735, 0.060, 0.025, (3.5, 1.6, 0.5, 0.1, 0.0)),
    # water
    (0.925, 0.030, 0.010, (0.6, 0.3, 0.12, 0.03, 0.0)),
    (1.110, 0.060, 0.015, (0.9, 0.35, 0.12, 0.03, 0.0)),
    (1.330, 0.240, 0.015, (2.0, 1.0, 0.45, 0.15, 0.0)),
    (1.750, 0.430, 0.050, (1.9, 1.1, 0.55, 0.2, 0.0)),
    (2.420, 0.700, 0.080, (1.9, 1.3, 0.8, 0.35, 0.0)),
    # CO
    (2.293, 0.110, 0.004, (0.35, 0.35, 0.25, 0.2, 0.12)),
    (4.350, 0.600, 0.060, (0.7, 0.6, 0.45, 0.35, 0.2)),
    # CH4
    (1.600, 0.130, 0.020, (0.5, 0.0, 0.0, 0.0, 0.0)),
    (2.180, 0.250, 0.030, (0.5, 0.0, 0.0, 0.0, 0.0)),
    (3.200, 0.280, 0.040, (1.2, 0.15, 0.0, 0.0, 0.0)),
)
# Lines of K I and Na I: wavelength, sigma [um], equivalent width [Angstrom] at 2,500 K and below
_ATOMS = ((1.1690, 0.003, 5.0), (1.1773, 0.003, 7.0), (1.2436, 0.003, 5.0), (1.2525, 0.003, 6.0))
_BRACKETT = (4.052269, 2.625871, 2.166121, 1.945089, 1.817920)


@dataclass(frozen=True, eq=False)
class DwarfTable:
    """Spectra of T brown-dwarf temperatures, each for the same M atmospheres.

    Attributes:
        wavelength: (n,) [um].
        temperature: (T,) effective temperature [K], rising.
        atmosphere: (M, 3) log10 surface gravity [cm/s2], metallicity [dex], log10 mixing [cm2/s].
        log_flux: (T, M, n) log10 of flux density per wavelength over its maximum.
        header: source, licence, how it was made.
    """

    wavelength: np.ndarray
    temperature: np.ndarray
    atmosphere: np.ndarray
    log_flux: np.ndarray
    header: dict[str, Any]


def write_dwarfs(path: Path, table: DwarfTable) -> None:
    """Writes a table; spectra are stored as integers of 0.004 dex, which is 0.5 % of the flux."""
    steps = np.rint(table.log_flux / STEP).astype(np.int16)
    arrays = {name: getattr(table, name) for name in ("wavelength", "temperature", "atmosphere")}
    with path.open("wb") as stream:
        # neighbours differ little: their differences compress to less
        np.savez_compressed(
            stream,
            steps=np.diff(steps, axis=-1, prepend=0),
            header=np.array(json.dumps(table.header)),
            **arrays,
        )


def read_dwarfs(path: Path) -> DwarfTable:
    """Reads a table.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: for a file that is no such table.
    """
    try:
        with np.load(path) as stored:
            return DwarfTable(
                **{name: stored[name] for name in ("wavelength", "temperature", "atmosphere")},
                log_flux=STEP * np.cumsum(stored["steps"], axis=-1, dtype=np.float64),
                header=json.loads(str(stored["header"])),
            )
    except FileNotFoundError:
        raise
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: is no table of ultracool dwarfs ({error}); expected one of "
            "python -m benchmarks ultracool-dwarfs"
        ) from error


@lru_cache(maxsize=1)
def load_dwarfs() -> DwarfTable:
    """The table that ships with the package."""
    return read_dwarfs(TABLES / TABLE)


def cool_spectrum(wavelength: np.ndarray, temperature: float) -> np.ndarray:
    """(n,) an M or L dwarf of 1,300-3,900 K at ``wavelength`` [um]: a black body under bands, maximum 1."""
    x = wavelength
    depth = np.zeros_like(x)
    for edge, width, sharp, depths in _BANDS:
        rise = 0.5 * (1.0 + np.tanh((x - edge) / sharp))
        # full depth over half of the width, then the slow end of the band
        depth += (
            np.interp(temperature, _TEMPERATURES, depths)
            * rise
            * np.exp(-((np.maximum(x - edge - 0.5 * width, 0.0) / (0.4 * width)) ** 1.5))
        )
    strength = np.clip((3600.0 - temperature) / 1100.0, 0.0, 1.0)
    atoms = absorption(x, [(centre, sigma, strength * width) for centre, sigma, width in _ATOMS])
    light = planck(x, temperature) * np.exp(-depth) * atoms
    return light / light.max()


def dwarf_spectrum(wavelength: np.ndarray, temperature: float, which: float) -> np.ndarray:
    """(n,) an ultracool dwarf, over its maximum.

    Args:
        wavelength: (n,) within 0.5-6 um.
        temperature: effective temperature, 400-2,700 K. Up to 1,200 K models of the table, between 1,800 and
            1,200 K mixed with black bodies with bands.
        which: a number in [0, 1) that chooses gravity, metallicity and mixing.
    """
    table = load_dwarfs()
    share = np.clip((temperature - table.temperature[-1]) / (_HAZY - table.temperature[-1]), 0.0, 1.0)
    warm = np.log10(np.maximum(cool_spectrum(wavelength, temperature), 1e-9)) if share > 0 else 0.0
    if share == 1.0:
        return 10.0**warm
    place = np.interp(temperature, table.temperature, np.arange(table.temperature.size))
    low = min(int(place), table.temperature.size - 2)
    models = table.log_flux[low : low + 2, int(which * len(table.atmosphere))]
    cold = np.interp(wavelength, table.wavelength, (low + 1 - place) * models[0] + (place - low) * models[1])
    light = 10.0 ** (share * warm + (1.0 - share) * cold)
    return light / light.max()


def star_spectrum(wavelength: np.ndarray, temperature: float, metals: float) -> np.ndarray:
    """(n,) a star of 2,700-30,000 K, over its maximum.

    Black bodies with hydrogen lines and the Paschen jump, strongest at 9,000 K (equivalent width of Hbeta
    15 Angstrom, as in an A0 dwarf), metal lines in cool stars, below 3,900 K molecules. The Balmer jump is no
    part of it: the prism begins at 0.6 um.

    Args:
        wavelength: (n,) [um].
        temperature: effective temperature [K].
        metals: factor on the strength of the metal lines.
    """
    if temperature < _TEMPERATURES[-1]:
        light = cool_spectrum(wavelength, temperature)
    else:
        light = planck(wavelength, temperature)
        near = np.exp(-0.5 * (np.log(temperature / 9000.0) / 0.32) ** 2)
        light = light * hydrogen_absorption(wavelength, 15.0 * near, 0.0016)
        light = light * jump(wavelength, 0.8250, 0.12 * near, 0.006)
        light = light * absorption(wavelength, [(x, 0.004 * x, 8.0 * near) for x in _BRACKETT])
    cool = metals * np.clip((7500.0 - temperature) / 3000.0, 0.0, 1.0)
    light = light * absorption(wavelength, [(x, sigma, cool * width) for x, sigma, width in METALS])
    return light / light.max()
