"""Simulated beside real: the figures measured on JADES, each with the tolerance that it is held to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES
from data_pipeline.simulation.check_measurements import BANDS, LAGS, Measurements
from data_pipeline.simulation.comparison import Comparison
from data_pipeline.tables import read_table

DETECTED_FRACTIONS = (
    # line, S/N limit, share of galaxies with flags A, B, C
    ("HBaA_6563", 5.0, 0.90),
    ("HBaA_6563", 20.0, 0.41),
    ("O3_5007", 5.0, 0.91),
    ("O3_5007", 20.0, 0.51),
    ("HBaB_4861", 5.0, 0.52),
    ("O2_3727", 5.0, 0.48),
    ("N2_6584", 5.0, 0.17),
    ("O3_4363", 5.0, 0.02),
)
# 16, 50, 84 % of fluxes with S/N > 5 [1e-20 erg/s/cm2].
FLUXES = (
    ("HBaA_6563", (88.0, 233.0, 719.0)),
    ("O3_5007", (120.0, 339.0, 1000.0)),
    ("HBaB_4861", (52.0, 115.0, 304.0)),
    ("O2_3727", (89.0, 224.0, 582.0)),
)
BRIGHTEST_SN = (8.0, 21.0, 55.0)
REDSHIFT_PERCENTILES = ((5, 1.02), (25, 2.00), (50, 2.94), (75, 4.15), (95, 6.99))
REDSHIFT_BINS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 15.0)
# Quoted error per prism pixel [1e-21 erg/s/cm2/A]: 16, 50, 84 % over 24 galaxies, by band.
PRISM_ERRORS = (
    (1.4, 1.9, 2.3),
    (0.92, 1.2, 1.7),
    (0.65, 0.80, 1.2),
    (0.42, 0.51, 0.90),
    (0.31, 0.42, 0.75),
    (0.32, 0.42, 0.72),
    (0.45, 0.55, 0.79),
    (0.59, 0.70, 0.92),
)
# Range of the median S/N per prism pixel over the same galaxies: below 2.87 um and beyond 3.5 um.
CONTINUUM_SN = {0: (5, 8), 1: (5, 8), 2: (5, 8), 3: (5, 8), 5: (1.5, 4), 6: (1.5, 4), 7: (1.5, 4)}
AUTOCORRELATION = (0.50, -0.16, -0.34, -0.33, -0.21)
SCATTER_OVER_ERROR = 0.58 / 0.80
RESOLUTION = (1.16, 1.22, 1.29)
FLUX_RATIO = (1.01, 1.13, 1.34)
CENTRE_SCATTER_LIMIT = 200.0  # km/s, 16-84 % half range of prism minus grating line centres
MAGNITUDE = (-19.5, -18.5, -17.3)
CORRELATIONS = (("O3", "Ne3", 0.64), ("O3", "O2", -0.28), ("O2", "z", -0.43), ("O3", "z", 0.37))


_ONE_SIGMA = (16, 50, 84)


def compare(measured: Measurements) -> list[Comparison]:
    """All figures, in the order in which they are printed."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return [
            *_redshifts(measured),
            *_lines(measured),
            *_line_errors(measured),
            *_continuum(measured),
            *_noise(measured),
            *_instrument(measured),
            *_correlations(measured),
            *_ratios(measured),
        ]


def _redshifts(measured: Measurements) -> list[Comparison]:
    z = measured.redshift[measured.secure]
    out = [
        Comparison(
            "redshift", f"{percent} % of z (flags A, B, C)", real, np.percentile(z, percent), 0.08 * real
        )
        for percent, real in REDSHIFT_PERCENTILES
    ]
    table = read_table("jades_redshifts.ecsv")
    for low, high in pairwise(REDSHIFT_BINS):
        inside = (table["z_lo"] >= low) & (table["z_hi"] <= high)
        real = table["count"][inside].sum() / table["count"].sum()
        share = np.mean((z >= low) & (z < high))
        name = f"share at z {low:g}-{high:g}"
        out.append(Comparison("redshift", name, float(real), float(share), min(0.03, 0.75 * float(real))))
    return out


