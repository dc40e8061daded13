"""Fluxes of all lines of the list relative to Hbeta: strong-line ratios, Case B, atomic ratios, dust."""

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.attenuation import cardelli
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.gas import (
    LOW_IONISATION,
    abundance_sequence,
    low_ionisation_ratios,
    nitrogen_ratio,
)

# What is drawn here, all log10 and as observed (dust included): [OIII]5008, [OII] sum and [NeIII]3870 over
# Hbeta, [NII]6585 over Halpha.
STRONG = ("[OIII]/Hbeta", "[OII]/Hbeta", "[NeIII]/Hbeta", "[NII]/Halpha")

_REDSHIFT = np.array([1.0, 2.0, 3.0, 4.0, 5.25, 6.5, 8.3])
# 16, 50 and 84 % of the JADES DR4 catalogue (tables/jades_line_ratios.ecsv) with the catalogue's own
# flux errors taken off in quadrature. Where non-detections hide a percentile (all of [NII], the lower
# ones of [OII] and [NeIII] at z 1 and 6.5) it is extrapolated: [NII] from the galaxies whose error is
# below 2 % of Halpha (-1.10 at z 2, -1.42 at z 3, -1.45 at z 4, below -1.5 beyond).
_PERCENTILES = {
    "[OIII]/Hbeta": (
        (0.52, 0.47, 0.62, 0.71, 0.67, 0.70, 0.70),
        (0.720, 0.715, 0.765, 0.790, 0.785, 0.760, 0.755),
        (0.81, 0.79, 0.83, 0.835, 0.84, 0.83, 0.815),
    ),
    "[OII]/Hbeta": (
        (-0.50, 0.02, -0.44, -0.32, -0.54, -0.75, -0.85),
        (0.03, 0.310, 0.205, 0.084, -0.110, -0.302, -0.430),
        (0.29, 0.430, 0.350, 0.280, 0.175, 0.09, -0.06),
    ),
    "[NeIII]/Hbeta": (
        (-0.65, -0.62, -0.57, -0.47, -0.39, -0.38, -0.46),
        (-0.40, -0.320, -0.32, -0.32, -0.300, -0.290, -0.340),
        (-0.20, -0.225, -0.22, -0.23, -0.225, -0.225, -0.275),
    ),
    "[NII]/Halpha": (
        (-1.70, -1.50, -1.80, -1.85, -2.00, -2.05, -2.15),
        (-1.32, -1.13, -1.42, -1.45, -1.58, -1.62, -1.72),
        (-0.86, -0.68, -0.93, -1.07, -1.21, -1.15, -1.25),
    ),
}
# Correlations at a given redshift, in the order of STRONG; with the trends above they give the measured
# overall ones (O3-Ne3 +0.64, O3-O2 -0.28, O2-z -0.43, O3-z +0.37). [NII]: the usual metallicity sequence.
_CORRELATION = np.array(
    [
        [1.00, -0.45, 0.70, -0.45],
        [-0.45, 1.00, -0.25, 0.45],
        [0.70, -0.25, 1.00, -0.30],
        [-0.45, 0.45, -0.30, 1.00],
    ]
)
# Reddening E(B-V) of the gas: median against redshift, from the median Balmer decrement above Case B.
_REDDENING = np.array([0.07, 0.12, 0.10, 0.03, 0.11, 0.10, 0.08])
_REDDENING_SCATTER = 0.75  # natural log

_FACTOR = np.linalg.cholesky(_CORRELATION)


def strong_line_ratios(redshift: np.ndarray, normal: np.ndarray) -> dict[str, np.ndarray]:
    """(b,) log10 ratio for each name of `STRONG`: measured medians, asymmetric scatter and correlations.

    ``redshift`` is (b,), ``normal`` (b, 4) standard normal numbers.
    """
    latent = np.clip(normal, -3.0, 3.0) @ _FACTOR.T
    ratios = {}
    for column, name in enumerate(STRONG):
        low, middle, high = (np.interp(redshift, _REDSHIFT, row) for row in _PERCENTILES[name])
        u = latent[:, column]
        # Beyond one sigma the wings are compressed: the catalogue has no ratio ten times off.
        wing = np.where(np.abs(u) > 1.0, np.sign(u) * (1.0 + 0.7 * (np.abs(u) - 1.0)), u)
        ratios[name] = middle + np.where(wing > 0, wing * (high - middle), wing * (middle - low))
    return ratios


