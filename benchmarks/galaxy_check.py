"""The simulator's galaxies beside published ones, from their truth: line ratios, components, sizes."""

from __future__ import annotations

import numpy as np

from benchmarks.simulation_check import RESOLUTION, Comparison
from data_pipeline.instrument import FWHM_PER_SIGMA
from data_pipeline.lines import load_lines
from data_pipeline.simulation.config import BROAD_LINE, QUASAR, STAR_FORMING, SimulationConfig
from data_pipeline.simulation.extent import mean_relative_resolution, slit_colour
from data_pipeline.simulation.galaxies import Galaxies, draw_galaxies
from data_pipeline.simulation.stars import StellarContinua
from data_pipeline.simulation.survey import draw_targets

LINES = load_lines("second")  # the 67 of the first are the same in it
# Rest equivalent widths of quasars [Angstrom] (Vanden Berk et al. 2001, table 2).
_QUASARS = (("Halpha", 195.0), ("Hbeta", 46.0), ("MgII_2796", 20.0), ("CIII]_1909", 17.0), ("CIV_1548", 20.0))


def compare_galaxies(config: SimulationConfig, n: int, seed: int) -> list[Comparison]:
    """Comparisons of ``n`` galaxies as they are drawn, before any instrument."""
    population = config.population
    galaxies = draw_galaxies(population, seed, draw_targets(population, seed, np.arange(n)), LINES)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = [*_ratios(galaxies), *_further(galaxies), *_components(galaxies, population)]
    return [*out, *_sizes(galaxies, config)]


def _median(group: str, name: str, values: np.ndarray, real, tolerance: float) -> Comparison:
    values = values[np.isfinite(values)]
    middle = float(np.median(values)) if values.size else float("nan")
    return Comparison(group, f"{name} (n={values.size})", real, middle, tolerance, values.size)


def _share(group: str, name: str, which: np.ndarray, real, tolerance: float = 0.03) -> Comparison:
    share = float(which.mean()) if which.size else float("nan")
    return Comparison(group, f"{name} (n={which.size})", real, share, tolerance, which.size)


def _log(galaxies: Galaxies, top: tuple[str, ...], *bottom: str) -> np.ndarray:
    """(b,) log10 of a ratio of sums of narrow lines."""
    narrow = galaxies.line_flux - galaxies.broad_line_flux - galaxies.wing_line_flux
    over, under = (sum(narrow[:, LINES.index(name)] for name in names) for names in (top, bottom))
    return np.log10(over / under)


def _ratios(galaxies: Galaxies) -> list[Comparison]:
    z = galaxies.redshift
    o3, n2 = _log(galaxies, ("[OIII]_5008",), "Hbeta"), _log(galaxies, ("[NII]_6585",), "Halpha")
    s2 = _log(galaxies, ("[SII]_6718", "[SII]_6733"), "Halpha")
    o1 = _log(galaxies, ("[OI]_6302",), "Halpha")
    forming, group, out = galaxies.kind == STAR_FORMING, "diagrams", []
    loci = (
        (
            "z 0-0.8, Kewley+13",
            (z < 0.8),
            lambda x, z: 1.1 + 0.03 * z + 0.61 / (x + 0.08 - 0.1833 * z),
            (-0.6, -0.4),
        ),
        (
            "z 1.5-2.7, Strom+17",
            (z > 1.5) & (z < 2.7),
            lambda x, z: 1.12 + 0.61 / (x - 0.22),
            (-1.3, -1.0, -0.7),
        ),
    )
    for name, near, locus, centres in loci:
        for centre in centres:
            values = o3[forming & near & (np.abs(n2 - centre) < 0.1)]
            label = f"log [O III]/Hbeta at log [N II]/Halpha {centre:g}, {name}"
            out.append(
                _median(group, label, values, float(locus(centre, np.median(z[forming & near]))), 0.15)
            )
    lines = (
        ("[N II]", n2, lambda x: np.where(x < 0.47, 1.19 + 0.61 / (x - 0.47), -9.0)),
        ("[S II]", s2, lambda x: np.where(x < 0.32, 1.30 + 0.72 / (x - 0.32), -9.0)),
        ("[O I]", o1, lambda x: np.where(x < -0.59, 1.33 + 0.73 / (x + 0.59), -9.0)),
    )
    seyfert = (galaxies.kind == BROAD_LINE) & (z < 2.0)
    for name, x, limit in lines:
        inside = o3 < limit(x) + 0.1  # the line's own error
        out.append(
            _share(group, f"star-forming below the {name} limit of Kewley+01", inside[forming], (0.85, 1.0))
        )
        label = f"nuclei at z < 2 above it in {name}"
        out.append(_share(group, label, ~inside[seyfert], (0.5, 1.0)))
    return out


