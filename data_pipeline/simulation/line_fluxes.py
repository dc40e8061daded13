"""Fluxes of all lines of the list relative to Hbeta: Case B, atomic ratios, species, dust."""

from __future__ import annotations

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.dust import cardelli
from data_pipeline.simulation.line_ratios import doublet_ratios, strong_line_ratios

# Lines that follow another one, at T ~ 1.2e4 K: (line, other, flux ratio).
_FOLLOWERS = (
    ("HeI_3890", "HeI_5878", 0.80),
    ("HeI_4472", "HeI_5878", 0.37),
    ("HeI_6680", "HeI_5878", 0.28),
    ("HeI_20587", "HeI_5878", 0.20),
    ("[NII]_5756", "[NII]_6585", 0.015),
    ("[OII]_7321", "[OII]_3727", 0.006),
    ("[OII]_7322", "[OII]_3727", 0.020),
    ("[OII]_7332", "[OII]_3727", 0.010),
    ("[OII]_7333", "[OII]_3727", 0.010),
    ("[SII]_4070", "[SII]_6733", 0.11),
    ("[SII]_10323", "[SII]_6733", 0.06),
)
# log10 of intrinsic flux over Hbeta: (line, at z = 2, slope per unit of log10((1+z)/3), scatter [dex]).
_SPECIES = (
    ("HeI_5878", -0.92, 0.0, 0.06),
    ("HeI_7067", -1.45, 0.3, 0.15),
    ("HeI_10833", -0.55, 0.0, 0.15),
    ("HeII_4687", -2.0, 0.8, 0.35),
    ("[OI]_6302", -1.15, -1.2, 0.25),
    ("[SIII]_9533", -0.20, -0.8, 0.18),
    ("[SIII]_6314", -1.75, 0.0, 0.15),
    ("[ArIII]_7138", -0.85, -0.6, 0.15),
    ("OI_8449", -1.9, 0.0, 0.25),
    ("OI_11290", -2.1, 0.0, 0.25),
    ("[NI]_5199", -2.2, -0.5, 0.25),
    ("[FeII]_12570", -1.55, -0.5, 0.25),
    ("H2_1-0S1", -1.8, -0.5, 0.3),
    ("MgII_2796", -0.9, -0.3, 0.3),
    ("CIII]_1907", -0.55, 0.6, 0.3),
    ("CIV_1548", -1.3, 1.0, 0.45),
    ("HeII_1640", -1.1, 0.6, 0.35),
    ("OIII]_1666", -1.25, 1.0, 0.3),
)

_SPECIES_CLIP = 2.5  # sigma


