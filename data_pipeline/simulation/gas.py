"""Line ratios of low-ionisation gas: how they follow ionisation and metallicity, as published.

For populations with stars from a library. O32 is log10 of [O III] 5008 over both [O II] lines without dust.
"""

import numpy as np

from data_pipeline.simulation.draws import Draws

LOW_IONISATION = (
    *("[NII]/Halpha", "[SII]", "[OI]_6302", "[NI]_5199"),
    *("[SIII]_9533", "[SIII]_6314", "[ArIII]_7138"),
)
# [N II]/Halpha falls by this much per dex of O32: Bian, Kewley & Dopita (2018) have 1.2 for stacks (12 +
# log(O/H) = 8.82 + 0.49 N2 = 8.54 - 0.59 O32); single galaxies with their errors are flatter.
_NITROGEN_SLOPE = -1.0
_NITROGEN_SCATTER = 0.2  # dex: N/O at given O/H (Masters et al. 2014, Strom et al. 2017)
# [S II] (both)/Halpha against O32. Up to O32 = 0.5 from Curti et al. (2020), whose calibrations of S2 and O32
# share their metallicity; beyond, the fall with O32 goes on as in stacks at z 2-7 (Clarke et al. 2026).
_SULPHUR = (-0.7, 0.07, 0.45, 0.85, 1.3), (-0.44, -0.70, -0.93, -1.18, -1.45)
_SULPHUR_SCATTER = 0.12
# [O II] (both)/Hbeta against x = 12 + log(O/H) - 8.69: R2 of Curti et al. (2020).
_OXYGEN = (0.435, -1.362, -5.655, -4.851, -0.478, 0.736)


def abundance_sequence(redshift: np.ndarray, dust: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """(b,) log10 of the strong-line ratios of metal-rich galaxies, named as `STRONG`.

    ``dust`` (b, 2) is what it adds [dex] to [O II] and [Ne III] over Hbeta; the others do not feel it.
    12 + log(O/H) of massive galaxies falls by 0.08 per unit of redshift (Zahid et al. 2014, Sanders et al.
    2021); [N II] follows by Pettini & Pagel (2004), [O III] from the sequence of Kewley et al. (2013) at that
    redshift, [Ne III] from [O III].
    """
    oxygen = np.clip(8.70 - 0.08 * redshift + 0.13 * draws.normal("oxygen abundance"), 8.2, 8.85)
    nitrogen = (oxygen - 8.90) / 0.57
    place = np.minimum(nitrogen + 0.08 - 0.1833 * redshift, -0.29)
    o3 = 1.1 + 0.03 * redshift + 0.61 / place + 0.1 * draws.normal("abundance sequence")
    o2 = np.polynomial.polynomial.polyval(oxygen - 8.69, _OXYGEN) + 0.1 * draws.normal("evolved [OII]")
    o2 = o2 + dust[:, 0]
    neon = o3 - 1.05 + 0.1 * draws.normal("evolved [NeIII]") + dust[:, 1]
    return {"[OIII]/Hbeta": o3, "[OII]/Hbeta": o2, "[NeIII]/Hbeta": neon, "[NII]/Halpha": nitrogen}


def nitrogen_ratio(
    median: np.ndarray, o32: np.ndarray, median_o32: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """(b,) log10 [N II] 6585/Halpha: the median at a redshift, moved by the galaxy's own ionisation."""
    away = np.clip(o32 - median_o32, -1.2, 1.2)
    return median + _NITROGEN_SLOPE * away + _NITROGEN_SCATTER * normal


def low_ionisation_ratios(o32: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """(b,) log10 over Halpha without dust of [S II] (both lines) and of the lines that go with it.

    [O I] rises with [S II], flatter than it (star-forming galaxies of Kewley et al. 2006, from -2.0 where
    [S II] is weak to -1.55); [N I] goes with [O I]; [S III]/[S II] rises with O32 (Sanders et al. 2020),
    argon goes with it, both alpha elements of like ionisation.
    """
    sulphur = np.interp(o32, *_SULPHUR) + _SULPHUR_SCATTER * draws.normal("[SII]")
    oxygen = -1.72 + 0.55 * (sulphur + 0.75) + 0.15 * draws.normal("[OI]_6302")
    doubly = sulphur + 0.15 + 0.55 * np.clip(o32, -0.7, 1.5) + 0.12 * draws.normal("[SIII]_9533")
    return {
        "[SII]": sulphur,
        "[OI]_6302": oxygen,
        "[NI]_5199": oxygen - 0.95 + 0.2 * draws.normal("[NI]_5199"),
        "[SIII]_9533": doubly - 0.15,  # 0.71 of both lines
        "[SIII]_6314": doubly - 1.70 + 0.1 * draws.normal("[SIII]_6314"),
        "[ArIII]_7138": doubly - 0.80 + 0.1 * draws.normal("[ArIII]_7138"),
    }


def active_and_passive_shifts(
    active: np.ndarray, passive: np.ndarray, redshift: np.ndarray, draws: Draws
) -> dict[str, np.ndarray]:
    """By how many dex line ratios differ from star-forming galaxies of their O32.

    Narrow lines of active nuclei are those of Seyferts at low redshift (Kewley et al. 2006: log [N II]/Halpha
    near 0, [O III]/Hbeta near 0.9) and lie among star-forming galaxies beyond z 5 (Uebler et al. 2023,
    Maiolino et al. 2024); galaxies without star formation are LINERs.
    """
    scatter = 0.15 * draws.normal("ionisation")

    def of(seyfert: tuple[float, float, float], liner: float, spread: float = 1.0) -> np.ndarray:
        there = np.interp(redshift, (0.0, 2.5, 5.0), seyfert)
        both = np.where(active, there, np.where(passive, liner, 0.0))
        return both + np.where(active | passive, spread * scatter, 0.0)

    return {
        "[OIII]/Hbeta": of((0.20, 0.15, 0.05), -0.35, 0.3),
        "[NII]/Halpha": of((1.1, 0.65, 0.1), 0.45),
        "[SII]": of((0.40, 0.25, 0.05), 0.25),
        "[OI]_6302": of((0.70, 0.55, 0.25), 0.65),
    }
