"""Galaxies of every kind: redshift, line fluxes and widths, continuum."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.attenuation import attenuation, cardelli
from data_pipeline.simulation.config import KINDS, WITHOUT_REDSHIFT, Population
from data_pipeline.simulation.continua import TEMPLATES, Continua
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.gas import evolved_share
from data_pipeline.simulation.line_fluxes import broad_ratios_to_halpha, gas_reddening, line_ratios_to_hbeta
from data_pipeline.simulation.noise import grating_line_error, typical_prism_error
from data_pipeline.simulation.stars import HBETA, StellarContinua, choose_histories, nebular_at_hbeta
from data_pipeline.simulation.stellar_library import load_library
from data_pipeline.simulation.survey import Targets, draw_redshifts

STAR_FORMING, BROAD_LINE, QUIESCENT, POST_STARBURST = range(4)
BEYOND_THE_GRID = KINDS.index("beyond-the-grid")
_NO_GALAXY = [KINDS.index(name) for name in WITHOUT_REDSHIFT if name != "beyond-the-grid"]


@dataclass(frozen=True)
class Galaxies:
    """b galaxies as they are, before any instrument.

    Attributes:
        kind: (b,) index into `KINDS`.
        redshift: (b,); without meaning where there is no galaxy.
        line_flux: (b, L) total flux of each line [erg/s/cm2], broad part included.
        broad_line_flux: (b, L) the broad part of it.
        velocity_sigma: (b,) one-sigma width of the narrow lines [km/s].
        broad_velocity_sigma: (b,) the same for the broad lines.
        continua: the continua's parameters.
        wing_line_flux: (b, L) the part of `line_flux` in the wings of outflows.
        wing_velocity_sigma: (b,) one-sigma width of the wings [km/s].
        wing_velocity: (b,) by which they are offset [km/s], negative towards us.
        companion: which of them share their slit with another source, and those sources; None for nobody.
    """

    kind: np.ndarray
    redshift: np.ndarray
    line_flux: np.ndarray
    broad_line_flux: np.ndarray
    velocity_sigma: np.ndarray
    broad_velocity_sigma: np.ndarray
    continua: Continua | StellarContinua
    wing_line_flux: np.ndarray
    wing_velocity_sigma: np.ndarray
    wing_velocity: np.ndarray
    companion: tuple[np.ndarray, Galaxies] | None = None

    @property
    def has_redshift(self) -> np.ndarray:
        """(b,) bool: whether there is a redshift to be had."""
        return ~np.isin(self.kind, [KINDS.index(name) for name in WITHOUT_REDSHIFT])

    def rows(self, which: np.ndarray) -> Galaxies:
        """Some of the galaxies, without companions."""
        return _rows(replace(self, companion=None), which)

    def times(self, factor: np.ndarray) -> Galaxies:
        """The galaxies with all line fluxes multiplied by ``factor`` (b,)."""
        flux = {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("line_flux")}
        return replace(self, **{name: values * factor[:, None] for name, values in flux.items()})


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
    redshift = draw_redshifts(
        population, targets.home_tier, draws.uniform("redshift"), draws.uniform("flat redshift")
    )
    # Quiescent galaxies are not seen beyond z ~ 5.5: fold those back.
    passive = (kind == QUIESCENT) | (kind == POST_STARBURST)
    redshift = np.where(passive & (redshift > 5.5), 0.5 + 5.0 * draws.uniform("passive redshift"), redshift)

    beyond, empty = kind == BEYOND_THE_GRID, np.isin(kind, _NO_GALAXY)
    far = draws.uniform("beyond the grid", 3) if beyond.any() else np.zeros((kind.size, 3))
    redshift = np.where(beyond, 15.0 + 5.0 * far[:, 0], redshift)

    reddening = gas_reddening(redshift, draws.normal("gas reddening"), population.extra_dust)
    shift, evolved = _kind_shifts(kind, draws), None
    if population.continua == "library":
        shift |= _published_shifts(kind, redshift, draws)
        evolved = (kind == STAR_FORMING) & (draws.uniform("evolved") < evolved_share(redshift))
    scatter = population.species_scatter
    narrow = line_ratios_to_hbeta(lines, redshift, reddening, draws, scatter, shift, evolved)
    observed = lines.wavelength * (1.0 + redshift[:, None])
    error = grating_line_error(targets.home_tier, np.clip(observed, 0.72, 5.25))
    strongest = (narrow / error)[:, lines.wavelength > 0.36].max(axis=1)
    sn = population.line_sn_median * 10.0 ** (population.line_sn_scatter * draws.normal("line S/N"))
    hbeta = sn / strongest

    width, level = _equivalent_widths(population, evolved, redshift, narrow, hbeta, lines, draws)
    passive_level = _passive_level(population, targets, draws)
    level = np.where(passive, passive_level, level)
    # The ultraviolet of young galaxies, near 2 um here, is some ten times as bright as their optical light.
    level = np.where(beyond, 10.0 ** (2.0 * far[:, 1] - 2.0) * passive_level, level)
    # Weak emission of galaxies without star formation: Halpha of 1-3 Angstrom.
    weak = 10.0 ** (0.3 + 0.3 * draws.normal("weak emission")) * (1 + redshift) * level
    hbeta = np.where(passive, weak / narrow[:, lines.index("Halpha")], hbeta)
    hbeta = np.where(beyond, 10.0 ** (1.0 + far[:, 2]) * (1 + redshift) * level, hbeta)
    hbeta, level = np.where(empty, 0.0, hbeta), np.where(empty, 0.0, level)

    flux = narrow * hbeta[:, None]
    broad = _broad_lines(kind, flux, lines, draws)
    wing, wing_sigma, wing_velocity = _outflows(population, kind, flux, lines, draws)
    sigma_v = np.clip(10.0 ** (1.72 + 0.2 * draws.normal("velocity")), 15.0, 300.0)
    sigma_v = np.where(passive, 3.0 * sigma_v, sigma_v)
    broad_sigma = 10.0 ** (2.85 + 0.2 * np.clip(draws.normal("broad velocity"), -2.1, 2.0))
    if population.continua == "library":
        continua = _stellar_continua(
            population, kind, redshift, level, hbeta, reddening, narrow, lines, draws
        )
    else:
        continua = _continua(population, kind, redshift, width, level, reddening, narrow, lines, draws)
    return Galaxies(
        kind=kind,
        redshift=redshift,
        line_flux=flux + broad + wing,
        broad_line_flux=broad,
        velocity_sigma=sigma_v,
        broad_velocity_sigma=np.where(kind == BROAD_LINE, broad_sigma, 0.0),
        continua=continua,
        wing_line_flux=wing,
        wing_velocity_sigma=wing_sigma,
        wing_velocity=wing_velocity,
    )


def _draw_kind(population: Population, draws: Draws) -> np.ndarray:
    # star-forming galaxies have what the others leave
    bounds = np.concatenate([np.cumsum(population.shares(KINDS[1:])), [1.0]])
    place = np.searchsorted(bounds, draws.uniform("kind"), side="right")
    return np.where(place == len(KINDS) - 1, STAR_FORMING, place + 1)


def _kind_shifts(kind: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """By how many dex line ratios of other kinds differ from star-forming galaxies: harder ionisation."""
    broad, passive = kind == BROAD_LINE, (kind == QUIESCENT) | (kind == POST_STARBURST)
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


def _published_shifts(kind: np.ndarray, redshift: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """The same where low-ionisation lines follow O32: what is left beyond that relation.

    Narrow lines of active nuclei are those of Seyferts at low redshift (Kewley et al. 2006: log [N II]/Halpha
    near 0, [O III]/Hbeta near 0.9) and lie among star-forming galaxies beyond z 5 (Uebler et al. 2023,
    Maiolino et al. 2024); galaxies without star formation are LINERs.
    """
    active, passive = kind == BROAD_LINE, (kind == QUIESCENT) | (kind == POST_STARBURST)
    scatter = 0.15 * draws.normal("ionisation")

    def of(seyfert: tuple[float, float, float], liner: float, spread: float = 1.0) -> np.ndarray:
        there = np.interp(redshift, (0.0, 2.5, 5.0), seyfert)
        both = np.where(active, there, np.where(passive, liner, 0.0))
        return both + np.where(active | passive, spread * scatter, 0.0)

    return {
        "[OIII]/Hbeta": of((0.20, 0.15, 0.05), -0.35, 0.3),
        "[NII]/Halpha": of((1.1, 0.65, 0.1), 0.45),
        "[SII]": of((0.40, 0.25, 0.05), 0.25),
        "[OI]_6302": of((0.55, 0.40, 0.15), 0.50),
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


def _broad_lines(kind: np.ndarray, flux: np.ndarray, lines: LineList, draws: Draws) -> np.ndarray:
    reddening = np.minimum(0.25 * np.exp(0.7 * draws.normal("broad-line reddening")), 1.5)
    strength = 10.0 ** (0.45 + 0.3 * draws.normal("broad-line strength"))
    halpha = np.where(kind == BROAD_LINE, strength * flux[:, lines.index("Halpha")], 0.0)
    return broad_ratios_to_halpha(lines, reddening) * halpha[:, None]


def _outflows(
    population: Population, kind: np.ndarray, flux: np.ndarray, lines: LineList, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wings of [O III] and the hydrogen lines: flux, one-sigma width and offset [km/s].

    FWHM of 300-1,000 km/s and 10-40 % of the narrow flux, mostly blueshifted by up to 200 km/s.
    """
    if population.outflow_fraction == 0.0:
        return np.zeros_like(flux), np.zeros(kind.size), np.zeros(kind.size)
    able = (kind == STAR_FORMING) | (kind == BROAD_LINE)
    has = able & (draws.uniform("outflow") < population.outflow_fraction)
    fwhm = 300.0 * 10.0 ** (0.523 * draws.uniform("wing width"))
    share = np.where(has, 0.1 + 0.3 * draws.uniform("wing strength"), 0.0)
    takes_part = np.isfinite(lines.case_b) | np.isin(lines.names, ("[OIII]_5008", "[OIII]_4960"))
    velocity = -100.0 + 80.0 * draws.normal("wing velocity")
    wing = share[:, None] * flux * takes_part
    return wing, np.where(has, fwhm / 2.355, 0.0), np.where(has, np.clip(velocity, -300.0, 150.0), 0.0)


