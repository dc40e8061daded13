"""Lines that the second list adds, from those of the first: atoms, ionisation, nitrogen, hard spectra.

Ratios that atomic physics sets are PyNeb's (1.1, at 1.2e4 K); others are medians between the published values
that stand beside them, with a scatter about as large as theirs.
"""

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.config import BROAD_LINE, POST_STARBURST, QUASAR, QUIESCENT
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.line_fluxes import (
    between_limits,
    dust_over_hbeta,
    log_density,
    log_o32,
    own_scatter,
)

# (line, lines of the first list, ratio of fluxes without dust): He I by Case B; [O II] 2471 has the upper
# levels of the four lines near 7325, 0.747 of which it is at any density.
_FIXED = (
    ("HeI_4027", ("HeI_5878",), 0.175),
    ("HeI_5017", ("HeI_5878",), 0.22),
    ("[OII]_2471", ("[OII]_7321", "[OII]_7322", "[OII]_7332", "[OII]_7333"), 0.747),
)
_CARBON = ("CIII]_1907", "CIII]_1909")
_NITROGEN = ("NIII]_1747", "NIII]_1749", "NIII]_1750", "NIII]_1752", "NIII]_1754")
# Lines, those of which they are a share, then log10 of that share without dust at O32 = 1, its slope per dex
# of O32 and its scatter [dex]:
_SPECIES = {
    # 0.3-0.5 of C III] in metal-poor galaxies near and far (Berg et al. 2019, Mingozzi et al. 2022)
    "SiIII]": (("SiIII]_1883", "SiIII]_1892"), _CARBON, -0.40, 0.0, 0.15),
    # equal emissivities; C+/C2+ is half of O+/O2+ and flatter, C2+ reaching farther out
    "CII]_2326": (("CII]_2326",), _CARBON, -0.35, -0.6, 0.2),
    # N/O of local metal-poor galaxies; others are N-enhanced (`_nitrogen_rich`)
    "NIII]": (_NITROGEN, _CARBON, -1.25, 0.0, 0.25),
    "NIV]": (("NIV]_1483", "NIV]_1486"), _CARBON, -2.0, 0.5, 0.3),
    # 0.006 of Hbeta at O32 = 2.5 (Izotov et al. 2006), 0.03 at 16 (Berg et al. 2021)
    "[ArIV]": (("[ArIV]_4713", "[ArIV]_4741"), ("[OIII]_5008",), -3.15, 0.85, 0.2),
    # Orion has some 0.15 (Esteban et al. 2004), galaxies more
    "[CI]_9853": (("[CI]_9853",), ("[OI]_6302",), -0.65, 0.0, 0.2),
    # narrow lines of nuclei: N V as McCarthy (1993) and Vernet et al. (2001), [Ne V] as Gilli et al. (2010)
    "NV_1239": (("NV_1239",), ("CIV_1548",), -0.45, 0.0, 0.35),
    "[NeV]_3427": (("[NeV]_3427",), ("[NeIII]_3870",), -0.05, 0.0, 0.3),
    "[NeIV]": (("[NeIV]_2423", "[NeIV]_2425"), ("[NeV]_3427",), -0.15, 0.0, 0.2),
}
_HARD = ("NV_1239", "[NeV]_3427", "[NeIV]")  # need photons beyond 60 eV: nuclei alone have them
_HARD_ARGON = 0.6  # dex that nuclei have more of [Ar IV]
# First over second of the doublets that depend on density: limits at low and high density, critical one.
_DOUBLETS = {
    "SiIII]": (1.568, 0.0, 23_800.0),
    "NIV]": (1.487, 0.0, 87_000.0),
    "[ArIV]": (1.423, 0.122, 7_000.0),
    "[NeIV]": (0.6675, 7.47, 80_000.0),
}
# N III] 1749 and 1752 over 1750; 1754 over 1749 and 1752 over 1747, which have their upper levels.
_N3_1749, _N3_1752 = (0.472, 0.1645, 318.0), (1.251, 0.575, 318.0)
_N3_1754_OVER_1749, _N3_1752_OVER_1747 = 1.0648, 5.951
# log10 of N III] and of N IV] over C III] in nitrogen-rich galaxies: carbon is mostly fainter (Morel et al.
# 2025); near GN-z11 (Bunker et al. 2023) and RXCJ2248 (Topping et al. 2024).
_RICH = {"NIII]": (-0.05, 0.3), "NIV]": (0.05, 0.35)}
_RICH_DENSITY = 2.5  # dex by which their nitrogen lines come from denser gas: 1e5 cm-3 (Topping et al. 2024)


