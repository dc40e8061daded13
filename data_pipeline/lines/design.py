"""The columns of a line fit: lines that share a flux, hat functions of the continuum, breaks (NumPy only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import Instrument
from data_pipeline.lines.line_list import LineList, load_lines
from data_pipeline.lines.profile import render_lines

BREAKS = (0.121567, 0.3646, 0.4000)  # um, rest: Lyman alpha, Balmer and 4000 Angstrom breaks
BREAK_MARGIN = 5  # pixels: a break nearer to an end is not told from the continuum
# Stronger lines of doublets whose ratio depends on the density of the gas: tied in a fit that cannot tell the
# two apart, but not fixed by atomic physics.
DENSITY_DOUBLETS = ("CIII]_1907", "[OII]_3730", "[NI]_5202", "[SII]_6718")
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
