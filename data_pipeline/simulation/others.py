"""Light of what has no redshift to be had: ultracool dwarfs, stars, featureless continua."""

from collections.abc import Callable

import numpy as np

from data_pipeline.simulation.config import KINDS, Population
from data_pipeline.simulation.continua import INTRINSIC_GRID
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.dwarfs import (
    COOLEST_STAR,
    HOTTEST_STAR,
    dwarf_spectrum,
    load_dwarfs,
    star_spectrum,
)
from data_pipeline.simulation.noise import prism_error
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.stellar_library import planck

_SN_SCATTER = 0.5  # dex: as wide as continua and lines of galaxies together
_WINDOW = (1.0, 5.0)  # um, in which the S/N is stated


def _dwarf(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    coolest = load_dwarfs().temperature[0]
    return dwarf_spectrum(x, coolest * (COOLEST_STAR / coolest) ** u[0], u[1])


def _star(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    # cool ones are the more frequent
    temperature = COOLEST_STAR * (HOTTEST_STAR / COOLEST_STAR) ** (u[0] ** 1.5)
    return star_spectrum(x, temperature, 10.0 ** (1.2 * u[1] - 0.9))


def _featureless(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Power laws, broken ones, black bodies of 500-30,000 K, flat per frequency or per wavelength."""
    slopes = -3.5 + 5.0 * u[1:3]
    pivot = 0.8 * 5.0 ** u[3]
    shapes = (
        lambda: x ** slopes[0],
        lambda: (x / pivot) ** np.where(x < pivot, slopes[0], slopes[1]),
        lambda: planck(x, 500.0 * 60.0 ** u[1]),
        lambda: x ** (-2.0 if u[1] < 0.5 else 0.0),
    )
    light = shapes[int(len(shapes) * u[0])]()
    return light / light.max()


_LIGHT: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ultracool-dwarf": _dwarf,
    "star": _star,
    "featureless": _featureless,
}


def add_others(
    light: np.ndarray, kind: np.ndarray, tier: np.ndarray, population: Population, draws: Draws
) -> None:
    """Writes the spectra of those that are no galaxies into ``light``, in place.

    Their root-mean-square S/N per prism pixel over 1-5 um, with the noise that is usual in the tier, scatters
    by 0.5 dex about the population's ``continuum_sn_median``.

    Args:
        light: (b, n) intrinsic continua on `INTRINSIC_GRID` [erg/s/cm2/A].
        kind: (b,) index into `KINDS`.
        tier: (b,) index of the tier for which the source was selected.
        population: gives the S/N.
        draws: of the sources.
    """
    x = INTRINSIC_GRID.wavelength
    pixels = np.searchsorted(x, np.geomspace(*_WINDOW, 40))
    for name, shape in _LIGHT.items():
        rows = np.flatnonzero(kind == KINDS.index(name))
        if rows.size == 0:
            continue
        some = draws.rows(rows)
        uniform, depth = some.uniform("other light", 4), some.normal("S/N of other light")
        error = prism_error(x[pixels], load_tiers().depth[tier[rows]])
        for row, u, noise, normal in zip(rows, uniform, error, depth, strict=True):
            spectrum = shape(x, u)
            sn = population.continuum_sn_median * 10.0 ** (_SN_SCATTER * normal)
            light[row] = sn / np.sqrt(np.mean((spectrum[pixels] / noise) ** 2)) * spectrum
