"""Continua: mixtures of template spectra under dust, tilted and absorbed by the intergalactic medium."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.attenuation import calzetti, intergalactic_transmission
from data_pipeline.simulation.stars import StellarContinua
from data_pipeline.stellar_library import planck

# Continua are made on this grid, which outreaches every instrument, and brought to the others by their
# line-spread operators.
INTRINSIC_GRID = UnifiedGrid(start=0.55, stop=5.65, sampling=3000.0)
# Rest-frame spectra of simple stellar populations and of ionised gas: black bodies and power laws with the
# breaks, absorption lines and bands that a prism spectrum shows, at strengths typical of such populations.
# They are no fit to a library: they teach where breaks lie and how they go together.
TEMPLATES = ("young", "intermediate", "old", "nebular", "red")
_SAMPLING = 12_000.0  # lambda / step of the rest-frame grid
_START, _STOP = 0.034, 6.0  # um

# Rest wavelengths of absorption lines [um], widths [um] and equivalent widths [Angstrom]. Young and
# intermediate populations: hydrogen; old ones: metals.
_BALMER = (0.656463, 0.486269, 0.434169, 0.410290, 0.397120, 0.389016, 0.383647, 0.379900, 0.377170, 0.375100)
_BALMER_STRENGTH = (0.6, 1.0, 1.0, 1.05, 1.0, 0.9, 0.75, 0.6, 0.45, 0.35)
_PASCHEN = (1.875608, 1.282157, 1.094107, 1.005212, 0.954858, 0.923154, 0.901738, 0.886520, 0.875291)
METALS = (
    (0.393477, 0.0010, 9.0),  # Ca K
    (0.396959, 0.0009, 7.0),  # Ca H
    (0.430580, 0.0014, 6.0),  # G band
    (0.422790, 0.0007, 1.5),  # Ca I
    (0.438460, 0.0012, 4.0),  # Fe 4383
    (0.517600, 0.0022, 4.5),  # Mg b
    (0.527040, 0.0014, 2.8),  # Fe 5270
    (0.533500, 0.0014, 2.4),  # Fe 5335
    (0.589420, 0.0009, 4.0),  # Na D
    (0.715000, 0.0080, 8.0),  # TiO
    (0.850036, 0.0006, 1.3),  # Ca triplet
    (0.854444, 0.0006, 3.4),
    (0.866452, 0.0006, 2.8),
    (0.278000, 0.0040, 14.0),  # Mg II and Mg I 2852
)


@dataclass(frozen=True)
class Continua:
    """Parameters of b continua.

    Attributes:
        level: (b,) observed flux density at 0.505 um rest [erg/s/cm2/A].
        weights: (b, K) shares of the templates at 0.505 um rest, in the order of `TEMPLATES`.
        reddening: (b,) E(B-V) of the stars [mag].
        tilt: (b,) exponent of an extra power law in wavelength.
        column: (b,) log10 neutral hydrogen column at the galaxy [cm-2].
    """

    level: np.ndarray
    weights: np.ndarray
    reddening: np.ndarray
    tilt: np.ndarray
    column: np.ndarray


def _step(wavelength: np.ndarray, edge: float, width: float) -> np.ndarray:
    """Rises from 0 to 1 through ``edge`` within about ``width``."""
    return 0.5 * (1.0 + np.tanh((wavelength - edge) / width))


def absorption(wavelength: np.ndarray, lines) -> np.ndarray:
    """(n,) what Gaussian lines let through: wavelengths, sigmas [um], equivalent widths [Angstrom]."""
    out = np.ones_like(wavelength)
    for centre, sigma, equivalent_width in lines:
        # No line is blacker than nine tenths: narrow strong ones would otherwise go below zero.
        depth = min(equivalent_width * 1e-4 / (sigma * np.sqrt(2 * np.pi)), 0.9)
        out *= 1.0 - depth * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2)
    return out


def hydrogen_absorption(wavelength: np.ndarray, equivalent_width: float, sigma: float) -> np.ndarray:
    """Balmer and Paschen absorption; ``equivalent_width`` [Angstrom] is that of Hbeta, sigma in um."""
    lines = [(x, sigma, equivalent_width * s) for x, s in zip(_BALMER, _BALMER_STRENGTH, strict=True)]
    lines += [(x, 1.5 * sigma * x / 1.0, 0.7 * equivalent_width) for x in _PASCHEN]
    return absorption(wavelength, lines)


def jump(wavelength: np.ndarray, edge: float, depth: float, width: float) -> np.ndarray:
    """A continuum that is lower by ``depth`` (a fraction) below ``edge``."""
    return 1.0 - depth * (1.0 - _step(wavelength, edge, width))


def _young(x: np.ndarray) -> np.ndarray:
    shape = (x / 0.5) ** -2.35 * (1.0 + (x / 1.6) ** 2) ** -0.3
    return shape * jump(x, 0.3675, 0.08, 0.002) * hydrogen_absorption(x, 2.5, 0.0006)


def _intermediate(x: np.ndarray) -> np.ndarray:
    shape = 0.75 * planck(x, 9500.0) / planck(np.array(0.5), 9500.0) + 0.25 * planck(x, 4500.0) / planck(
        np.array(0.5), 4500.0
    )
    breaks = jump(x, 0.3720, 0.52, 0.004) * jump(x, 0.822, 0.10, 0.004) * (0.15 + 0.85 * _step(x, 0.17, 0.04))
    return shape * breaks * hydrogen_absorption(x, 8.5, 0.0009)


def _old(x: np.ndarray) -> np.ndarray:
    shape = planck(x, 4900.0) / planck(np.array(0.5), 4900.0)
    breaks = jump(x, 0.3990, 0.38, 0.003) * jump(x, 0.2640, 0.45, 0.004) * jump(x, 0.2900, 0.2, 0.004)
    hump = 1.0 + 0.18 * np.exp(-0.5 * ((x - 1.63) / 0.14) ** 2)  # H- opacity minimum
    carbon_monoxide = 1.0 - 0.15 * _step(x, 2.295, 0.006) * np.exp(-np.maximum(x - 2.295, 0.0) / 0.12)
    return shape * breaks * hump * carbon_monoxide * absorption(x, METALS)


def _nebular(x: np.ndarray) -> np.ndarray:
    """Recombination, free-free and two-photon continuum of hydrogen at 1.3e4 K, in F_lambda."""
    slope = 14_388.0 / 13_000.0
    density = np.full_like(x, 0.6)
    for edge, height in ((0.3646, 8.0), (0.8204, 3.0), (1.4584, 1.6)):
        fall = height * np.exp(-slope * np.maximum(1.0 / x - 1.0 / edge, 0.0))
        density += fall * (1.0 - _step(x, edge * 1.004, edge * 0.003))
    y = np.clip(0.121567 / x, 0.0, 1.0)
    density += 6.0 * y * (1.0 - y) ** 0.5 * (x > 0.121567)
    return density / x**2


def _red(x: np.ndarray) -> np.ndarray:
    """Optical continuum of a little red dot: a dense-gas Balmer break under a cool black body."""
    shape = planck(x, 4600.0) / planck(np.array(0.5), 4600.0)
    return shape * jump(x, 0.3700, 0.35, 0.006)


@lru_cache(maxsize=1)
def _cumulative() -> tuple[float, np.ndarray]:
    """Logarithm of the grid's first edge, and (K, m) integrals of the templates from there [um]."""
    count = int(np.log(_STOP / _START) * _SAMPLING)
    edges = _START * np.exp(np.arange(count + 1) / _SAMPLING)
    x = 0.5 * (edges[1:] + edges[:-1])
    near = (x > 0.500) & (x < 0.510)
    total = []
    for shape in (_young, _intermediate, _old, _nebular, _red):
        value = np.where(x > 0.0912, shape(x), 0.0)
        value /= value[near].mean()
        total.append(np.concatenate([[0.0], np.cumsum(value * np.diff(edges))]))
    return float(np.log(edges[0])), np.array(total)


