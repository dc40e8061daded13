"""Line fluxes of a grating spectrum at a known redshift, by linear least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import Instrument
from data_pipeline.lines import LineList, load_lines

LIGHT_SPEED = 299792.458  # km/s
UM_TO_ANGSTROM = 1e4


@dataclass(frozen=True)
class LineFitConfig:
    """How lines are fitted.

    Attributes:
        velocity_widths: one-sigma widths tried [km/s]; the one with the least chi-square is taken.
        half_window: continuum and lines are fitted within this distance of a line [km/s].
        continuum_knots: knots of the piecewise linear continuum per window width of ``2 * half_window``.
        blend: lines closer than this many FWHM cannot be told apart and share a fixed ratio.
        tie: partners with a fixed ratio are tied when closer than this relative distance.
    """

    velocity_widths: tuple[float, ...] = (0.0, 100.0, 200.0, 400.0, 800.0, 1500.0)
    half_window: float = 3000.0
    continuum_knots: int = 2
    blend: float = 0.8
    tie: float = 0.06


@dataclass(frozen=True)
class LineFluxes:
    """Fitted lines, in the order of the list that was asked for.

    Attributes:
        names: n lines.
        flux: (n,) [erg/s/cm2]; NaN where not covered. Negative values are noise, and kept.
        error: (n,) one-sigma errors [erg/s/cm2].
        covered: (n,) bool: the line lies on good pixels.
        tied_to: (n,) index of the line that carries the free parameter; itself where free.
        velocity_width: one-sigma width adopted [km/s].
        reduced_chi_square: of the whole fit.
    """

    names: tuple[str, ...]
    flux: np.ndarray
    error: np.ndarray
    covered: np.ndarray
    tied_to: np.ndarray
    velocity_width: float
    reduced_chi_square: float

    def signal_to_noise(self, *names: str) -> float:
        """S/N of the sum of some lines (tied lines count as one); NaN where none is covered."""
        index = [self.names.index(name) for name in names]
        index = [i for i in index if self.covered[i]]
        if not index:
            return float("nan")
        total = sum(self.flux[i] for i in index)
        variance = 0.0
        for head in {int(self.tied_to[i]) for i in index}:
            variance += sum(self.error[i] for i in index if self.tied_to[i] == head) ** 2
        return float(total / np.sqrt(variance))


def unfitted_lines(lines: LineList) -> LineFluxes:
    """The result for a spectrum without a redshift: nothing covered, every flux NaN."""
    missing = np.full(len(lines), np.nan)
    nothing = np.zeros(len(lines), bool)
    return LineFluxes(lines.names, missing, missing.copy(), nothing, np.arange(len(lines)), 0.0, np.nan)


def fit_lines(
    wavelength: np.ndarray,
    bounds: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    redshift: float,
    instrument: Instrument,
    lines: LineList | None = None,
    config: LineFitConfig | None = None,
) -> LineFluxes:
    """Fits all lines of a list with Gaussians of the instrument's width on a local linear continuum.

    Args:
        wavelength: (n,) pixel centres [um].
        bounds: (2, n) pixel bounds [um].
        flux: (n,) flux density [erg/s/cm2/A].
        error: (n,) one-sigma errors [erg/s/cm2/A].
        mask: (n,) bool, True = bad.
        redshift: known redshift.
        instrument: gives the line-spread function.
        lines: None for the shipped list.
        config: None for the default.

    Raises:
        ValueError: for a redshift that is not finite or below -1.
    """
    if not np.isfinite(redshift) or redshift <= -1:
        raise ValueError(
            f"expected a finite redshift above -1, got {redshift}; leave the object out or give one"
        )
    lines, config = lines or load_lines(), config or LineFitConfig()
    centre = lines.wavelength * (1.0 + redshift)
    good = ~mask
    covered = _covered(wavelength, bounds, good, centre, instrument)
    parameters, tied_to = _tie(lines, centre, covered, instrument, config)
    empty = LineFluxes(
        lines.names, np.full(len(lines), np.nan), np.full(len(lines), np.nan), covered, tied_to, 0.0, np.nan
    )
    if not parameters:
        return empty
    near = good & (
        np.abs(wavelength[:, None] / centre[covered] - 1.0) < config.half_window / LIGHT_SPEED
    ).any(axis=1)
    data, sigma, box = flux[near], error[near], bounds[:, near]
    unit = np.median(sigma)
    continuum = _continuum(wavelength[near], config)
    best = None
    for width in config.velocity_widths:
        profiles = _profiles(box, centre, _line_sigma(box, centre, width, instrument), parameters)
        design = np.concatenate([profiles / UM_TO_ANGSTROM, continuum], axis=1) / sigma[:, None] * unit
        solution = _solve(design, data / sigma)
        if best is None or solution[2] < best[0][2]:
            best = (solution, width)
    (value, deviation, chi_square), width = best
    line_flux, line_error = empty.flux, empty.error
    for k, group in enumerate(parameters):
        for i, share in group:
            line_flux[i], line_error[i] = value[k] * share * unit, deviation[k] * share * unit
    freedom = max(data.size - design.shape[1], 1)
    return LineFluxes(
        lines.names, line_flux, line_error, covered, tied_to, width, float(chi_square / freedom)
    )


def _covered(wavelength, bounds, good, centre, instrument) -> np.ndarray:
    """Lines whose central FWHM lies on good pixels to 80 %."""
    half = 0.5 * instrument.fwhm(centre)
    low = np.searchsorted(bounds[1], centre - half, "right")
    high = np.searchsorted(bounds[0], centre + half, "left")
    running = np.concatenate([[0.0], np.cumsum(good * np.diff(bounds, axis=0)[0])])
    seen = running[np.maximum(high, low)] - running[low]
    return (centre - half > wavelength[0]) & (centre + half < wavelength[-1]) & (seen > 0.8 * 2 * half)


def _tie(lines, centre, covered, instrument, config):
    """Free parameters as lists of (line, share), and the line that carries each line's parameter."""
    tied_to = np.arange(len(lines))
    ratio_to_head = np.ones(len(lines))
    fwhm = instrument.fwhm(centre)
    for i in np.flatnonzero(covered):
        if not lines.partner[i]:
            continue
        j = lines.index(lines.partner[i])
        distance = abs(lines.wavelength[i] / lines.wavelength[j] - 1.0)
        density_dependent = lines.names[i].startswith(("[OII]", "[SII]_6", "CIII]", "[NI]"))
        if covered[j] and (
            distance * centre[i] < config.blend * fwhm[i] or (distance < config.tie and not density_dependent)
        ):
            tied_to[j], ratio_to_head[j] = i, 1.0 / lines.ratio[i]
    for i, j in zip(np.flatnonzero(covered), np.flatnonzero(covered)[1:], strict=False):
        # Unrelated lines that fall on each other: the share follows Case B where both have one.
        if tied_to[j] == j and tied_to[i] == i and centre[j] - centre[i] < 0.25 * fwhm[i]:
            known = np.isfinite(lines.case_b[i]) and np.isfinite(lines.case_b[j])
            tied_to[j], ratio_to_head[j] = i, lines.case_b[j] / lines.case_b[i] if known else 1.0
    groups = {i: [(i, 1.0)] for i in np.flatnonzero(covered) if tied_to[i] == i}
    for j in np.flatnonzero(covered):
        head, share = j, 1.0
        while tied_to[head] != head:
            share, head = share * ratio_to_head[head], tied_to[head]
        if head != j:
            tied_to[j] = head
            ratio_to_head[j] = share
            groups[head].append((j, share))
    return list(groups.values()), tied_to


