"""Measurements of simulated spectra as an observer makes them, for comparison with those of JADES.

Everything here starts from observed fluxes, quoted errors and masks; of the truth only the redshift is
used, as a survey's catalogue has it, and that spectra without a source get no secure flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import PRISM, SPEED_OF_LIGHT, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES
from data_pipeline.lines.design import SharedFluxes, doublet
from data_pipeline.lines.least_squares import linear_fit
from data_pipeline.simulation.arrays import SimulatedBatch, simulate_batches
from data_pipeline.simulation.catalogue import measured_fluxes, redshift_flags
from data_pipeline.simulation.config import SimulationConfig
from kspecsr.measures.estimate import median_of_rows

_HALF_WINDOW = 16  # prism pixels on either side of a line
_BRIGHT = 8.0  # S/N in the gratings of a line that is fitted
_CLEAN = 15.0  # S/N in the prism of a fit that counts
_MOST_NITROGEN = 0.12  # [N II] over Halpha, with its error: more would broaden the blend
_OFFSET_UNIT = 1e-3  # of the wavelength: makes both fitted parameters of order one
_LIMITS = [-0.4, -10.0], [0.9, 10.0]  # of ln(scale of the resolving power) and the offset


def fit_prism_lines(batch: SimulatedBatch, row: int, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Fits [O III] and Halpha of one prism spectrum where they are bright and clean.

    Args:
        batch: observations.
        row: which of them.
        flux: (m,) line fluxes from the gratings, in the order of `CATALOGUE_LINES` [erg/s/cm2].
        error: (m,) their errors.

    Returns:
        (k, 3) factor on the tabulated resolving power, prism minus grating centre [km/s], prism over
        grating flux; one row per line.
    """
    names, lines = list(CATALOGUE_LINES), load_lines()
    out = []
    for name, main in (("O3_5007", "[OIII]_5008"), ("HBaA_6563", "Halpha")):
        column = names.index(name)
        centre = lines.wavelength[lines.index(main)] * (1 + batch.redshift[row])
        if not (flux[column] > _BRIGHT * error[column] and 1.3 < centre < 5.1):
            continue
        line = doublet(main)
        if main == "Halpha":
            nitrogen = names.index("N2_6584")
            share = max(flux[nitrogen], 0.0) / flux[column] if np.isfinite(flux[nitrogen]) else np.inf
            if not share + error[nitrogen] / flux[column] <= _MOST_NITROGEN:
                continue
            line |= {member: part * share for member, part in doublet("[NII]_6585").items()}
        groups = [line, doublet("Hbeta")] if main == "[OIII]_5008" else [line]
        fit = _fit_blend(batch, row, centre, groups)
        if fit is not None and fit[3] > _CLEAN:
            out.append((fit[0], fit[1], fit[2] / flux[column]))
    return np.array(out).reshape(-1, 3)


def _fit_blend(batch: SimulatedBatch, row: int, centre: float, groups: list[dict]) -> tuple | None:
    """Resolution scale, offset [km/s], flux and S/N of a line in the prism; None where it cannot be fitted.

    Width and centre are fitted; the fluxes of the line and of a neighbour in the window and a quadratic
    continuum follow linearly at each step.
    """
    from scipy.optimize import least_squares  # slow to import; --help has no use for it

    prism = load_instrument(PRISM, scale=1.0)
    middle = int(np.searchsorted(prism.wavelength, centre))
    window = slice(max(middle - _HALF_WINDOW, 0), middle + _HALF_WINDOW + 1)
    mask = batch.prism_mask[row, window]
    density, error = batch.prism_flux[row, window], batch.prism_error[row, window]
    if mask.size < 2 * _HALF_WINDOW + 1 or mask.any():
        return None
    local = prism.with_pixels(prism.wavelength[window], prism.bounds[:, window])
    redshift = float(batch.redshift[row])
    shared = SharedFluxes.of([group for group in groups if _lies_in(local, group, redshift)])
    t = np.linspace(-1.0, 1.0, mask.size)
    continuum = np.stack([np.ones_like(t), t, t**2])

    def solve(parameters: np.ndarray):
        moved = (1.0 + redshift) * (1.0 + parameters[1] * _OFFSET_UNIT) - 1.0
        profiles = shared.profiles(local, moved, 0.0, np.exp(parameters[0]))
        columns = np.concatenate([profiles, continuum])
        fit = linear_fit(columns, error**-2.0, density)
        return fit, (density - fit.value @ columns) / error

    minimum = least_squares(lambda p: solve(p)[1], [np.log(1.2), 0.0], bounds=_LIMITS, max_nfev=60)
    if not minimum.success or np.any(minimum.active_mask):
        return None
    fit, _ = solve(minimum.x)
    offset = float(minimum.x[1] * _OFFSET_UNIT * SPEED_OF_LIGHT)
    return float(np.exp(minimum.x[0])), offset, float(fit.value[0]), float(fit.value[0] / fit.error[0])


