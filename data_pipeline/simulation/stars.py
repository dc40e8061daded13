"""Continua of galaxies made of stars: star-formation histories, the light of their gas, dust.

Equivalent width, age and Balmer jump belong together here: a galaxy whose Hbeta is strong against its
continuum is one whose stars are young, and the nebular continuum follows from Hbeta by recombination.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.attenuation import attenuation, cardelli
from data_pipeline.simulation.nuclei import HBETA, Nuclei, blend_integrals
from data_pipeline.stellar_library import HBETA_PER_PHOTON, SAMPLING, START, load_library, planck

_MAGNITUDE = 0.4 * np.log(10.0)
_SOLAR_LUMINOSITY = 3.828e33  # erg/s
_POOL = 1500  # histories per metallicity and class
_WINDOW = 0.08  # dex of equivalent width within which histories are alike: escape, stochastic bursts
# Oldest age bin (index) that fits into the age of the universe, by redshift: 13, 3 and 1 Gyr; 300 Myr.
_OLDEST = ((2.2, 7), (5.6, 6), (14.0, 5), (np.inf, 4))
HISTORIES = ("forming", "quiescent", "post-starburst")


@dataclass(frozen=True, eq=False)
class StellarContinua:
    """Parameters of b continua made of stars, gas and, for some, an active nucleus.

    Attributes:
        level: (b,) observed stellar flux density at `HBETA` [erg/s/cm2/A], after dust.
        metallicity: (b,) index into the library's metallicities.
        weights: (b, A) mass formed in each age bin; only their ratios count.
        dispersion: (b,) one-sigma velocities of the stars [km/s].
        hbeta: (b,) observed flux of narrow Hbeta, which fixes the nebular continuum [erg/s/cm2].
        gas_reddening: (b,) E(B-V) of the gas [mag].
        reddening: (b,) E(B-V) of the stars [mag].
        slope: (b,) power that tilts their attenuation curve away from Calzetti's.
        bump: (b,) strength of its 2175 Angstrom bump; 3 is the Milky Way's.
        envelope: (b,) flux density at `HBETA` of a cool black body, as little red dots have [erg/s/cm2/A].
        temperature: (b,) of it [K].
        balmer_break: (b,) share of its light missing below the Balmer limit.
        nuclei: active nuclei.
        column: (b,) log10 neutral hydrogen column at the galaxy [cm-2].
    """

    level: np.ndarray
    metallicity: np.ndarray
    weights: np.ndarray
    dispersion: np.ndarray
    hbeta: np.ndarray
    gas_reddening: np.ndarray
    reddening: np.ndarray
    slope: np.ndarray
    bump: np.ndarray
    envelope: np.ndarray
    temperature: np.ndarray
    balmer_break: np.ndarray
    nuclei: Nuclei
    column: np.ndarray

    def on_grid(self, grid: UnifiedGrid, redshift: np.ndarray) -> np.ndarray:
        """(b, n) flux density before the intergalactic medium [erg/s/cm2/A], pixel means."""
        out = np.zeros((redshift.size, grid.size))
        edges = np.append(grid.bounds[0], grid.bounds[1, -1])
        wavelength, gas_there = grid.wavelength, float(cardelli(np.array(HBETA)))
        for row in np.flatnonzero(self.level + self.nuclei.level + self.hbeta + self.envelope > 0):
            view = _RestView(edges, grid.sampling, float(redshift[row]))
            m = self.metallicity[row]
            if self.level[row] > 0:
                light = view.means(_tables().stars[m], self.weights[row])
                curve = view.at_edges(_tables().calzetti) + self.bump[row] * view.at_edges(_tables().drude)
                curve *= np.exp(self.slope[row] * view.at_edges(_tables().log_wavelength))
                there = attenuation(np.array(HBETA), self.slope[row], self.bump[row])
                light = light * np.exp(-_MAGNITUDE * self.reddening[row] * (curve - there))
                # the grid's pixels are 100 km/s wide: a velocity dispersion is a fixed width in them
                width = self.dispersion[row] / SPEED_OF_LIGHT * grid.sampling
                light = gaussian_filter1d(light, width, mode="nearest")
                out[row] = self.level[row] / (self.weights[row] @ _tables().at_hbeta[m]) * light
            if self.hbeta[row] > 0:
                screen = view.at_edges(_tables().cardelli) - gas_there
                screen = np.exp(-_MAGNITUDE * self.gas_reddening[row] * screen)
                gas = view.means(_tables().nebular[m][None], np.ones(1))
                out[row] += self.hbeta[row] / (1.0 + redshift[row]) * gas * screen
            rest = wavelength / (1.0 + redshift[row])
            if self.envelope[row] > 0:
                shape = planck(rest, self.temperature[row]) / planck(np.array(HBETA), self.temperature[row])
                below = 0.5 * (1.0 - np.tanh((rest - 0.3700) / 0.006))
                out[row] += self.envelope[row] * shape * (1.0 - self.balmer_break[row] * below)
            if self.nuclei.level[row] > 0:
                out[row] += self.nuclei.power_law(rest, [row])[0]
                listed = self.nuclei.listed is not None and bool(self.nuclei.listed[row])
                blends = view.means(blend_integrals(listed), self.nuclei.blends[row]) / (1.0 + redshift[row])
                width = self.nuclei.sigma[row] / SPEED_OF_LIGHT * grid.sampling
                out[row] += gaussian_filter1d(blends, width, mode="nearest")
        return out


@dataclass(frozen=True, eq=False)
class _Tables:
    """What of the library is summed or looked up for every galaxy.

    Attributes:
        stars: (M, A, n + 1) integrals of the spectra up to each edge [um].
        nebular: (M, n + 1) likewise.
        at_hbeta: (M, A) stellar continuum beside Hbeta.
        calzetti, drude, cardelli: (n + 1,) curves k(lambda) at the edges; the bump for unit strength.
        log_wavelength: (n + 1,) ln(lambda / 0.55 um).
    """

    stars: np.ndarray
    nebular: np.ndarray
    at_hbeta: np.ndarray
    calzetti: np.ndarray
    drude: np.ndarray
    cardelli: np.ndarray
    log_wavelength: np.ndarray


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    library = load_library()
    edges, step = library.edges, np.diff(library.edges)
    bare = attenuation(edges, 0.0, 0.0)

    def integrals(spectra: np.ndarray) -> np.ndarray:
        start = np.zeros((*spectra.shape[:-1], 1))
        return np.concatenate([start, np.cumsum(spectra * step, axis=-1)], axis=-1)

    return _Tables(
        stars=integrals(library.stars),
        nebular=integrals(library.nebular),
        at_hbeta=_at_hbeta(library.stars),
        calzetti=bare,
        drude=attenuation(edges, 0.0, 1.0) - bare,
        cardelli=cardelli(np.clip(edges, 0.1, 5.0)),
        log_wavelength=np.log(edges / 0.55),
    )


def nebular_at_hbeta() -> np.ndarray:
    """(M,) nebular continuum at Hbeta per Hbeta luminosity [1 / Angstrom]."""
    return _at_hbeta(load_library().nebular)


def _at_hbeta(spectrum: np.ndarray) -> np.ndarray:
    """Continuum of library spectra (..., n) beside Hbeta: mean of windows clear of absorption."""
    wavelength = load_library().wavelength
    clear = ((wavelength > 0.4800) & (wavelength < 0.4835)) | ((wavelength > 0.4895) & (wavelength < 0.4920))
    return spectrum[..., clear].mean(axis=-1)


class _RestView:
    """Where the pixels of an observed, logarithmic grid lie in the library at a redshift.

    Both grids are logarithmic, so that all edges share one fractional position between the library's.

    Args:
        edges: (n + 1,) observed edges [um].
        sampling: lambda / step of that grid; divides the library's.
        redshift: of the galaxy.
    """

    def __init__(self, edges: np.ndarray, sampling: float, redshift: float):
        every = round(SAMPLING / sampling)
        if abs(every * sampling - SAMPLING) > 1e-6 * SAMPLING:
            raise ValueError(f"sampling={sampling}: expected a divisor of {SAMPLING:g}")
        place = (np.log(edges[0] / (1.0 + redshift)) - np.log(START)) * SAMPLING
        first = int(np.floor(place))
        self._share = place - first
        stop, last = first + every * (edges.size - 1) + 1, _tables().calzetti.size - 2
        self._index, self._next = slice(first, stop, every), slice(first + 1, stop + 1, every)
        if first < 0 or stop > last + 1:  # below 912 Angstrom, where the library begins, galaxies are dark
            self._index = np.clip(np.arange(first, stop, every), 0, last)
            self._next = self._index + 1
        self._width = np.diff(edges) / (1.0 + redshift)

    def means(self, integrals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n,) weighted sum of spectra (A, m) of which ``integrals`` are given, mean over each pixel."""
        total = weights @ integrals  # before the pixels are picked, which is slow
        edges = (1.0 - self._share) * total[self._index] + self._share * total[self._next]
        return np.diff(edges) / self._width

    def at_edges(self, curve: np.ndarray) -> np.ndarray:
        """(n,) a smooth curve of the library's edges near the middle of each pixel."""
        there = curve[self._index]
        return 0.5 * (there[:-1] + there[1:])