def _stellar_continua(
    population, kind, redshift, level, hbeta, reddening, narrow, lines, draws
) -> StellarContinua:
    """Stars whose age goes with the equivalent width of Hbeta and whose metallicity goes with [N II]."""
    library, size = load_library(), kind.size
    passive = (kind == QUIESCENT) | (kind == POST_STARBURST)
    # gas is redder than stars by a factor of its own per galaxy
    stars = reddening * (0.3 + 0.7 * draws.uniform("stellar share of the reddening"))
    slope = np.clip(-0.15 + 0.25 * draws.normal("attenuation slope"), -0.7, 0.4)
    bump = 4.0 * draws.uniform("attenuation bump") ** 2
    ratio = narrow[:, lines.index("[NII]_6585")] / narrow[:, lines.index("Halpha")]
    # Pettini & Pagel (2004), solar 12 + log(O/H) = 8.69; iron, which makes the stars' lines, lags behind
    log_z = 8.90 + 0.57 * np.log10(np.maximum(ratio, 1e-3)) - 8.69 - 0.15 + 0.2 * draws.normal("metallicity")
    log_z = np.where(passive, 0.35 * draws.normal("passive metallicity") - 0.1, log_z)
    metallicity = np.abs(log_z[:, None] - np.log10(library.metallicity)).argmin(axis=1)

    gas_level = hbeta * nebular_at_hbeta()[metallicity] / (1.0 + redshift)
    star_level = np.where(level > 0, np.maximum(level - gas_level, 0.1 * level), 0.0)
    dot = (kind == BROAD_LINE) & (draws.uniform("little red dot") < population.little_red_dot_fraction)
    curve = np.array([float(attenuation(np.array(HBETA), s, b)) for s, b in zip(slope, bump, strict=True)])
    depth = 0.4 * (reddening * float(cardelli(np.array(HBETA))) - stars * curve)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.log10(hbeta / (star_level * (1.0 + redshift))) + depth
    width = np.where(np.isfinite(width), width, 0.0)
    uniform = draws.uniform("star-formation history")
    weights = np.zeros((size, library.age_edges.size - 1))
    for history, rows in (
        ("forming", ~passive),
        ("quiescent", kind == QUIESCENT),
        ("post-starburst", kind == POST_STARBURST),
    ):
        weights[rows] = choose_histories(
            history, redshift[rows], metallicity[rows], width[rows], uniform[rows]
        )
    dispersion = np.clip(10.0 ** (1.9 + 0.2 * draws.normal("stellar dispersion")), 40.0, 350.0)
    column = 20.3 + 0.12 * np.maximum(redshift - 5.0, 0.0) + 0.8 * draws.normal("column")
    # a little red dot: a cool envelope with a Balmer break beside few young stars
    envelope = np.where(dot, level, 0.0)
    return StellarContinua(
        level=np.where(dot, (0.03 + 0.2 * draws.uniform("stars of little red dots")) * level, star_level),
        metallicity=metallicity,
        weights=weights,
        dispersion=np.where(passive, 2.0 * dispersion, dispersion),
        hbeta=hbeta,
        gas_reddening=reddening,
        reddening=np.where(dot, 0.0, stars),
        slope=slope,
        bump=bump,
        envelope=envelope,
        temperature=3800.0 + 2200.0 * draws.uniform("envelope temperature"),
        balmer_break=0.6 * draws.uniform("envelope break"),
        nucleus=np.zeros(size),
        nucleus_slope=np.zeros(size),
        column=np.where(redshift > 4.5, np.clip(column, 18.0, 22.7), 18.0),
    )