def _line_sigma(bounds, centre, velocity_width: float, instrument: Instrument) -> np.ndarray:
    """(lines,) widths of the kernels [um] whose average over pixels is as wide as the instrument's lines."""
    pixel = np.interp(centre, bounds.mean(axis=0), bounds[1] - bounds[0])
    variance = instrument.sigma(centre) ** 2 - pixel**2 / 12.0 + (centre * velocity_width / LIGHT_SPEED) ** 2
    return np.sqrt(np.maximum(variance, (0.1 * pixel) ** 2))


def _profiles(bounds, centre, sigma, parameters) -> np.ndarray:
    """(n, parameters) unit-flux Gaussians averaged over pixels [1/um], tied lines added up."""
    width = bounds[1] - bounds[0]
    low = np.searchsorted(bounds[1], centre - 6.0 * sigma)
    high = np.searchsorted(bounds[0], centre + 6.0 * sigma)
    profiles = np.zeros((width.size, len(parameters)))
    for k, group in enumerate(parameters):
        for i, share in group:
            near = slice(low[i], high[i])
            step = ndtr((bounds[:, near] - centre[i]) / sigma[i])
            profiles[near, k] += share * (step[1] - step[0]) / width[near]
    return profiles


def _continuum(wavelength, config: LineFitConfig) -> np.ndarray:
    """Piecewise linear hat functions, (n, k), broken where the windows leave a hole."""
    x = np.log(wavelength) * LIGHT_SPEED
    spacing = 2.0 * config.half_window / config.continuum_knots
    blocks = np.split(np.arange(x.size), np.flatnonzero(np.diff(x) > config.half_window / 3) + 1)
    columns = []
    for block in blocks:
        start, stop = x[block[0]], x[block[-1]]
        knots = np.linspace(start, max(stop, start + 1.0), max(int(np.ceil((stop - start) / spacing)), 1) + 1)
        hats = np.zeros((x.size, knots.size))
        hats[block] = np.stack([np.interp(x[block], knots, row) for row in np.eye(knots.size)], axis=1)
        columns.append(hats)
    return np.concatenate(columns, axis=1)


def _solve(design: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Least squares through scaled normal equations: parameters, their errors, chi-square."""
    norm = np.sqrt((design**2).sum(axis=0))
    norm[norm == 0] = 1.0
    scaled = design / norm
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += 1e-10
    inverse = np.linalg.inv(normal)
    value = inverse @ (scaled.T @ data)
    residual = data - scaled @ value
    return value / norm, np.sqrt(np.diag(inverse)) / norm, float(residual @ residual)