def add_further_lines(
    narrow: np.ndarray,
    lines: LineList,
    kind: np.ndarray,
    redshift: np.ndarray,
    reddening: np.ndarray,
    species_scatter: float,
    draws: Draws,
) -> None:
    """Set the narrow lines (b, L) that the second list adds, in place; nothing with the first.

    Those of hydrogen have their Case B already. ``kind`` (b,) is an index into `KINDS`, ``reddening`` (b,) is
    E(B-V) of the gas [mag]. ``species_scatter`` [dex] counts by half: these lines follow others that have it.
    """
    if "NIV]_1486" not in lines.names:
        return
    at = lines.index
    relative = dust_over_hbeta(lines, reddening)

    def bare(names: tuple[str, ...]) -> np.ndarray:
        return sum(narrow[:, at(name)] / relative[:, at(name)] for name in names)

    for name, others, ratio in _FIXED:
        narrow[:, at(name)] = ratio * bare(others) * relative[:, at(name)]
    o32 = np.clip(log_o32(narrow, lines, relative), -1.0, 1.3)
    hard, rich = _hard(kind, redshift, draws), _nitrogen_rich(kind, redshift, draws)
    density = log_density(draws)
    for species, (names, others, level, slope, scatter) in _SPECIES.items():
        normal = draws.normal(species)
        value = level + slope * o32 + scatter * normal
        if species in _RICH:
            middle, spread = _RICH[species]
            value = np.where(rich, middle + spread * normal, value)
        value = value + own_scatter(species, 0.5 * species_scatter, draws)
        if species == "[ArIV]":
            value = value + _HARD_ARGON * hard
        total = 10.0**value * bare(others) * (hard if species in _HARD else 1.0)
        dense = density + _RICH_DENSITY * rich * (species in _RICH)
        for name, share in zip(names, _shares(species, dense), strict=True):
            narrow[:, at(name)] = total * share * relative[:, at(name)]
            if partner := lines.partner[at(name)]:
                narrow[:, at(partner)] = narrow[:, at(name)] / lines.ratio[at(name)]


def _shares(species: str, density: np.ndarray) -> list[np.ndarray | float]:
    """Share (b,) of each line of a species in its flux, from log10 of the density (b,) [cm-3]."""
    if species in _DOUBLETS:
        ratio = between_limits(density, *_DOUBLETS[species])
        return [ratio / (1.0 + ratio), 1.0 / (1.0 + ratio)]
    if species != "NIII]":
        return [1.0]
    first, second = between_limits(density, *_N3_1749), between_limits(density, *_N3_1752)
    one = np.ones_like(first)
    over_1750 = [second / _N3_1752_OVER_1747, first, one, second, first * _N3_1754_OVER_1749]
    return [ratio / sum(over_1750) for ratio in over_1750]


def _hard(kind: np.ndarray, redshift: np.ndarray, draws: Draws) -> np.ndarray:
    """(b,) whose gas sees a hard spectrum: quasars, and broad-line objects, but few beyond z 4.

    Tang et al. (2025) find narrow high-ionisation lines in an eighth of the little red dots there.
    """
    share = np.interp(redshift, (2.0, 4.5), (0.9, 0.15))
    return (kind == QUASAR) | ((kind == BROAD_LINE) & (draws.uniform("hard spectrum") < share))


def _nitrogen_rich(kind: np.ndarray, redshift: np.ndarray, draws: Draws) -> np.ndarray:
    """(b,) which are nitrogen-rich: a few per cent at z 6, more beyond, four times as many with broad lines.

    The share rises with redshift (Morel et al. 2025; 3 to 18 % of moderate excess from z 4 to 7, Rusakov et
    al. 2026), and broad lines are frequent among them (Isobe et al. 2025).
    """
    share = np.interp(redshift, (2.0, 4.0, 6.0, 9.0), (0.002, 0.015, 0.04, 0.10))
    share = share * np.where(kind == BROAD_LINE, 4.0, 1.0)
    share[(kind == QUIESCENT) | (kind == POST_STARBURST)] = 0.0
    return draws.uniform("nitrogen rich") < share