def _continua(population, kind, redshift, width, level, reddening, narrow, lines, draws) -> Continua:
    """Mixtures of templates: the larger the equivalent width, the younger and the more nebular."""
    hbeta_width = 10.0**width / (
        narrow[:, lines.index("[OIII]_5008")] + narrow[:, lines.index("[OIII]_4960")] + 1.0
    )
    nebular = np.minimum(hbeta_width / 1100.0, 0.6)
    middle = np.clip(0.45 - 0.40 * (width - 2.0) + 0.15 * draws.normal("intermediate stars"), 0.02, 0.75)
    old = np.clip(0.20 - 0.25 * (width - 1.8) + 0.10 * draws.normal("old stars"), 0.0, 0.45)
    share = np.stack([1.0 - middle - old, middle, old], axis=1).clip(0.05)
    share *= ((1.0 - nebular) / share.sum(axis=1))[:, None]
    weights = np.zeros((kind.size, len(TEMPLATES)))
    weights[:, :3], weights[:, 3] = share, nebular

    mix = draws.uniform("passive mixture", 2)
    blue = np.where(mix[:, 1] < 0.5, 0.0, 0.08 * mix[:, 0])
    weights[kind == QUIESCENT] = np.stack(
        [blue, 0.35 * mix[:, 0], 1 - blue - 0.35 * mix[:, 0], 0 * blue, 0 * blue], axis=1
    )[kind == QUIESCENT]
    old_part = 0.25 * mix[:, 0]
    weights[kind == POST_STARBURST] = np.stack(
        [0.3 * blue, 1 - old_part - 0.3 * blue, old_part, 0 * blue, 0 * blue], axis=1
    )[kind == POST_STARBURST]
    dot = (kind == BROAD_LINE) & (draws.uniform("little red dot") < population.little_red_dot_fraction)
    young = 0.06 + 0.25 * mix[:, 1]
    weights[dot] = np.stack([young, 0 * young, 0 * young, 0 * young, 1 - young], axis=1)[dot]

    stars = 0.44 * reddening * np.exp(0.3 * draws.normal("stellar reddening"))
    column = 20.3 + 0.12 * np.maximum(redshift - 5.0, 0.0) + 0.8 * draws.normal("column")
    return Continua(
        level=level,
        weights=weights,
        reddening=np.where(dot, 0.0, stars),
        tilt=0.2 * draws.normal("tilt"),
        column=np.where(redshift > 4.5, np.clip(column, 18.0, 22.7), 18.0),
    )