def _further(galaxies: Galaxies) -> list[Comparison]:
    """Lines of the second list, beside what papers report."""
    group, z, kind = "lines of the second list", galaxies.redshift, galaxies.kind
    forming, quasar = kind == STAR_FORMING, kind == QUASAR
    hard = galaxies.line_flux[:, LINES.index("[NeV]_3427")] > 0
    carbon = ("CIII]_1907", "CIII]_1909")
    nitrogen = [name for name in LINES.names if name.startswith("NIII]")]
    n4 = _log(galaxies, ("NIV]_1483", "NIV]_1486"), *carbon)
    n3 = _log(galaxies, tuple(nitrogen), *carbon)
    argon = _log(galaxies, ("[ArIV]_4713", "[ArIV]_4741"), "Hbeta")
    o32 = _log(galaxies, ("[OIII]_5008",), "[OII]_3727", "[OII]_3730")
    strong = np.maximum(n3, n4) > -0.4
    seen = np.isfinite(n3) & (kind != QUASAR)
    rows = (
        (
            "log Si III]/C III], Berg+19, Mingozzi+22",
            ("SiIII]_1883", "SiIII]_1892"),
            carbon,
            forming,
            (-0.5, -0.3),
        ),
        (
            "log C II] 2326/C III] at O32 2-5",
            ("CII]_2326",),
            carbon,
            forming & (np.abs(o32 - 0.5) < 0.2),
            (-0.9, -0.3),
        ),
        ("log [O II] 2471/7325; -0.13 without dust", ("[OII]_2471",), None, forming, (-0.5, -0.1)),
        (
            "log [Ne V] 3427/[O III] of nuclei, Gilli+10",
            ("[NeV]_3427",),
            ("[OIII]_5008",),
            hard,
            (-1.5, -0.9),
        ),
        (
            "log [Ne IV]/[Ne V] of nuclei, McCarthy 93",
            ("[NeIV]_2423", "[NeIV]_2425"),
            ("[NeV]_3427",),
            hard,
            (-0.5, 0.2),
        ),
    )
    out = []
    for label, top, bottom, which, real in rows:
        bottom = bottom or ("[OII]_7321", "[OII]_7322", "[OII]_7332", "[OII]_7333")
        out.append(_median(group, label, _log(galaxies, top, *bottom)[which], real, 0.15))
    for name, near, real in (("2-3, Izotov+06", 0.4, 0.006), ("12-20, Berg+21", 1.2, 0.03)):
        values = argon[forming & (np.abs(o32 - near) < 0.1)]
        out.append(_median(group, f"log [Ar IV]/Hbeta at O32 {name}", values, float(np.log10(real)), 0.25))
    for name, which, real in (
        ("z 6-9 (Morel+25, Rusakov+26: a few per cent)", forming & (z > 6) & (z < 9), (0.02, 0.10)),
        ("z < 3", forming & (z < 3), (0.0, 0.02)),
        ("z > 5 with broad lines (Isobe+25: more)", (kind == BROAD_LINE) & (z > 5), (0.08, 0.45)),
    ):
        out.append(_share(group, f"nitrogen-rich at {name}", strong[seen & which], real))
    rich = forming & strong & seen & (z > 5)
    out.append(_median(group, "log N IV]/C III] of them, GN-z11, RXCJ2248", n4[rich], (-0.4, 0.3), 0.15))
    if quasar.any() and isinstance(galaxies.continua, StellarContinua):
        broad = galaxies.broad_line_flux[quasar]
        ratio = broad[:, LINES.index("NV_1239")] + broad[:, LINES.index("NV_1243")]
        ratio = ratio / (broad[:, LINES.index("CIV_1548")] + broad[:, LINES.index("CIV_1551")])
        out.append(_median(group, "broad N V/C IV of quasars, Nagao+06", ratio, (0.3, 0.9), 0.1))
    return out