def _lines(measured: Measurements) -> list[Comparison]:
    out = []
    for name, limit, real in DETECTED_FRACTIONS:
        flux, error = measured.line(name)
        seen = measured.secure & np.isfinite(flux)
        share = float(np.mean((flux / error)[seen] > limit))
        tolerance = min(0.06, 0.75 * real)
        out.append(Comparison("detections", f"{name} above {limit:g} sigma", real, share, tolerance))
    brightest = np.nanmax(np.where(np.isfinite(measured.flux), measured.flux / measured.error, -1.0), axis=1)
    brightest = brightest[measured.secure & (brightest > 0)]
    for percent, real in zip(_ONE_SIGMA, BRIGHTEST_SN, strict=True):
        value = np.log10(np.percentile(brightest, percent))
        out.append(
            Comparison(
                "line fluxes", f"log S/N of the brightest line, {percent} %", np.log10(real), value, 0.13
            )
        )
    for name, percentiles in FLUXES:
        flux, error = measured.line(name)
        detected = flux[measured.secure & (flux > 5.0 * error)] * 1e20
        for percent, real in zip(_ONE_SIGMA, percentiles, strict=True):
            value = np.log10(np.percentile(detected, percent)) if detected.size else np.nan
            out.append(
                Comparison("line fluxes", f"log {name} flux, {percent} %", np.log10(real), value, 0.13)
            )
    return out


def _line_errors(measured: Measurements) -> list[Comparison]:
    """Errors of weak lines against the observed wavelength, all tiers."""
    rest = np.array([_quoted_wavelength(members) for members in CATALOGUE_LINES.values()])
    observed = rest * (1.0 + measured.redshift[:, None])
    weak = np.isfinite(measured.error) & (measured.flux < 8.0 * measured.error)
    table = read_table("jades_grating_line_errors.ecsv")
    out = []
    for row in np.flatnonzero(table["tier"] == "ALL"):
        low, high = table["wavelength_lo"][row], table["wavelength_hi"][row]
        inside = weak & (observed >= low) & (observed < high)
        real = np.log10(table["p50"][row])
        value = np.log10(np.median(measured.error[inside]) * 1e20) if inside.any() else np.nan
        out.append(Comparison("line errors", f"log line-flux error, {low:g}-{high:g} um", real, value, 0.1))
    return out


def _quoted_wavelength(members: dict[int, float]) -> float:
    """Rest wavelength [um] of the strongest member of a catalogue line."""
    return float(load_lines().wavelength[max(members, key=members.get)])


def _continuum(measured: Measurements) -> list[Comparison]:
    out = []
    for band, (low, high) in enumerate(BANDS):
        for percent, real in zip(_ONE_SIGMA, PRISM_ERRORS[band], strict=True):
            value = np.nanpercentile(measured.prism_error[:, band], percent) * 1e21
            out.append(
                Comparison(
                    "prism error", f"1e21 x error, {low:g}-{high:g} um, {percent} %", real, value, 0.2 * real
                )
            )
    for band, real in CONTINUUM_SN.items():
        low, high = BANDS[band]
        value = np.nanmedian(measured.prism_sn[measured.secure, band])
        out.append(
            Comparison("continuum", f"median S/N per pixel, {low:g}-{high:g} um", real, float(value), 0.0)
        )
    for percent, real in zip((16, 50, 84), MAGNITUDE, strict=True):
        value = np.nanpercentile(measured.ultraviolet_magnitude[measured.secure], percent)
        out.append(Comparison("continuum", f"M_UV, {percent} %", real, value, 0.35))
    return out


def _noise(measured: Measurements) -> list[Comparison]:
    out = [
        Comparison("noise", f"prism autocorrelation, lag {lag}", real, value, 0.05)
        for lag, real, value in zip(LAGS, AUTOCORRELATION, measured.autocorrelation, strict=True)
    ]
    out.append(
        Comparison(
            "noise", "prism scatter / quoted error", SCATTER_OVER_ERROR, measured.scatter_over_error, 0.06
        )
    )
    out.append(
        Comparison("noise", "grating autocorrelation, lag 1", 0.30, measured.grating_autocorrelation, 0.05)
    )
    return out


