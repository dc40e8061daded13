"""Galaxies of every kind: redshift, line fluxes and widths, continuum."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from data_pipeline.lines import LineList, load_lines
from data_pipeline.simulation.components import Components, absorbers, broad_widths, outflows
from data_pipeline.simulation.config import (
    BROAD_LINE,
    KINDS,
    POST_STARBURST,
    QUASAR,
    QUIESCENT,
    STAR_FORMING,
    WITHOUT_REDSHIFT,
    Population,
)
from data_pipeline.simulation.continua import Continua
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.extent import POINT, TYPICAL_SIZE
from data_pipeline.simulation.further_lines import add_further_lines
from data_pipeline.simulation.galaxy_light import stellar_continua, template_continua
from data_pipeline.simulation.gas import active_and_passive_shifts
from data_pipeline.simulation.line_fluxes import broad_ratios_to_halpha, gas_reddening, line_ratios_to_hbeta
from data_pipeline.simulation.noise import grating_line_error, typical_prism_error
from data_pipeline.simulation.nuclei import draw_nuclei
from data_pipeline.simulation.stars import StellarContinua
from data_pipeline.simulation.survey import Targets, draw_redshifts

_QUASAR_LEVEL = 4.0  # S/N of quasars over that of galaxies without lines
BEYOND_THE_GRID = KINDS.index("beyond-the-grid")
_NO_GALAXY = [KINDS.index(name) for name in WITHOUT_REDSHIFT if name != "beyond-the-grid"]


@dataclass(frozen=True)
class Galaxies(Components):
    """b galaxies as they are, before any instrument.

    Attributes:
        kind: (b,) index into `KINDS`.
        redshift: (b,); without meaning where there is no galaxy.
        line_flux: (b, L) total flux of each line [erg/s/cm2]: narrow, broad and wings.
        velocity_sigma: (b,) one-sigma width of the narrow lines [km/s].
        size: (b,) half-light radius [arcsec].
        continua: the continua's parameters.
        companion: which of them share their slit with another source, and those sources; None for nobody.
    """

    kind: np.ndarray
    redshift: np.ndarray
    line_flux: np.ndarray
    velocity_sigma: np.ndarray
    size: np.ndarray
    continua: Continua | StellarContinua
    companion: tuple[np.ndarray, Galaxies] | None = None

    @property
    def has_redshift(self) -> np.ndarray:
        """(b,) bool: whether there is a redshift to be had."""
        return ~np.isin(self.kind, [KINDS.index(name) for name in WITHOUT_REDSHIFT])

    def rows(self, which: np.ndarray) -> Galaxies:
        """Some of the galaxies (r,), by number, with their companions."""
        some = _rows(replace(self, companion=None), which)
        if self.companion is None:
            return some
        place = np.full(self.kind.size, -1)
        place[which] = np.arange(len(which))
        shared = place[self.companion[0]]
        taken = np.flatnonzero(shared >= 0)
        return replace(some, companion=(shared[taken], self.companion[1].rows(taken)))

    def times(self, factor: np.ndarray) -> Galaxies:
        """The galaxies with all line fluxes multiplied by ``factor``, (b, 1) or (b, L)."""
        flux = {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("line_flux")}
        return replace(self, **{name: values * factor for name, values in flux.items()})


def _rows(arrays, which: np.ndarray):
    """A dataclass of arrays and such dataclasses, with some of their rows."""
    every = {f.name: getattr(arrays, f.name) for f in fields(arrays)}
    chosen = {
        name: value[which] if isinstance(value, np.ndarray) else value and _rows(value, which)
        for name, value in every.items()
    }
    return replace(arrays, **chosen)


def draw_galaxies(population: Population, seed: int, targets: Targets, lines: LineList) -> Galaxies:
    """Draw the galaxies behind ``targets``; re-observed ones come out the same again."""
    draws = Draws(seed, targets.galaxy, population.stream)
    kind = _draw_kind(population, draws)
    redshift = _draw_redshift(population, targets, kind, draws)
    passive, quasar = (kind == QUIESCENT) | (kind == POST_STARBURST), kind == QUASAR
    active, empty = quasar | (kind == BROAD_LINE), np.isin(kind, _NO_GALAXY)
    dot = (kind == BROAD_LINE) & (draws.uniform("little red dot") < population.little_red_dot_fraction)
    library = population.continua == "library"
    reddening = gas_reddening(redshift, draws.normal("gas reddening"), population.extra_dust)
    shift, evolved = _kind_shifts(active, passive, draws), None
    if library:
        shift |= active_and_passive_shifts(active, passive, redshift, draws)
        share = population.metal_rich_fraction * np.clip(1.0 - redshift / 3.0, 0.0, 1.0)
        evolved = (kind == STAR_FORMING) & (draws.uniform("evolved") < share)
    scatter = population.species_scatter
    narrow = line_ratios_to_hbeta(lines, redshift, reddening, draws, scatter, shift, evolved)
    add_further_lines(narrow, lines, kind, redshift, reddening, scatter, draws)
    hbeta = _line_level(population, targets, redshift, narrow, lines, draws)

    width, level = _equivalent_widths(population, evolved, redshift, narrow, hbeta, lines, draws)
    passive_level = _passive_level(population, targets, draws)
    hbeta, level = _without_star_formation(kind, passive_level, redshift, narrow, hbeta, level, lines, draws)

    veil = np.where(dot & library, 0.8 * draws.uniform("veil of little red dots"), 0.0)
    broad = _broad_lines(kind, narrow * hbeta[:, None], veil, lines, draws)
    broad_sigma = 10.0 ** (2.85 + 0.2 * np.clip(draws.normal("broad velocity"), -2.1, 2.0))
    behind, chance = level, np.zeros(kind.size)
    if library:
        nuclei, broad, broad_sigma = _nuclei(
            population, kind, dot, passive_level, broad, redshift, lines, draws
        )
        hbeta, level = _of_quasars(quasar, nuclei, redshift, narrow, hbeta, level, lines, draws)
        continua = stellar_continua(
            kind, dot, redshift, level, hbeta, reddening, narrow, nuclei, lines, draws
        )
        behind, chance = level + nuclei.level, np.where(dot, 0.2, 0.03)
    else:
        continua = template_continua(kind, dot, redshift, width, level, reddening, narrow, lines, draws)
    flux = narrow * hbeta[:, None]
    broad_sigma = np.where(active, broad_sigma, 0.0)
    absorbed = absorbers(chance, broad, broad_sigma, behind, redshift, lines, draws)
    broad = broad - absorbed["absorbed_line_flux"]
    wings = outflows(population.outflow_fraction, active | (kind == STAR_FORMING), flux, lines, draws)
    sigma_v = np.clip(10.0 ** (1.72 + 0.2 * draws.normal("velocity")), 15.0, 300.0)
    return Galaxies(
        kind=kind,
        redshift=redshift,
        line_flux=flux + broad + wings["wing_line_flux"],
        velocity_sigma=np.where(passive, 3.0 * sigma_v, sigma_v),
        size=_sizes(population.size_scatter, dot | quasar | empty, redshift, draws),
        continua=continua,
        broad_line_flux=broad,
        broad_velocity_sigma=broad_sigma,
        **wings,
        **absorbed,
    )


def _nuclei(population, kind, dot, passive_level, broad, redshift, lines, draws):
    """Nuclei, broad fluxes (b, L) and widths (b,): bare in quasars and half of other broad-line objects."""
    quasar = kind == QUASAR
    sigma = broad_widths(dot, quasar, draws)
    bare = (kind == BROAD_LINE) & ~dot & (draws.uniform("bare nucleus") < 0.5)
    halpha = np.where(bare, broad[:, lines.index("Halpha")], 0.0)
    at_2um = np.where(quasar, _QUASAR_LEVEL * passive_level, 0.0)
    bright = np.where(quasar, population.continuum_sn_scatter * draws.normal("continuum S/N"), -0.5)
    nuclei, own = draw_nuclei(lines, halpha, at_2um, bright, redshift, sigma, draws)
    return nuclei, np.where((bare | quasar)[:, None], own, broad), sigma


def _of_quasars(quasar, nuclei, redshift, narrow, hbeta, level, lines, draws):
    """Narrow Hbeta and level of stars, those of quasars set against their nuclei.

    Their [O III] has 13 Angstrom (Vanden Berk et al. 2001), their stars a few per cent of the light.
    """
    oxygen = 13.0 * 10.0 ** (0.4 * draws.normal("quasar [OIII]")) * (1.0 + redshift)
    oxygen = oxygen * nuclei.power_law(np.array([0.500824]))[:, 0] / narrow[:, lines.index("[OIII]_5008")]
    stars = (0.02 + 0.18 * draws.uniform("quasar host")) * nuclei.level
    return np.where(quasar, oxygen, hbeta), np.where(quasar, stars, level)


def _sizes(scatter: float, point: np.ndarray, redshift: np.ndarray, draws: Draws) -> np.ndarray:
    """(b,) half-light radii [arcsec], smaller at higher redshift."""
    away = scatter * (np.clip(draws.normal("size"), -2.5, 2.5) - 2.0 * np.log10((1.0 + redshift) / 4.0))
    return np.where(point & (scatter > 0), POINT, TYPICAL_SIZE * 10.0**away)


def _line_level(population, targets, redshift, narrow, lines, draws) -> np.ndarray:
    """(b,) flux of Hbeta that gives the strongest line the S/N of the population."""
    observed = lines.wavelength * (1.0 + redshift[:, None])
    error = grating_line_error(targets.home_tier, np.clip(observed, 0.72, 5.25))
    # of the first list: a longer one must not move the lines that both have
    counted = (lines.wavelength > 0.36) & np.isin(lines.names, load_lines().names)
    strongest = (narrow / error)[:, counted].max(axis=1)
    sn = population.line_sn_median * 10.0 ** (population.line_sn_scatter * draws.normal("line S/N"))
    return sn / strongest


def _without_star_formation(kind, passive_level, redshift, narrow, hbeta, level, lines, draws):
    """Hbeta and continuum, those set anew that go by their continuum, and none where there is no galaxy."""
    passive, beyond = (kind == QUIESCENT) | (kind == POST_STARBURST), kind == BEYOND_THE_GRID
    empty = np.isin(kind, _NO_GALAXY)
    level = np.where(passive, passive_level, level)
    far = draws.uniform("beyond the grid", 3) if beyond.any() else np.zeros((kind.size, 3))
    # The ultraviolet of young galaxies, near 2 um here, is some ten times as bright as their optical light.
    level = np.where(beyond, 10.0 ** (2.0 * far[:, 1] - 2.0) * passive_level, level)
    # Weak emission of galaxies without star formation: Halpha of 1-3 Angstrom.
    weak = 10.0 ** (0.3 + 0.3 * draws.normal("weak emission")) * (1 + redshift) * level
    hbeta = np.where(passive, weak / narrow[:, lines.index("Halpha")], hbeta)
    hbeta = np.where(beyond, 10.0 ** (1.0 + far[:, 2]) * (1 + redshift) * level, hbeta)
    return np.where(empty, 0.0, hbeta), np.where(empty, 0.0, level)


def _draw_kind(population: Population, draws: Draws) -> np.ndarray:
    # star-forming galaxies have what the others leave
    bounds = np.concatenate([np.cumsum(population.shares(KINDS[1:])), [1.0]])
    place = np.searchsorted(bounds, draws.uniform("kind"), side="right")
    return np.where(place == len(KINDS) - 1, STAR_FORMING, place + 1)


def _draw_redshift(population: Population, targets: Targets, kind: np.ndarray, draws: Draws) -> np.ndarray:
    uniform, flat = draws.uniform("redshift"), draws.uniform("flat redshift")
    redshift = draw_redshifts(population, targets.home_tier, uniform, flat)
    passive = (kind == QUIESCENT) | (kind == POST_STARBURST)
    # Quiescent galaxies are not seen beyond z ~ 5.5: fold those back.
    redshift = np.where(passive & (redshift > 5.5), 0.5 + 5.0 * draws.uniform("passive redshift"), redshift)
    if (kind == BEYOND_THE_GRID).any():
        far = draws.uniform("beyond the grid", 3)[:, 0]
        redshift = np.where(kind == BEYOND_THE_GRID, 15.0 + 5.0 * far, redshift)
    return np.where(kind == QUASAR, 2.0 * 5.5 ** draws.uniform("quasar redshift") - 1.0, redshift)


def _kind_shifts(broad: np.ndarray, passive: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """By how many dex line ratios of other kinds differ from star-forming galaxies: harder ionisation."""
    scatter = 0.15 * draws.normal("ionisation")
    return {
        "[OIII]/Hbeta": np.where(broad, 0.05 + 0.3 * scatter, np.where(passive, -0.35 + scatter, 0.0)),
        "[NII]/Halpha": np.where(broad, 0.25 + scatter, np.where(passive, 0.95 + scatter, 0.0)),
        "[OII]/Hbeta": np.where(passive, 0.3 + scatter, 0.0),
        "HeII_4687": np.where(broad, 0.7, 0.0),
        "HeII_1640": np.where(broad, 0.7, 0.0),
        "CIV_1548": np.where(broad, 0.7, 0.0),
        "[OI]_6302": np.where(passive, 0.6, 0.0),
    }


def _equivalent_widths(
    population, evolved, redshift, narrow, hbeta, lines, draws
) -> tuple[np.ndarray, np.ndarray]:
    """log10 rest-frame equivalent width of [OIII]+Hbeta [Angstrom] and the continuum level it implies.

    23 % above 750 Angstrom at z 3-4.1 and 61 % beyond z 5.7 (Boyett et al. 2024) fix the trend for a
    scatter of 0.42 dex. Metal-rich galaxies (``evolved``) have less [O III], and Hbeta of 5-30 Angstrom.
    """
    at = lines.index
    both = narrow[:, at("[OIII]_5008")] + narrow[:, at("[OIII]_4960")] + 1.0
    trend = 2.61 + 1.5 * (np.log10(1.0 + redshift) - 0.653)
    if evolved is not None:
        trend = trend + np.where(evolved, np.log10(both / 8.0) - 0.15, 0.0)
    rho = population.equivalent_width_correlation
    normal = rho * draws.normal("line S/N") + np.sqrt(1.0 - rho**2) * draws.normal("equivalent width")
    width = trend + population.equivalent_width_scatter * normal
    width = np.clip(width + np.log10(population.equivalent_width_factor), 0.6, 3.6)
    return width, both * hbeta / (10.0**width * (1.0 + redshift))


def _passive_level(population: Population, targets: Targets, draws: Draws) -> np.ndarray:
    sn = population.continuum_sn_median * 10.0 ** (
        population.continuum_sn_scatter * draws.normal("continuum S/N")
    )
    return sn * typical_prism_error(targets.home_tier, 2.0)


def _broad_lines(
    kind: np.ndarray, flux: np.ndarray, veil: np.ndarray, lines: LineList, draws: Draws
) -> np.ndarray:
    """(b, L) broad lines by narrow Halpha; ``veil`` (b,) is what reddens them beyond the usual [mag].

    Little red dots have Balmer decrements of 4-12 (Brooks et al. 2025).
    """
    reddening = np.minimum(0.25 * np.exp(0.7 * draws.normal("broad-line reddening")), 1.5)
    strength = 10.0 ** (0.45 + 0.3 * draws.normal("broad-line strength"))
    halpha = np.where(kind == BROAD_LINE, strength * flux[:, lines.index("Halpha")], 0.0)
    return broad_ratios_to_halpha(lines, reddening + veil) * halpha[:, None]
