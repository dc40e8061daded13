"""Active nuclei: power laws, broad lines by equivalent width, and the blends under them."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.line_fluxes import broad_ratios_to_halpha
from data_pipeline.stellar_library import pixel_edges, planck

HBETA = 0.486269  # um, where levels are stated
_KNEE = 0.5  # um, where composite spectra bend
_HOT_DUST = 1250.0  # K
# Centres and one-sigma widths [Angstrom] and strengths of what lies under broad lines and is in no line list.
# Optical Fe II: multiplets 27, 28, 37, 38, 42, 48, 49, 55 and 74, strengths rounded from I Zw 1 (Veron-Cetty,
# Joly & Veron 2004). Ultraviolet Fe II and III: the humps of Vestergaard & Wilkes (2001). Other lines (N V,
# O I, Si IV, Al III, Si III]) by equivalent width from Vanden Berk et al. (2001); N V and Si III] leave the
# blend where the line list has them.
_OPTICAL_IRON = (
    *((4180, 0.2), (4234, 0.35), (4301, 0.4), (4353, 0.35), (4387, 0.2), (4418, 0.25), (4492, 0.55)),
    *((4510, 0.45), (4518, 0.8), (4524, 0.45), (4551, 0.7), (4557, 0.4), (4578, 0.2), (4585, 0.75)),
    *((4622, 0.2), (4631, 0.4), (4667, 0.1), (4733, 0.15), (4925, 0.8), (5020, 1.0), (5170, 1.2)),
    *((5199, 0.45), (5236, 0.5), (5266, 0.3), (5278, 0.6), (5286, 0.2), (5318, 1.0), (5327, 0.2)),
    *((5364, 0.3), (5416, 0.1), (5427, 0.1), (5536, 0.25), (5993, 0.1), (6149, 0.1), (6249, 0.35)),
    *((6434, 0.1), (6458, 0.25), (6518, 0.15)),
)
_ULTRAVIOLET_IRON = (
    *((1785, 12, 0.12), (1915, 20, 0.2), (2075, 22, 0.25), (2250, 60, 0.5), (2330, 35, 0.7), (2390, 30, 1.0)),
    *((2480, 60, 1.0), (2590, 30, 0.8), (2625, 25, 0.7), (2745, 22, 0.7), (2840, 70, 0.9), (2950, 55, 0.6)),
    *((3190, 45, 0.25), (3280, 40, 0.15), (3500, 70, 0.15)),
)
_UNLISTED = ((1241, 2, 12.0), (1305, 2, 3.3), (1398, 4, 8.1), (1860, 3, 3.0), (1892, 2, 3.0))
_NEITHER = _UNLISTED[1:4]  # those that the second list lacks, too
BLENDS = ("optical iron", "ultraviolet iron", "Balmer continuum", "unlisted lines")
# Rest equivalent width [Angstrom] against the nucleus (Vanden Berk et al. 2001; C IV and Lya rather as in
# Shen et al. 2011), and by how many dex it falls per dex of luminosity (Dietrich et al. 2002).
_WIDTHS = {
    "Lya": (70.0, 0.15),
    "CIV_1548": (20.0, 0.20),
    "CIV_1551": (10.0, 0.20),
    "HeII_1640": (3.0, 0.20),
    "CIII]_1909": (17.0, 0.10),
    "MgII_2796": (20.0, 0.10),
    "MgII_2803": (12.0, 0.10),
    # as in the blend that they leave; N V does not fall (Dietrich et al. 2002)
    "NV_1239": (8.0, 0.0),
    "NV_1243": (4.0, 0.0),
    "SiIII]_1892": (3.0, 0.10),
}
_HALPHA_WIDTH = 195.0


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Continua of b active nuclei.

    Attributes:
        level: (b,) flux density of the power law at `HBETA` before its dust [erg/s/cm2/A].
        slopes: (b, 2) exponents in wavelength below and above 0.5 um.
        hot: (b,) light of 1250 K dust over the power law's at 2.3 um.
        reddening: (b,) E(B-V) of the dust in front, SMC-like [mag].
        blends: (b, 4) fluxes of the `BLENDS` [erg/s/cm2].
        sigma: (b,) one-sigma width of their lines [km/s].
        listed: (b,) bool, whether N V and Si III] are lines of their own, in no blend; None: nowhere.
    """

    level: np.ndarray
    slopes: np.ndarray
    hot: np.ndarray
    reddening: np.ndarray
    blends: np.ndarray
    sigma: np.ndarray
    listed: np.ndarray | None = None

    def power_law(self, rest: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(b, n) flux density of the nuclei in ``rows`` at rest wavelengths (n,) or (b, n) [um]."""
        x = rest / _KNEE
        slope = np.where(x < 1.0, self.slopes[rows, :1], self.slopes[rows, 1:])
        start = (HBETA / _KNEE) ** self.slopes[rows, :1]
        dust = self.hot[rows, None] * (2.3 / _KNEE) ** self.slopes[rows, 1:]
        light = x**slope + dust * planck(rest, _HOT_DUST) / planck(np.array(2.3), _HOT_DUST)
        # Prevot et al. (1984): the Small Magellanic Cloud
        screen = 10.0 ** (-0.4 * self.reddening[rows, None] * 1.39 * rest**-1.2)
        return self.level[rows, None] * light / start * screen


@lru_cache(maxsize=2)
def blend_integrals(listed: bool = False) -> np.ndarray:
    """(4, n + 1) integrals of the `BLENDS`, each of unit flux, up to the library's edges [um / Angstrom].

    ``listed`` as in `Nuclei`.
    """
    edges = pixel_edges()
    x = 1e4 * 0.5 * (edges[1:] + edges[:-1])
    rows = [
        sum(f * np.exp(-0.5 * ((x - c) / s) ** 2) / s for c, s, f in lines)
        for lines in (
            tuple((c, 2.0, f) for c, f in _OPTICAL_IRON),
            _ULTRAVIOLET_IRON,
            _NEITHER if listed else _UNLISTED,
        )
    ]
    # Grandi (1982): optically thick at the limit; high-order lines fill the edge
    jump = x**-5.0 / np.expm1(1.4388e8 / (x * 15000.0)) * -np.expm1(-((x / 3646.0) ** 3))
    at = np.argmin(np.abs(x - 3646.0))
    rows.insert(2, np.where(x < 3646.0, jump, jump[at] * np.exp(-np.maximum(x - 3646.0, 0.0) / 60.0)))
    total = np.array([np.concatenate([[0.0], np.cumsum(row * np.diff(edges))]) for row in rows])
    return total / total[:, -1:] * 1e-4


def draw_nuclei(
    lines: LineList,
    halpha: np.ndarray,
    at_2um: np.ndarray,
    bright: np.ndarray,
    redshift: np.ndarray,
    sigma: np.ndarray,
    draws: Draws,
) -> tuple[Nuclei, np.ndarray]:
    """Nuclei of b galaxies and the fluxes (b, L) of their broad lines.

    Args:
        lines: the line list.
        halpha: (b,) broad Halpha of a nucleus whose continuum goes with it [erg/s/cm2].
        at_2um: (b,) observed flux density near 2 um of a quasar, 0 for others [erg/s/cm2/A]; where both
            are 0 there is no nucleus.
        bright: (b,) log10 luminosity over that of typical quasars, for the Baldwin effect.
        redshift: (b,).
        sigma: (b,) one-sigma width of broad lines [km/s].
        draws: random numbers per galaxy.
    """
    size, quasar, scale = redshift.size, at_2um > 0, 1.0 + redshift
    # Vanden Berk et al. (2001) have -1.56, and +0.45 beyond 0.5 um, where the host adds; without it there is
    # no bend (Selsing et al. 2016)
    slopes = -1.6 + 0.25 * draws.normal("blue slope"), -1.6 + 1.2 * draws.uniform("red slope")
    nuclei = Nuclei(
        level=np.ones(size),
        slopes=np.stack(slopes, axis=1),
        hot=2.0 * 10.0 ** (0.25 * draws.normal("hot dust")),
        reddening=np.minimum(0.04 * np.exp(draws.normal("nuclear reddening")), 0.4),
        blends=np.zeros((size, len(BLENDS))),
        sigma=sigma,
        listed=np.full(size, "NV_1239" in lines.names),
    )
    continuum = nuclei.power_law(lines.wavelength) * scale[:, None]
    width = _HALPHA_WIDTH * 10.0 ** (0.18 * draws.normal("Halpha width"))
    per_level = width * continuum[:, lines.index("Halpha")]
    level = halpha / per_level
    level[quasar] = (at_2um / nuclei.power_law(2.0 / scale[:, None])[:, 0])[quasar]
    broad = broad_ratios_to_halpha(lines, nuclei.reddening) * (level * per_level)[:, None]
    for name, (middle, slope) in _WIDTHS.items():
        if name not in lines.names:
            continue
        own = 10.0 ** (0.15 * draws.normal("broad " + name[:4]) - slope * bright)
        broad[:, lines.index(name)] = level * middle * own * continuum[:, lines.index(name)]
    # the intergalactic medium takes the blue half
    broad[:, lines.index("Lya")] *= 1.0 - 0.5 * np.clip((redshift - 2.0) / 4.0, 0.0, 1.0)
    strength = 10.0 ** (np.array([0.35, 0.2, 0.2, 0.15]) * draws.normal("blends", len(BLENDS)))
    # over Hbeta, Mg II, Hbeta and C IV; an R_Fe (4434-4684 Angstrom) of 0.4 is a whole of 1.2
    strength *= np.array([1.2, 4.5, 3.0, 1.0])
    strength[:, :2] *= (draws.uniform("iron") < 0.75)[:, None]
    if "NV_1239" in lines.names:
        strength[:, 3] *= sum(w for *_, w in _NEITHER) / sum(w for *_, w in _UNLISTED)
    under = [lines.index(name) for name in ("Hbeta", "MgII_2796", "Hbeta", "CIV_1548")]
    return replace(nuclei, level=level, blends=strength * broad[:, under]), broad