def gas_reddening(redshift: np.ndarray, normal: np.ndarray, factor: float) -> np.ndarray:
    """(b,) E(B-V) of the gas [mag], lognormal, from normal numbers (b,) and a factor on the scatter."""
    median = np.interp(redshift, _REDSHIFT, _REDDENING)
    return np.minimum(median * np.exp(_REDDENING_SCATTER * factor * normal), 1.2)


def doublet_ratios(log_density: np.ndarray) -> dict[str, np.ndarray]:
    """Flux ratios of the density-sensitive doublets, longer over shorter partner as in the line list.

    Interpolated between the PyNeb values at 1e2 and 1e3 cm-3 (1e4 K) with the usual collisional form and
    bounded by its low- and high-density limits; ``log_density`` (b,) is log10 of the electron density [cm-3].
    """
    return {
        "[OII]_3730": between_limits(log_density, 1.46, 0.35, 707.0),
        "[SII]_6718": between_limits(log_density, 1.44, 0.44, 891.0),
        "CIII]_1907": between_limits(log_density, 1.5145, 0.10, 30_000.0),
        "[NI]_5202": between_limits(log_density, 1.36, 0.60, 815.0),
    }


def between_limits(log_density: np.ndarray, low: float, high: float, critical: float) -> np.ndarray:
    """(b,) ratio between its limits at low and high density, half-way at the critical one [cm-3]."""
    density = 10.0**log_density
    share = density / (density + critical)
    return low * (1.0 - share) + high * share


def log_density(draws: Draws) -> np.ndarray:
    """(b,) log10 of the electron density [cm-3] of the galaxies' gas."""
    return np.clip(2.35 + 0.35 * draws.normal("density"), 1.3, 4.0)


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


def dust_over_hbeta(lines: LineList, reddening: np.ndarray) -> np.ndarray:
    """(b, L) factor by which dust changes flux over Hbeta; ``reddening`` (b,) is E(B-V) [mag]."""
    return 10.0 ** (-0.4 * reddening[:, None] * (cardelli(lines.wavelength) - cardelli(0.486269)))


def own_scatter(name: str, scatter: float, draws: Draws) -> np.ndarray:
    """(b,) what a population adds to a species' ratio [dex], from its scatter [dex]."""
    # Clipped: 3.5 sigma of 0.42 dex would be [OIII]/Hbeta = 160, which no gas emits.
    return scatter * np.clip(draws.normal(f"species {name}"), -_SPECIES_CLIP, _SPECIES_CLIP)


def log_o32(out: np.ndarray, lines: LineList, relative: np.ndarray) -> np.ndarray:
    """(b,) log10 of [O III] 5008 over both [O II] lines without dust, from fluxes (b, L) and dust (b, L)."""
    o3, o2, both = lines.index("[OIII]_5008"), lines.index("[OII]_3730"), lines.index("[OII]_3727")
    return np.log10(out[:, o3] / (out[:, both] + out[:, o2]) * relative[:, o2] / relative[:, o3])


def line_ratios_to_hbeta(
    lines: LineList,
    redshift: np.ndarray,
    reddening: np.ndarray,
    draws: Draws,
    species_scatter: float,
    shift: dict[str, np.ndarray],
    evolved: np.ndarray | None = None,
) -> np.ndarray:
    """(b, L) observed line fluxes over observed Hbeta, narrow lines.

    Reddening (b,) is E(B-V) of the gas [mag]; ``species_scatter`` [dex] is added to every ratio that atomic
    physics does not fix, and ``shift`` (b,) [dex] to a strong ratio or species line by name. With ``evolved``
    (b,), which says who lies on the sequence of metal-rich galaxies, low-ionisation lines follow the
    ionisation (`data_pipeline.simulation.gas`), and ``species_scatter`` counts by half for them.
    """
    out = np.zeros((redshift.size, len(lines)))
    relative = dust_over_hbeta(lines, reddening)
    hydrogen = np.isfinite(lines.case_b)
    out[:, hydrogen] = lines.case_b[hydrogen] * relative[:, hydrogen]

    def extra(name: str) -> np.ndarray:
        return own_scatter(name, species_scatter, draws) + shift.get(name, 0.0)

    strong = strong_line_ratios(redshift, draws.normal("strong-line ratios", 4))
    if evolved is not None:
        reddened = [lines.index("[OII]_3727"), lines.index("[NeIII]_3870")]
        sequence = abundance_sequence(redshift, np.log10(relative[:, reddened]), draws)
        strong = {name: np.where(evolved, sequence[name], value) for name, value in strong.items()}
    o3, o2, ne3, n2 = (10.0 ** (value + extra(name)) for name, value in strong.items())
    doublet = doublet_ratios(log_density(draws))
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
    if evolved is not None:
        nitrogen = np.where(evolved, sequence["[NII]/Halpha"], np.nan)
        added = {name: 0.5 * (extra(name) + shift.get(name, 0.0)) for name in LOW_IONISATION}
        _tie_to_ionisation(out, lines, redshift, relative, nitrogen, added, draws)
    for name in ("CIII]_1907", "[NI]_5202"):
        weak = lines.partner[at(name)]
        total = out[:, at(name)] if name.startswith("CIII") else out[:, at(weak)]
        _set_doublet(out, lines, name, total, doublet[name])
    for name, other, ratio in _FOLLOWERS:
        out[:, at(name)] = ratio * out[:, at(other)] * relative[:, at(name)] / relative[:, at(other)]
    _tie_fixed(out, lines, tuple(doublet))
    out[:, at("Lya")] = _lyman_alpha(redshift, reddening, draws)
    return out