@dataclass(frozen=True, eq=False)
class _Pool:
    """Histories of one kind that fit into the age of the universe, by rising equivalent width.

    Attributes:
        width: (P,) log10 intrinsic equivalent width of Hbeta against the stars alone [Angstrom].
        weights: (P, A) mass formed per age bin.
    """

    width: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=64)
def _pool(history: str, metallicity: int, oldest: int) -> _Pool:
    rng = np.random.default_rng([HISTORIES.index(history), metallicity, oldest])
    weights = _HISTORIES[history](rng, oldest)
    library = load_library()
    spectra = _tables().at_hbeta[metallicity]
    photons = weights @ library.ionising[metallicity]
    width = HBETA_PER_PHOTON * photons / (_SOLAR_LUMINOSITY * (weights @ spectra))
    order = np.argsort(width)
    return _Pool(np.log10(width[order]), weights[order])


def _rates_to_masses(rate: np.ndarray) -> np.ndarray:
    """Mass per bin of star-formation rates that are constant within each."""
    return rate * np.diff(load_library().age_edges)


def _forming(rng: np.random.Generator, oldest: int) -> np.ndarray:
    """Constant, rising and declining histories that began some time ago, half of them with a burst."""
    edges = load_library().age_edges
    middle = np.sqrt(np.maximum(edges[:-1], 0.5) * edges[1:])
    begin = 10.0 ** rng.uniform(0.3, np.log10(edges[oldest + 1]), _POOL)
    # rate ~ exp(age / tau): falls towards today for positive tau, rises for negative
    tau = np.where(rng.random(_POOL) < 0.5, 1.0, -1.0) * 10.0 ** rng.uniform(-0.5, 1.5, _POOL) * begin
    rate = np.exp(np.clip(middle / tau[:, None], -30.0, 30.0))
    # a bin in which star formation began counts in part
    share = np.clip((begin[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    mass = _rates_to_masses(rate) * share
    mass /= mass.sum(axis=1, keepdims=True)
    # recent rates wander by factors, as those of small galaxies do
    mass *= 10.0 ** (0.35 * rng.standard_normal(mass.shape))
    burst = rng.random(_POOL) < 0.5
    young = np.where(np.arange(mass.shape[1]) == rng.integers(0, 3, _POOL)[:, None], 1.0, 0.0)
    strength = 10.0 ** rng.uniform(-2.5, 0.7, _POOL)
    return mass + np.where(burst, strength, 0.0)[:, None] * young


def _quiescent(rng: np.random.Generator, oldest: int) -> np.ndarray:
    """Formed early, ended by an exponential decline; a trickle of later stars in some."""
    edges = load_library().age_edges
    last = edges[oldest + 1]
    age = 10.0 ** rng.uniform(np.log10(min(500.0, 0.4 * last)), np.log10(last), _POOL)
    middle = np.sqrt(np.maximum(edges[:-1], 0.5) * edges[1:])
    width = 10.0 ** rng.uniform(0.02, 0.35, _POOL)
    rate = np.exp(-0.5 * (np.log(middle / age[:, None]) / np.log(width[:, None] + 0.3)) ** 2)
    rate *= middle > 90.0
    rate[:, oldest + 1 :] = 0.0
    mass = _rates_to_masses(rate)
    mass /= mass.sum(axis=1, keepdims=True)
    trickle = 10.0 ** rng.uniform(-5.5, -3.5, _POOL)
    return mass + trickle[:, None] * (np.arange(mass.shape[1]) < 4)


def _post_starburst(rng: np.random.Generator, oldest: int) -> np.ndarray:
    """A burst 0.1-1 Gyr ago that made much of the mass, and little since."""
    mass = np.zeros((_POOL, load_library().age_edges.size - 1))
    share = rng.uniform(0.15, 0.9, _POOL)
    split = rng.random(_POOL)
    mass[:, 4], mass[:, 5] = share * split, share * (1.0 - split)
    mass[:, min(oldest, 6)] += 1.0 - share
    mass[:, :4] += 10.0 ** rng.uniform(-5.0, -3.0, _POOL)[:, None]
    return mass


_HISTORIES = {"forming": _forming, "quiescent": _quiescent, "post-starburst": _post_starburst}


def choose_histories(
    history: str, redshift: np.ndarray, metallicity: np.ndarray, width: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """(b, A) mass formed per age bin of histories with given equivalent widths.

    Args:
        history: one of `HISTORIES`.
        redshift: (b,), bounds the age of the oldest stars.
        metallicity: (b,) index into the library's.
        width: (b,) log10 intrinsic equivalent width of Hbeta against the stars [Angstrom]; without meaning
            but for ``forming``.
        uniform: (b,) uniform numbers that choose among histories that are alike.
    """
    out = np.zeros((redshift.size, load_library().age_edges.size - 1))
    for row, z in enumerate(redshift):
        oldest = next(index for limit, index in _OLDEST if z < limit)
        pool = _pool(history, int(metallicity[row]), oldest)
        first, last = 0, pool.width.size
        if history == "forming":
            first, last = np.searchsorted(pool.width, [width[row] - _WINDOW, width[row] + _WINDOW])
            first, last = min(int(first), pool.width.size - 1), max(int(last), 1)
            first, last = (first, last) if last > first else (min(first, last - 1), min(first, last - 1) + 1)
        out[row] = pool.weights[first + int(uniform[row] * (last - first))]
    return out