def templates_on(edges: np.ndarray, sampling: float, redshift: float) -> np.ndarray:
    """(K, n) mean flux density of every template per pixel of a logarithmic grid; 1 near 0.505 um rest.

    Exact integrals of the fine templates: because both grids are logarithmic, all edges share one fractional
    position between the fine ones. Observed pixel edges (n + 1,) are in um, ``sampling`` (lambda / step)
    divides the fine sampling.
    """
    start, total = _cumulative()
    every = round(_SAMPLING / sampling)
    if abs(every * sampling - _SAMPLING) > 1e-6 * _SAMPLING:
        raise ValueError(f"sampling={sampling}: expected a divisor of {_SAMPLING:g}")
    place = (np.log(edges[0] / (1.0 + redshift)) - start) * _SAMPLING
    first = int(np.floor(place))
    share = place - first
    stop = first + every * (edges.size - 1) + 1
    if first < 0 or stop + 1 > total.shape[1]:
        raise ValueError(f"redshift={redshift}: rest wavelengths leave {_START}-{_STOP} um")
    at_edges = (1.0 - share) * total[:, first:stop:every] + share * total[:, first + 1 : stop + 1 : every]
    return np.diff(at_edges, axis=1) / np.diff(edges / (1.0 + redshift))


def intrinsic_continua(continua: Continua | StellarContinua, redshift: np.ndarray) -> np.ndarray:
    """(b, n) flux density on `INTRINSIC_GRID` [erg/s/cm2/A], pixel means, no line-spread function."""
    grid = INTRINSIC_GRID
    bounds = grid.bounds
    if isinstance(continua, StellarContinua):
        light = continua.on_grid(grid, redshift)
        return light * intergalactic_transmission(bounds, redshift, continua.column)
    edges = np.append(bounds[0], bounds[1, -1])
    out = np.zeros((redshift.size, grid.size))
    shining = np.flatnonzero(continua.level > 0)
    for row in shining:
        out[row] = continua.weights[row] @ templates_on(edges, grid.sampling, float(redshift[row]))
    if shining.size:
        rest = grid.wavelength / (1.0 + redshift[shining, None])
        # Nebular light and stars share one screen; normalised at 0.505 um so that `level` stays the level.
        depth = 0.4 * np.log(10.0) * continua.reddening[shining, None] * (calzetti(rest) - calzetti(0.505))
        shape = np.exp(continua.tilt[shining, None] * np.log(rest / 0.505) - depth)
        out[shining] *= shape * continua.level[shining, None]
        out[shining] *= intergalactic_transmission(bounds, redshift[shining], continua.column[shining])
    return out