def _tie_to_ionisation(out, lines, redshift, relative, nitrogen, added, draws) -> None:
    """Set the low-ionisation lines by O32.

    ``relative`` (b, L) is what dust does to flux over Hbeta, ``nitrogen`` (b,) is log10 [N II]/Halpha of
    metal-rich galaxies and NaN for others, ``added`` (b,) what comes on top of each ratio [dex].
    """
    at = lines.index
    o3, o2, s1, s2 = (at(name) for name in ("[OIII]_5008", "[OII]_3730", "[SII]_6718", "[SII]_6733"))
    o32 = log_o32(out, lines, relative)
    usual = {name: np.interp(redshift, _REDSHIFT, row[1]) for name, row in _PERCENTILES.items()}
    curve = cardelli(lines.wavelength)
    dust = 0.4 * np.interp(redshift, _REDSHIFT, _REDDENING) * (curve[o2] - curve[o3])
    usual_o32 = usual["[OIII]/Hbeta"] - usual["[OII]/Hbeta"] - dust
    ratios = low_ionisation_ratios(o32, draws)
    own = nitrogen_ratio(usual["[NII]/Halpha"], o32, usual_o32, draws.normal("N/O"))
    ratios["[NII]/Halpha"] = np.where(np.isfinite(nitrogen), nitrogen, own)
    doublet = out[:, s1] / out[:, s2]
    for name, value in ratios.items():
        line = at({"[NII]/Halpha": "[NII]_6585", "[SII]": "[SII]_6733"}.get(name, name))
        out[:, line] = 10.0 ** np.clip(value + added[name], -3.0, 0.7) * lines.case_b[at("Halpha")]
        out[:, line] *= relative[:, line]
    out[:, s2] /= 1.0 + doublet
    out[:, s1] = out[:, s2] * doublet


def _set_doublet(out: np.ndarray, lines: LineList, name: str, total: np.ndarray, ratio: np.ndarray) -> None:
    """Share a doublet's summed flux between its lines."""
    strong = lines.index(name)
    weak = lines.index(lines.partner[strong])
    out[:, weak] = total / (1.0 + ratio)
    out[:, strong] = out[:, weak] * ratio


def _tie_fixed(out: np.ndarray, lines: LineList, free: tuple[str, ...]) -> None:
    """Set the weaker partner of every doublet that atomic physics fixes, exactly."""
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

    ``reddening`` (b,) is E(B-V) towards the broad-line region [mag]. Lines that the list lacks are left out.
    """
    level = np.where(np.isfinite(lines.case_b), lines.case_b / 2.863, 0.0)
    for name, ratio in (
        ("HeI_4027", 0.009),
        ("HeI_5017", 0.011),
        ("HeI_5878", 0.05),
        ("HeI_7067", 0.03),
        ("HeI_10833", 0.15),
        ("HeII_4687", 0.01),
        ("OI_8449", 0.04),
        ("MgII_2796", 0.08),
        ("MgII_2803", 0.04),
    ):
        if name in lines.names:
            level[lines.index(name)] = ratio
    dust = 10.0 ** (-0.4 * reddening[:, None] * (cardelli(lines.wavelength) - cardelli(0.656463)))
    return level * dust
