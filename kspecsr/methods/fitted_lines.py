"""Line fluxes of methods that give a spectrum and no lines, fitted at the known redshift.

Lines that the prism may blend are fitted together, with one width, a linear continuum and ratios that
physics fixes. The width is free between the reference's and a little more than the prism's, as the method's
resolution is unknown. Errors are those that the prism's noise gives to the same fits on the prism itself:
pixels of an interpolated or deconvolved spectrum share their noise, so that residuals do not measure it.
"""

from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, load_instrument, reference_instrument
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import SharedFluxes, doublet
from data_pipeline.lines.least_squares import LinearFit, linear_fit
from kspecsr.measures.held_out import HeldOut, Reconstruction

# Fitted together: one free flux for each name.
_GROUPS = (
    ("[OII]_3727", "[OII]_3730", "[NeIII]_3870"),
    ("Hbeta", "[OIII]_5008"),
    ("Halpha", "[NII]_6585", "[SII]_6718", "[SII]_6733"),
)
_WITH_PARTNER = ("[OIII]_5008", "[NII]_6585")  # these stand for their weaker partner too
_MARGIN = 1.5  # prism FWHM of continuum beside the outermost lines
_WIDTHS = 12  # between the reference's and the widest, in equal steps of the logarithm
_WIDEST = 1.2  # times the prism's
_LEAST_GOOD = 0.8  # of a window


def fitted_lines(reconstruction: Reconstruction, held_out: HeldOut) -> Reconstruction:
    """Add fitted line fluxes, errors and ``line_in_range`` to a reconstruction that has none.

    Args:
        reconstruction: reconstruction with a spectrum on the grid.
        held_out: galaxies; their redshift is taken as known.
    """
    if reconstruction.line_flux is not None:
        return reconstruction
    shape = held_out.line_flux.shape
    flux, error = np.full(shape, np.nan), np.full(shape, np.nan)
    sigma = _noise_on_grid(held_out)
    for members in _GROUPS:
        _fit_group(_group(members), reconstruction.flux, sigma, held_out, flux, error)
    return replace(reconstruction, line_flux=flux, line_flux_error=error, line_in_range=np.isfinite(flux))


def _group(names: tuple[str, ...]) -> SharedFluxes:
    lines = load_lines()
    return SharedFluxes.of(
        [doublet(name) if name in _WITH_PARTNER else {lines.index(name): 1.0} for name in names]
    )


def _fit_group(group: SharedFluxes, spectrum, sigma, held_out: HeldOut, flux, error) -> None:
    """Fill the columns of a group; NaN where the group is not covered as a whole."""
    prism, grid = load_instrument(PRISM), held_out.grid
    centre = load_lines().wavelength[group.line] * (1.0 + held_out.redshift[:, None])
    low, high = centre.min(axis=1), centre.max(axis=1)
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero((low > grid.wavelength[0]) & (high < grid.wavelength[-1]))
    if rows.size == 0:
        return
    centre, low, high = centre[rows], low[rows], high[rows]
    first = np.searchsorted(grid.wavelength, low - _MARGIN * prism.fwhm(low))
    last = np.searchsorted(grid.wavelength, high + _MARGIN * prism.fwhm(high))
    index = first[:, None] + np.arange((last - first).max())
    inside = index < last[:, None]
    index = np.minimum(index, grid.size - 1)
    x, y = grid.wavelength[index], np.asarray(spectrum)[rows[:, None], index].astype(float)
    noise = sigma[rows[:, None], index]
    good = inside & np.isfinite(y) & np.isfinite(noise)
    enough = good.sum(axis=1) >= _LEAST_GOOD * inside.sum(axis=1)
    weight = np.where(good, 1.0 / np.where(good, noise, 1.0) ** 2, 0.0)
    fit = _Windows(group, x, np.where(good, y, 0.0), weight, centre)
    narrow, wide = reference_instrument(grid).sigma(centre), prism.sigma(centre)
    best = fit.solution(fit.best_width(narrow, _WIDEST * wide)).value
    # At the prism's own width, whatever width fitted: a method that draws sharp lines knows no more than the
    # prism.
    spread = fit.solution(wide).error
    blank = np.where(enough, 1.0, np.nan)[:, None]
    target = rows[:, None], group.line
    flux[target] = blank * best[:, group.column] * group.share
    error[target] = blank * spread[:, group.column] * group.share


@dataclass(frozen=True)
class _Windows:
    """Windows of n galaxies around the lines of a group: (n, m) each, centre (n, L)."""

    group: SharedFluxes
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    centre: np.ndarray

    def best_width(self, narrow: np.ndarray, wide: np.ndarray) -> np.ndarray:
        """(n, L) widths that fit best; one factor for all lines of a group."""
        step = np.linspace(0.0, 1.0, _WIDTHS)
        # Tried, not searched: twelve linear fits of all galaxies at once, and a parabola through the best
        # three.
        gain = np.stack([self.solution(narrow * (wide / narrow) ** s).gain for s in step], axis=1)
        best = np.clip(np.argmax(gain, axis=1), 1, _WIDTHS - 2)
        row = np.arange(len(best))
        left, middle, right = (gain[row, best + i] for i in (-1, 0, 1))
        bend = left - 2.0 * middle + right
        offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
        place = np.clip(step[best] + np.clip(offset, -1.0, 1.0) * step[1], 0.0, 1.0)
        return narrow * (wide / narrow) ** place[:, None]

    def solution(self, sigma: np.ndarray) -> LinearFit:
        """Fluxes of the C components and a linear continuum for given widths (n, L)."""
        columns = np.zeros((len(self.x), self.group.columns + 2, self.x.shape[1]))
        for number, column in enumerate(self.group.column):
            centre, width = self.centre[:, number, None], sigma[:, number, None]
            profile = np.exp(-0.5 * ((self.x - centre) / width) ** 2)
            share = self.group.share[number] / (width * np.sqrt(2.0 * np.pi) * ANGSTROM_PER_UM)
            columns[:, column] += share * profile
        middle = self.centre.mean(axis=1, keepdims=True)
        columns[:, -2], columns[:, -1] = 1.0, self.x / middle - 1.0
        return linear_fit(columns, self.weight, self.y)


def _noise_on_grid(held_out: HeldOut) -> np.ndarray:
    """(B, N) error of independent grid pixels that would constrain a line as well as the prism does.

    The quoted error is that of a detector pixel, of which there are 0.6 to a released one.
    """
    prism, grid = load_instrument(PRISM), held_out.grid
    wavelength = grid.wavelength
    share = np.diff(grid.bounds, axis=0)[0] / prism.pixel_width(wavelength) * DETECTOR_PIXELS_PER_PIXEL
    out = np.full((len(held_out), grid.size), np.nan)
    for row in range(len(held_out)):
        good = ~np.asarray(held_out.prism_mask[row], bool)
        if good.any():
            error = np.interp(wavelength, prism.wavelength[good], held_out.prism_error[row][good])
            out[row] = error / np.sqrt(share)
    return out
