"""The columns of a line fit: lines that share a flux, hat functions of the continuum, breaks (NumPy only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import Instrument
from data_pipeline.lines.line_list import LineList, load_lines
from data_pipeline.lines.profile import line_sigma, render_lines
from data_pipeline.stellar_library import load_library

BREAKS = (0.121567, 0.3646, 0.4000)  # um, rest: Lyman alpha, Balmer and 4000 Angstrom breaks
BREAK_MARGIN = 5  # pixels: a break nearer to an end is not told from the continuum
# Stronger lines of doublets whose ratio depends on the density of the gas: tied in a fit that cannot tell the
# two apart, but not fixed by atomic physics.
DENSITY_DOUBLETS = ("CIII]_1907", "[OII]_3730", "[NI]_5202", "[SII]_6718")
# What stars of 100-300 Myr at 0.4 solar metallicities add to a straight continuum: Balmer break and lines,
# which a fit would otherwise take off [O II] and the Balmer lines. Rest window [um], and the part of it at
# either end that the straight line goes through.
_STARS, _STAR_WINDOW, _STAR_END = (2, 4), (0.33, 0.52), 0.02
STAR_STEP = 1.0 / 1200.0  # of ln wavelength, in the table of `stellar_absorption`
LEAST_SEEN = 0.1  # share of a line's squared profile on good pixels below which it is not measured


@dataclass(frozen=True, eq=False)
class SharedFluxes:
    """Lines of a list as shares of free fluxes: one free flux for a doublet or a blend.

    Attributes:
        column: (m,) free flux to which each member belongs, 0 to ``columns - 1``.
        line: (m,) index of the member in the line list.
        share: (m,) flux of the member over the free flux.
        columns: number of free fluxes.
    """

    column: np.ndarray
    line: np.ndarray
    share: np.ndarray
    columns: int

    @classmethod
    def of(cls, groups: Sequence[Mapping[int, float]]) -> SharedFluxes:
        """From one mapping of line index to share for each free flux."""
        members = [(column, *member) for column, group in enumerate(groups) for member in group.items()]
        column, line, share = (np.array(part) for part in zip(*members, strict=True))
        return cls(column, line, share.astype(float), len(groups))

    def matrix(self, lines: int) -> np.ndarray:
        """(lines, columns) flux of each line of the list per free flux."""
        shares = np.zeros((lines, self.columns))
        shares[self.line, self.column] = self.share
        return shares

    def profiles(
        self, instrument: Instrument, redshift: float, velocity_sigma: float, resolution_scale: float = 1.0
    ) -> np.ndarray:
        """(columns, n) flux density on an instrument's pixels for free fluxes of 1 [1/Angstrom].

        ``velocity_sigma`` is the intrinsic one-sigma width of all lines [km/s], ``resolution_scale`` a factor
        on the instrument's resolving power.
        """
        return render_lines(
            instrument,
            load_lines("second").wavelength[self.line] * (1.0 + redshift),  # the first list begins it
            self.share,
            np.full(self.line.size, velocity_sigma),
            resolution_scale,
            row=self.column,
            rows=self.columns,
        )


def doublet(name: str, lines: LineList | None = None) -> dict[int, float]:
    """A line and its weaker partner with the ratio of the line list: index to share of the line's flux."""
    lines = lines or load_lines()
    k = lines.index(name)
    return {k: 1.0, lines.index(lines.partner[k]): 1.0 / lines.ratio[k]} if lines.partner[k] else {k: 1.0}


def tied_lines(lines: LineList, free: Sequence[str] = ()) -> SharedFluxes:
    """All K lines in the order of the list; weaker partners follow the stronger lines.

    Doublets of which ``free`` names the stronger line have a free flux for either line.
    """
    partners = {partner for name, partner in zip(lines.names, lines.partner, strict=True) if name not in free}
    groups = [
        {lines.index(name): 1.0} if name in free else doublet(name, lines)
        for name in lines.names
        if name not in partners
    ]
    fluxes = SharedFluxes.of(groups)
    order = np.argsort(fluxes.line)
    return SharedFluxes(fluxes.column[order], fluxes.line[order], fluxes.share[order], fluxes.columns)


def hat_functions(place: np.ndarray, first: float, last: float, count: int) -> np.ndarray:
    """(count, n) columns of a piecewise linear function at (n,) places, with ``count`` >= 2 even knots."""
    knots = np.linspace(first, last, count)
    return np.clip(1.0 - np.abs(place - knots[:, None]) / (knots[1] - knots[0]), 0.0, None)


def continuum_hats(pixels: int, count: int) -> np.ndarray:
    """(count, pixels) hat functions, evenly spaced in pixels from the first to the last."""
    return hat_functions(np.arange(pixels), 0.0, pixels - 1.0, count)


def break_steps(wavelength: np.ndarray, centre: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Steps at the breaks as the instrument sees them.

    Wavelengths (P,), centres and widths of the line-spread function there (B, breaks), all in um. Gives (B,
    breaks, P); 0 throughout for a break outside the range.
    """
    step = ndtr((wavelength - centre[..., None]) / sigma[..., None])
    inside = (centre > wavelength[BREAK_MARGIN]) & (centre < wavelength[-1 - BREAK_MARGIN])
    return step * inside[..., None]


@lru_cache(maxsize=1)
def _star_features() -> tuple[np.ndarray, np.ndarray]:
    """Ln rest wavelength [um] and what stars add to a straight continuum there, in units of it."""
    library = load_library()
    low, high = _STAR_WINDOW
    at = (library.wavelength > low) & (library.wavelength < high)
    wavelength, light = library.wavelength[at], library.stars[_STARS][at]
    logarithm = np.log(wavelength)
    ends = (wavelength < low * (1.0 + _STAR_END)) | (wavelength > high * (1.0 - _STAR_END))
    straight = np.polyval(np.polyfit(logarithm[ends], light[ends], 1), logarithm)
    taper = np.clip(np.minimum(wavelength / low - 1.0, 1.0 - wavelength / high) / _STAR_END, 0.0, 1.0)
    return logarithm, (light - straight) * taper / np.median(light)


def stellar_absorption(instrument: Instrument) -> tuple[float, np.ndarray]:
    """Balmer break and absorption lines of stars as each pixel of an instrument sees them.

    Returns:
        Start of the table in ln rest wavelength [um], and the table (P, J), in steps of `STAR_STEP`: pixel p
        of a source at redshift z has what lies at ln(wavelength[p] / (1 + z)). Beyond the table it is 0.
    """
    logarithm, feature = _star_features()
    wavelength, width = instrument.wavelength, np.diff(instrument.bounds, axis=0)[0]
    sigma = np.hypot(line_sigma(instrument, wavelength, 0.0), width / np.sqrt(12.0))
    wings = 4.0 * float(np.max(sigma / wavelength))
    start = float(logarithm[0]) - wings
    place = start + STAR_STEP * np.arange(int((logarithm[-1] + wings - start) / STAR_STEP) + 1)
    node = np.linspace(-3.5, 3.5, 15)
    weight = np.exp(-0.5 * node**2) / np.sum(np.exp(-0.5 * node**2))
    table = np.zeros((wavelength.size, place.size))
    for offset, share in zip(node, weight, strict=True):
        shifted = place + offset * (sigma / wavelength)[:, None]
        table += share * np.interp(shifted, logarithm, feature, left=0.0, right=0.0)
    return start, table