def line_ratios_to_hbeta(
    lines: LineList,
    redshift: np.ndarray,
    reddening: np.ndarray,
    draws: Draws,
    species_scatter: float,
    shift: dict[str, np.ndarray],
) -> np.ndarray:
    """(b, L) observed line fluxes over observed Hbeta, narrow lines.

    Args:
        lines: the list.
        redshift: (b,).
        reddening: (b,) E(B-V) of the gas [mag].
        draws: random numbers.
        species_scatter: extra scatter [dex] of every ratio that atomic physics does not fix.
        shift: name of a strong ratio or species line to (b,) dex added to it.
    """
    out = np.zeros((redshift.size, len(lines)))
    # Flux over Hbeta changes by this much through dust.
    relative = 10.0 ** (-0.4 * reddening[:, None] * (cardelli(lines.wavelength) - cardelli(0.486269)))
    hydrogen = np.isfinite(lines.case_b)
    out[:, hydrogen] = lines.case_b[hydrogen] * relative[:, hydrogen]

    def extra(name: str) -> np.ndarray:
        # Clipped: 3.5 sigma of 0.42 dex would be [OIII]/Hbeta = 160, which no gas emits.
        own = np.clip(draws.normal(f"species {name}"), -_SPECIES_CLIP, _SPECIES_CLIP)
        return species_scatter * own + shift.get(name, 0.0)

    strong = strong_line_ratios(redshift, draws.normal("strong-line ratios", 4))
    o3, o2, ne3, n2 = (10.0 ** (value + extra(name)) for name, value in strong.items())
    doublet = doublet_ratios(np.clip(2.35 + 0.35 * draws.normal("density"), 1.3, 4.0))
    at = lines.index
    halpha = out[:, at("Halpha")]
    out[:, at("[OIII]_5008")] = o3
    out[:, at("[NeIII]_3870")] = ne3
    out[:, at("[NII]_6585")] = n2 * halpha
    sulphur = n2**0.6 * 10.0 ** (-0.15 + 0.12 * draws.normal("[SII]") + extra("[SII]")) * halpha
    _set_doublet(out, lines, "[OII]_3730", o2, doublet["[OII]_3730"])
    _set_doublet(out, lines, "[SII]_6718", sulphur, doublet["[SII]_6718"])
    # Auroral line: hotter gas at high redshift.
    auroral = -1.82 + 0.76 * np.log10((1 + redshift) / 3) + 0.15 * draws.normal("[OIII]_4364")
    dust = relative[:, at("[OIII]_4364")] / relative[:, at("[OIII]_5008")]
    out[:, at("[OIII]_4364")] = o3 * 10.0 ** (auroral + extra("[OIII]_4364")) * dust
    for name, level, slope, scatter in _SPECIES:
        value = level + slope * np.log10((1 + redshift) / 3) + scatter * draws.normal(name) + extra(name)
        out[:, at(name)] = 10.0**value * relative[:, at(name)]
    for name in ("CIII]_1907", "[NI]_5202"):
        weak = lines.partner[at(name)]
        total = out[:, at(name)] if name.startswith("CIII") else out[:, at(weak)]
        _set_doublet(out, lines, name, total, doublet[name])
    for name, other, ratio in _FOLLOWERS:
        out[:, at(name)] = ratio * out[:, at(other)] * relative[:, at(name)] / relative[:, at(other)]
    _tie_fixed(out, lines, tuple(doublet))
    out[:, at("Lya")] = _lyman_alpha(redshift, reddening, draws)
    return out


def _set_doublet(out: np.ndarray, lines: LineList, name: str, total: np.ndarray, ratio: np.ndarray) -> None:
    """Shares a doublet's summed flux between its lines."""
    strong = lines.index(name)
    weak = lines.index(lines.partner[strong])
    out[:, weak] = total / (1.0 + ratio)
    out[:, strong] = out[:, weak] * ratio


def _tie_fixed(out: np.ndarray, lines: LineList, free: tuple[str, ...]) -> None:
    """Sets the weaker partner of every doublet that atomic physics fixes, exactly."""
    for strong, (name, partner) in enumerate(zip(lines.names, lines.partner, strict=True)):
        if partner and name not in free:
            out[:, lines.index(partner)] = out[:, strong] / lines.ratio[strong]


def _lyman_alpha(redshift: np.ndarray, reddening: np.ndarray, draws: Draws) -> np.ndarray:
    """Lyman-alpha over observed Hbeta: Case B (8.7 x Halpha) times an escape fraction, small for most."""
    escape = 10.0 ** np.minimum(-1.1 + 0.35 * draws.normal("Lya escape"), -0.1)
    visible = draws.uniform("Lya visible") < np.interp(
        redshift, [3.0, 5.0, 6.5, 8.0], [0.25, 0.35, 0.25, 0.1]
    )
    return 8.7 * 2.863 * np.where(visible, escape, 0.0) * 10.0 ** (0.4 * reddening * cardelli(0.486269))


def broad_ratios_to_halpha(lines: LineList, reddening: np.ndarray) -> np.ndarray:
    """(b, L) fluxes of the broad hydrogen and helium lines over broad Halpha.

    Args:
        lines: the list.
        reddening: (b,) E(B-V) towards the broad-line region [mag].
    """
    level = np.where(np.isfinite(lines.case_b), lines.case_b / 2.863, 0.0)
    for name, ratio in (
        ("HeI_5878", 0.05),
        ("HeI_7067", 0.03),
        ("HeI_10833", 0.15),
        ("HeII_4687", 0.01),
        ("OI_8449", 0.04),
        ("MgII_2796", 0.08),
        ("MgII_2803", 0.04),
    ):
        level[lines.index(name)] = ratio
    dust = 10.0 ** (-0.4 * reddening[:, None] * (cardelli(lines.wavelength) - cardelli(0.656463)))
    return level * dust