def _lies_in(instrument, group: dict[int, float], redshift: float) -> bool:
    """Whether the first line of a group lies on an instrument's pixels."""
    return bool(instrument.pixel_of(load_lines().wavelength[next(iter(group))] * (1.0 + redshift))[1])


BANDS = ((1.0, 1.3), (1.3, 1.66), (1.66, 2.2), (2.2, 2.87), (2.87, 3.5), (3.5, 4.2), (4.2, 4.8), (4.8, 5.3))
LAGS = (1, 2, 3, 4, 5)
_SECURE = ("A", "B", "C")


@dataclass(frozen=True)
class Measurements:
    """Measurements of n simulated galaxies.

    Attributes:
        redshift: (n,) of the catalogue.
        flag: (n,) A to E.
        flux: (n, m) line fluxes from the gratings [erg/s/cm2], in the order of `CATALOGUE_LINES`.
        error: (n, m) their errors.
        prism_sn: (n, bands) median S/N per prism pixel.
        prism_error: (n, bands) median quoted error per prism pixel [erg/s/cm2/A].
        autocorrelation: (lags,) of prism residuals after an 11-pixel running median.
        scatter_over_error: standard deviation of those residuals over the quoted errors.
        grating_autocorrelation: lag-1 autocorrelation of grating residuals.
        resolution_scale: (k,) fitted factor on the tabulated prism resolving power, one per bright line.
        centre_offset: (k,) prism minus grating line centre [km/s].
        flux_ratio: (k,) prism over grating line flux.
        ultraviolet_magnitude: (n,) absolute magnitude at 1500 Angstrom from the prism; NaN outside coverage.
        invalid: (n,) share of masked grating pixels, of spectra with all three gratings; else NaN.
    """

    redshift: np.ndarray
    flag: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    prism_sn: np.ndarray
    prism_error: np.ndarray
    autocorrelation: np.ndarray
    scatter_over_error: float
    grating_autocorrelation: float
    resolution_scale: np.ndarray
    centre_offset: np.ndarray
    flux_ratio: np.ndarray
    ultraviolet_magnitude: np.ndarray
    invalid: np.ndarray

    @property
    def secure(self) -> np.ndarray:
        """(n,) bool: flags A, B, C."""
        return np.isin(self.flag, _SECURE)

    def line(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Flux and error (n,) of a catalogue line."""
        column = list(CATALOGUE_LINES).index(name)
        return self.flux[:, column], self.error[:, column]


def measure_simulation(
    n: int, seed: int, config: SimulationConfig, progress: Callable[[int], object] = lambda count: None
) -> Measurements:
    """Simulate and measure ``n`` galaxies.

    Args:
        n: number of galaxies.
        seed: of the simulation.
        config: population and nuisances.
        progress: called with the number of galaxies done since the last call.
    """
    parts: list[dict[str, np.ndarray]] = []
    sums = np.zeros((2, 2 + len(LAGS)))  # prism and grating: count, variance, lagged products
    for batch in simulate_batches(n, seed, config=config):
        flux, error = measured_fluxes(batch)
        prism_flux, prism_error = measured_fluxes(batch, prism=True)
        part = {
            "redshift": batch.redshift,
            "flag": redshift_flags(batch, flux / error, prism_flux / prism_error),
            "flux": flux,
            "error": error,
            **_band_levels(batch),
            "ultraviolet_magnitude": _ultraviolet_magnitude(batch),
            "invalid": _invalid(batch),
        }
        fits = [fit_prism_lines(batch, row, flux[row], error[row]) for row in range(len(batch))]
        lines = np.concatenate([np.empty((0, 3)), *fits])
        part |= {"resolution_scale": lines[:, 0], "centre_offset": lines[:, 1], "flux_ratio": lines[:, 2]}
        parts.append(part)
        sums[0] += _residual_products(batch.prism_wavelength, batch.prism_flux, batch.prism_error, batch)
        for arm, spectra in batch.gratings.items():
            sums[1] += _residual_products(batch.grating_wavelength[arm], spectra.flux, spectra.error, batch)
        progress(len(batch))
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Measurements(
        **joined,
        autocorrelation=sums[0, 2:] / sums[0, 1],
        scatter_over_error=float(np.sqrt(sums[0, 1] / sums[0, 0])),
        grating_autocorrelation=float(sums[1, 2] / sums[1, 1]),
    )


def _band_levels(batch: SimulatedBatch) -> dict[str, np.ndarray]:
    x = batch.prism_wavelength
    inside = np.array([(x >= low) & (x < high) for low, high in BANDS])
    levels = {"prism_sn": batch.prism_flux / batch.prism_error, "prism_error": batch.prism_error}
    return {
        name: np.stack([median_of_rows(values, band) for band in inside], axis=1)
        for name, values in levels.items()
    }


def _residual_products(
    wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray, batch: SimulatedBatch
) -> np.ndarray:
    """Count, sum of squares and lagged products of residuals over errors, away from lines and edges."""
    from scipy.ndimage import median_filter  # slow to import; --help has no use for it

    ratio = flux / error
    good = np.isfinite(ratio) & (wavelength > 1.0) & (wavelength < 5.2)
    filled = np.where(np.isfinite(ratio), ratio, 0.0)
    residual = filled - median_filter(filled, (1, 11), mode="nearest")
    # Keep five pixels away from anything beyond 3 sigma or bad: lines, outliers, gaps.
    spoiled = (np.abs(residual) > 3.0) | ~np.isfinite(ratio)
    for shift in range(1, 6):
        spoiled[:, shift:] |= spoiled[:, :-shift] & (np.abs(residual) > 3.0)[:, :-shift]
    near = np.apply_along_axis(np.convolve, 1, spoiled.astype(float), np.ones(11), "same") > 0
    # The brightest continua have structure of their own below the running median.
    faint = np.median(np.abs(filled), axis=1, keepdims=True) < 15.0
    use = good & ~near & faint
    out = [use.sum(), (residual[use] ** 2).sum()]
    for lag in LAGS:
        both = use[:, lag:] & use[:, :-lag]
        # Normalised per pair, so that gaps do not lower the correlation.
        product = (residual[:, lag:] * residual[:, :-lag])[both].sum()
        out.append(product * use.sum() / max(both.sum(), 1))
    return np.array(out)


def _ultraviolet_magnitude(batch: SimulatedBatch) -> np.ndarray:
    """Absolute AB magnitude at 1500 Angstrom rest, from the median flux at 1400-1600 Angstrom."""
    out = np.full(len(batch), np.nan)
    for row, z in enumerate(batch.redshift):
        rest = batch.prism_wavelength / (1.0 + z)
        inside = (rest > 0.14) & (rest < 0.16) & (batch.prism_wavelength > 0.7)
        if inside.sum() < 3:
            continue
        flux = np.nanmedian(batch.prism_flux[row, inside])
        if not flux > 0:
            continue
        f_nu = flux * (1500.0 * (1 + z)) ** 2 / (SPEED_OF_LIGHT * 1e13)  # erg/s/cm2/Hz
        out[row] = -2.5 * np.log10(f_nu) - 48.6 - _distance_modulus(z) + 2.5 * np.log10(1.0 + z)
    return out


def _distance_modulus(redshift: float) -> float:
    """Flat LambdaCDM, H0 = 70 km/s/Mpc, Omega_m = 0.3."""
    z = np.linspace(0.0, redshift, 400)
    distance = np.trapezoid(1.0 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), z) * SPEED_OF_LIGHT / 70.0
    return float(5.0 * np.log10(distance * (1.0 + redshift) * 1e5))


def _invalid(batch: SimulatedBatch) -> np.ndarray:
    """Share of the unified grid between 1 and 5.2 um that no grating covers with a good pixel."""
    x = batch.wavelength[(batch.wavelength > 1.0) & (batch.wavelength < 5.2)]
    covered = np.zeros((len(batch), x.size), bool)
    for arm, spectra in batch.gratings.items():
        nearest = np.searchsorted(batch.grating_wavelength[arm], x).clip(0, spectra.mask.shape[1] - 1)
        inside = (x > batch.grating_wavelength[arm][0]) & (x < batch.grating_wavelength[arm][-1])
        covered |= ~spectra.mask[:, nearest] & inside
    return np.where(batch.grating_taken.all(axis=1), 1.0 - covered.mean(axis=1), np.nan)