def _instrument(measured: Measurements) -> list[Comparison]:
    out = []
    for percent, real in zip(_ONE_SIGMA, RESOLUTION, strict=True):
        value = _percentile(measured.resolution_scale, percent)
        out.append(Comparison("instrument", f"R from lines / tabulated R, {percent} %", real, value, 0.04))
    for percent, real in zip(_ONE_SIGMA, FLUX_RATIO, strict=True):
        value = _percentile(measured.flux_ratio, percent)
        out.append(Comparison("instrument", f"prism / grating line flux, {percent} %", real, value, 0.07))
    scatter = 0.5 * (_percentile(measured.centre_offset, 84) - _percentile(measured.centre_offset, 16))
    limit = (-np.inf, CENTRE_SCATTER_LIMIT)
    out.append(Comparison("instrument", "prism - grating centre, scatter [km/s]", limit, scatter, 0.0))
    invalid = float(np.nanmean(measured.invalid))
    out.append(Comparison("instrument", "share of the grid without grating data", 0.037, invalid, 0.02))
    return out


def _correlations(measured: Measurements) -> list[Comparison]:
    beta, beta_error = measured.line("HBaB_4861")
    values = {"z": np.log10(1.0 + measured.redshift)}
    use = measured.secure & (beta > 10.0 * beta_error)
    for short, name in (("O3", "O3_5007"), ("O2", "O2_3727"), ("Ne3", "Ne3_3869")):
        flux, error = measured.line(name)
        use &= flux > 3.0 * error
        values[short] = np.log10(flux / beta)
    out = []
    for a, b, real in CORRELATIONS:
        value = _rank_correlation(values[a][use], values[b][use]) if use.sum() > 10 else np.nan
        out.append(Comparison("correlations", f"{a} with {b}", real, value, 0.15))
    return out


def ratio_percentiles(
    measured: Measurements, ratio: str, low: float, high: float
) -> tuple[int, float, np.ndarray]:
    """Number, detected share, and 16, 50, 84 % of a line ratio [log10] with the catalogue's selection.

    The denominator lies above 10 sigma; numerators below 3 sigma count as smaller than all others, and a
    percentile that falls among them is NaN.
    """
    top, bottom = ratio.split("/")
    flux, error = measured.line(top)
    base, base_error = measured.line(bottom)
    use = measured.secure & (base > 10.0 * base_error) & np.isfinite(flux)
    use &= (measured.redshift >= low) & (measured.redshift < high)
    if use.sum() < 5:
        return int(use.sum()), np.nan, np.full(3, np.nan)
    detected = (flux > 3.0 * error)[use]
    value = np.log10(np.where(detected, flux[use] / base[use], 1e-9))
    found = np.percentile(value, _ONE_SIGMA, method="nearest")
    return int(use.sum()), float(detected.mean()), np.where(found > -8.0, found, np.nan)


def _ratios(measured: Measurements) -> list[Comparison]:
    table = read_table("jades_line_ratios.ecsv")
    values, shares = [], []
    for row in range(table["ratio"].size):
        ratio, low, high = str(table["ratio"][row]), table["z_lo"][row], table["z_hi"][row]
        count, detected, found = ratio_percentiles(measured, ratio, low, high)
        label = f"{ratio}, z {low:g}-{high:g}"
        sampling = np.sqrt(1.0 / table["count"][row] + 1.0 / max(count, 1))
        real = [float(table[name][row]) for name in ("p16", "p50", "p84")]
        # Half the 16-84 range where both ends are known, else the upper half; 0.3 dex if neither is.
        known = [real[2] - real[0], 2.0 * (real[2] - real[1]), 0.6]
        sigma = 0.5 * next(width for width in known if np.isfinite(width))
        for place, factor in enumerate((1.52, 1.25, 1.52)):
            if np.isfinite(real[place]):
                tolerance = 0.05 + 2.0 * factor * sigma * sampling
                name = f"{label}, {_ONE_SIGMA[place]} % (n={count})"
                values.append(
                    Comparison("line ratios", name, real[place], float(found[place]), tolerance, count)
                )
        share = float(table["detected"][row])
        tolerance = 0.08 + 2.0 * np.sqrt(max(share * (1 - share), 0.02)) * sampling
        shares.append(
            Comparison("detected shares", f"{label} (n={count})", share, detected, tolerance, count)
        )
    return values + shares


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else float("nan")
