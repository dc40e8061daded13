"""How each reduction releases a prism spectrum: pixels and their noise, quoted errors, zero point.

Pixels and noise follow from `data_pipeline.instrument.prism_pixels`; `benchmarks/release_noise.py` measures
both in files, beside what simulated noise gives after the same filter.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.instrument.prism_pixels import (
    DJA_ZERO_POINT,
    RELEASED,
    Sampling,
    released_pixels,
    sampling_of,
)
from data_pipeline.simulation.config import JADES_ALONE, Nuisances, Population
from data_pipeline.simulation.draws import Draws

_ERROR_DRIFT = 0.1  # scatter [natural log] of quoted error over noise from the middle of the range to an end


@dataclass(frozen=True)
class Release:
    """One way to release prism spectra.

    Attributes:
        name: as in `RELEASES`.
        quoted_error: least and largest median of quoted error over noise in a spectrum.
        zero_point: least and largest velocity [km/s] by which lines lie redward of where gratings put them; 0
            where nothing is known. It is told, and never applied unasked.
    """

    name: str
    quoted_error: tuple[float, float] = (0.7, 1.5)
    zero_point: tuple[float, float] = (0.0, 0.0)

    @property
    def sampling(self) -> Sampling:
        """Step of the pixels and the covariance of their noise."""
        return sampling_of(released_pixels(self.name))

    def instrument(self, scale: float = 1.0) -> Instrument:
        """The prism on the release's pixels; ``scale`` is the factor on its resolving power in JADES."""
        return _instrument(self.name, scale)


@lru_cache(maxsize=64)
def _instrument(name: str, scale: float) -> Instrument:
    prism, release = load_instrument(PRISM, scale=scale), RELEASES[name]
    wavelength = released_pixels(name)
    if np.array_equal(wavelength, prism.wavelength):
        return prism
    return prism.with_pixels(wavelength).with_scale(scale * release.sampling.sharpness)


RELEASES = {
    name: Release(name, zero_point=DJA_ZERO_POINT if name.startswith("dja") else (0.0, 0.0))
    for name in RELEASED
}


def drawn_releases(population: Population, seed: int, index: np.ndarray) -> np.ndarray:
    """(b,) names of the releases of observations ``index`` (b,)."""
    names = sorted(population.releases)
    if len(names) == 1:
        return np.full(len(index), names[0])
    shares = np.cumsum([population.releases[name] for name in names])
    uniform = Draws(seed, index, population.stream).uniform("release")
    return np.array(names)[np.searchsorted(shares[:-1] / shares[-1], uniform, side="right")]


def quoted_errors(
    names: np.ndarray, population: Population, nuisances: Nuisances, draws: Draws
) -> tuple[np.ndarray, np.ndarray] | None:
    """Median of quoted error over noise (b,), and its drift [natural log] over half the range (b,).

    ``names`` (b,) are the observations' releases.
    None for populations of JADES alone, and where quoted errors do not scatter: the nuisances say it all.
    """
    if population.releases == JADES_ALONE or nuisances.quoted_error_scatter == 0:
        return None
    low, high = np.log([RELEASES[name].quoted_error for name in names]).reshape(-1, 2).T
    median = nuisances.quoted_error * np.exp(low + (high - low) * draws.uniform("errors of a release"))
    return median, _ERROR_DRIFT * np.clip(draws.normal("error drift of a release"), -3.0, 3.0)