def _components(galaxies: Galaxies, population) -> list[Comparison]:
    group, kind = "components", galaxies.kind
    active = (kind == BROAD_LINE) | (kind == QUASAR)
    asked = population.broad_line_fraction + population.quasar_fraction
    out = [_share(group, "share with broad lines", active, asked)]
    fwhm = FWHM_PER_SIGMA * galaxies.broad_velocity_sigma[active]
    low, high = np.percentile(fwhm, (2, 98)) if fwhm.size else (np.nan, np.nan)
    for name, value, real in (("2", low, (500, 900)), ("98", high, (6000, 8000))):
        label = f"FWHM of broad lines, {name} % [km/s]"
        out.append(Comparison(group, label, real, float(value), 0.0, fwhm.size))
    winged = galaxies.wing_velocity_sigma > 0
    able = active | (kind == STAR_FORMING)
    out.append(_share(group, "share with wings", winged[able], population.outflow_fraction))
    wings = FWHM_PER_SIGMA * galaxies.wing_velocity_sigma[winged]
    out.append(_median(group, "FWHM of wings [km/s]", wings, (300, 1000), 0.0))
    out.append(_median(group, "offset of wings [km/s]", galaxies.wing_velocity[winged], (-150, -50), 0.0))
    if not isinstance(galaxies.continua, StellarContinua):
        return out
    absorbed = galaxies.absorbed_line_flux.any(axis=1)
    dot = galaxies.continua.envelope > 0
    out.append(_share(group, "little red dots with absorption (Matthee+24)", absorbed[dot], (0.1, 0.3)))
    at, halpha = LINES.index, LINES.index("Halpha")
    decrement = (galaxies.broad_line_flux[:, halpha] / galaxies.broad_line_flux[:, at("Hbeta")])[dot]
    out.append(_median(group, "broad Halpha/Hbeta of little red dots", decrement, (3.0, 10.0), 0.0))
    nuclei, quasar = galaxies.continua.nuclei, kind == QUASAR
    light = nuclei.power_law(LINES.wavelength) * (1.0 + galaxies.redshift[:, None])
    for name, real in _QUASARS:
        width = (galaxies.broad_line_flux + galaxies.absorbed_line_flux)[:, at(name)] / light[:, at(name)]
        out.append(_median(group, f"{name} of quasars [Angstrom]", width[quasar], real, 0.3 * real))
    return out


def _sizes(galaxies: Galaxies, config: SimulationConfig) -> list[Comparison]:
    group, forming = "sizes", galaxies.kind == STAR_FORMING
    size = galaxies.size[forming]
    rng = np.random.default_rng(0)
    spread = np.exp(config.nuisances.prism_resolution_scatter * rng.standard_normal(size.size))
    scale = config.nuisances.prism_resolution_scale * mean_relative_resolution(size) * spread
    out = [
        Comparison(
            group, f"factor on R, {percent} %", real, float(np.percentile(scale, percent)), 0.04, size.size
        )
        for percent, real in zip((16, 50, 84), RESOLUTION, strict=True)
    ]
    colour = slit_colour(np.array([1.0, 5.0]), size)
    ratio = np.abs(np.log(colour[:, 1] / colour[:, 0]))
    return [*out, _median(group, "slit losses, 5 um over 1 um, |ln|", ratio, (0.0, 0.15), 0.0)]
