"""Comparison of simulated with real spectra: quantities measured on JADES, each with its tolerance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.simulation_measurements import BANDS, LAGS, Measurements
from data_pipeline.lines import load_lines
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES
from data_pipeline.tables import read_table

REASONS = {
    "redshift": "tolerance 8 % of z, 0.03 of a share and at most three quarters of it: sampling error of "
    "1,000 galaxies is 0.015",
    "detections": "tolerance 0.06 and at most three quarters of the share: sampling 0.015 (0.004 for a share "
    "of 0.02); the catalogue's own line fits are not public",
    "line fluxes": "tolerance 0.13 dex: a depth-driven distribution is modelled as one lognormal per tier",
    "line errors": "tolerance 0.1 dex: half of the 16-84 range is 0.25 dex, over tiers of unequal depth",
    "prism error": "tolerance 20 %: 24 galaxies give percentiles to 10-20 %",
    "continuum": "within the range over bands of 24 picked galaxies; M_UV 0.35 mag: the selection of the "
    "1,492 with a magnitude is not known",
    "noise": "tolerance 0.05: ACF estimator differs in detail; scatter ratio 0.06 (real files: 0.58-0.86)",
    "instrument": "tolerance 0.04 on R (21 real lines: error of a percentile 0.02), 0.07 on the flux ratio; "
    "the offset scatter lies below what was measured as an upper limit",
    "correlations": "rank correlations, tolerance 0.15: 513 real galaxies give 0.04, their selection more",
    "line ratios": "tolerance 0.05 dex plus two sampling errors of both percentiles; fewer than 8 simulated "
    "galaxies are not judged",
    "diagrams": "tolerance 0.15 dex about a published locus (its own scatter is 0.1), ranges for shares; "
    "meant for populations of library stars",
    "lines of the second list": "tolerance 0.15 dex about a published median, ranges where papers differ or "
    "give a few objects; populations that are wider than the sky miss some",
    "components": "tolerance 0.03 of a share, 30 % of a width; the settings where nothing is published",
    "sizes": "tolerance 0.04 on R as for fitted lines; slit losses below 15 % from end to end",
    "detected shares": "tolerance 0.08 plus two sampling errors: share of numerators above 3 sigma; fewer "
    "than 8 simulated galaxies are not judged",
}
_FEWEST = 8  # galaxies in a bin from which percentiles are judged


@dataclass(frozen=True)
class Comparison:
    """One quantity, simulated and real.

    Attributes:
        group: key of `REASONS`.
        name: what is compared.
        real: measured on JADES: a number, or a range (low, high), whose low end is -inf for an upper limit.
        simulated: measured on the simulation; NaN where it could not be measured.
        tolerance: largest difference from the number, or distance outside the range, that passes.
        count: number of simulated galaxies behind it, where they may be few.
    """

    group: str
    name: str
    real: float | tuple[float, float]
    simulated: float
    tolerance: float
    count: int | None = None

    @property
    def judged(self) -> bool:
        """Whether there are enough simulated galaxies to judge it."""
        return self.count is None or self.count >= _FEWEST

    @property
    def passes(self) -> bool:
        """Whether the two agree within the tolerance."""
        low, high = self.real if isinstance(self.real, tuple) else (self.real, self.real)
        # with room for rounding: 0.75 - 0.7 is more than 0.05
        return bool(low - self.tolerance - 1e-12 <= self.simulated <= high + self.tolerance + 1e-12)

    @property
    def verdict(self) -> str:
        """``pass``, ``MISS`` or ``too few``."""
        return "too few" if not self.judged else "pass" if self.passes else "MISS"

    @property
    def real_text(self) -> str:
        """The real value as the table shows it: number, range or limit."""
        if not isinstance(self.real, tuple):
            return f"{self.real:.3f}"
        low, high = self.real
        return f"< {high:g}" if np.isneginf(low) else f"{low:g} to {high:g}"


def report(comparisons: list[Comparison], n: int) -> str:
    """The table as text, with the number of figures outside their tolerance."""
    text = [f"simulated beside JADES, {n} simulated observations"]
    group = ""
    for item in comparisons:
        if item.group != group:
            group = item.group
            text += ["", f"{group}: {REASONS[group]}"]
            text.append(f"  {'':44s} {'real':>9s} {'simulated':>9s} {'tolerance':>9s}")
        numbers = f"{item.real_text:>9s} {item.simulated:9.3f} {item.tolerance:9.3f}"
        text.append(f"  {item.name:44s} {numbers}  {item.verdict}")
    missed = [item for item in comparisons if item.judged and not item.passes]
    few = sum(not item.judged for item in comparisons)
    text += [
        "",
        f"{len(comparisons)} figures, {len(missed)} outside their tolerance, "
        f"{few} on too few galaxies to judge",
    ]
    text += [f"  missed: {item.group}, {item.name}" for item in missed]
    return "\n".join(text) + "\n"


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
    """All comparisons, in the order of the printed table."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what too few galaxies do not tell is NaN
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
            "redshift", f"{percent} % of z (flags A, B, C)", real, _percentile(z, percent), 0.08 * real
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
    out += _percentiles(
        "line fluxes", "log S/N of the brightest line", brightest, BRIGHTEST_SN, 0.13, log=True
    )
    for name, percentiles in FLUXES:
        flux, error = measured.line(name)
        detected = flux[measured.secure & (flux > 5.0 * error)] * 1e20
        out += _percentiles("line fluxes", f"log {name} flux", detected, percentiles, 0.13, True)
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
    out, spans = [], [f"{low:g}-{high:g} um" for low, high in BANDS]
    for band, real in enumerate(PRISM_ERRORS):
        error = measured.prism_error[:, band] * 1e21
        allowed = 0.2 * np.array(real)
        out += _percentiles("prism error", f"1e21 x error, {spans[band]}", error, real, allowed)
    for band, real in CONTINUUM_SN.items():
        value = float(np.nanmedian(measured.prism_sn[measured.secure, band]))
        out.append(Comparison("continuum", f"median S/N per pixel, {spans[band]}", real, value, 0.0))
    magnitude = measured.ultraviolet_magnitude[measured.secure]
    return out + _percentiles("continuum", "M_UV", magnitude, MAGNITUDE, 0.35)


def _noise(measured: Measurements) -> list[Comparison]:
    autocorrelation = zip(LAGS, AUTOCORRELATION, measured.autocorrelation, strict=True)
    scatter, lagged = measured.scatter_over_error, measured.grating_autocorrelation
    return [
        *(
            Comparison("noise", f"prism autocorrelation, lag {lag}", real, value, 0.05)
            for lag, real, value in autocorrelation
        ),
        Comparison("noise", "prism scatter / quoted error", SCATTER_OVER_ERROR, scatter, 0.06),
        Comparison("noise", "grating autocorrelation, lag 1", 0.30, lagged, 0.05),
    ]


def _instrument(measured: Measurements) -> list[Comparison]:
    low, high = (_percentile(measured.centre_offset, percent) for percent in (16, 84))
    limit = (-np.inf, CENTRE_SCATTER_LIMIT)
    invalid = float(np.nanmean(measured.invalid))
    resolution, ratio = measured.resolution_scale, measured.flux_ratio
    return [
        *_percentiles("instrument", "R from lines / tabulated R", resolution, RESOLUTION, 0.04),
        *_percentiles("instrument", "prism / grating line flux", ratio, FLUX_RATIO, 0.07),
        Comparison("instrument", "prism - grating centre, scatter [km/s]", limit, 0.5 * (high - low), 0.0),
        Comparison("instrument", "share of the grid without grating data", 0.037, invalid, 0.02),
    ]


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
    percentiles = np.percentile(value, _ONE_SIGMA, method="nearest")
    return int(use.sum()), float(detected.mean()), np.where(percentiles > -8.0, percentiles, np.nan)


def _ratios(measured: Measurements) -> list[Comparison]:
    table = read_table("jades_line_ratios.ecsv")
    values, shares = [], []
    for row in range(table["ratio"].size):
        ratio, low, high = str(table["ratio"][row]), table["z_lo"][row], table["z_hi"][row]
        count, detected, simulated = ratio_percentiles(measured, ratio, low, high)
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
                    Comparison("line ratios", name, real[place], float(simulated[place]), tolerance, count)
                )
        share = float(table["detected"][row])
        tolerance = 0.08 + 2.0 * np.sqrt(max(share * (1 - share), 0.02)) * sampling
        shares.append(
            Comparison("detected shares", f"{label} (n={count})", share, detected, tolerance, count)
        )
    return values + shares


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def _percentiles(
    group: str, name: str, values: np.ndarray, real: tuple, tolerance: float | np.ndarray, log: bool = False
) -> list[Comparison]:
    """16, 50 and 84 % of simulated values against those of JADES; their logarithms with ``log``."""
    simulated = np.array([_percentile(values, percent) for percent in _ONE_SIGMA])
    real, simulated = (np.log10(part) if log else np.asarray(part) for part in (real, simulated))
    rows = zip(_ONE_SIGMA, real, simulated, np.broadcast_to(tolerance, 3), strict=True)
    return [
        Comparison(group, f"{name}, {percent} %", float(right), float(value), float(allowed))
        for percent, right, value, allowed in rows
    ]


def _percentile(values: np.ndarray, percent: float) -> float:
    """Percentile of the finite values; NaN without any."""
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percent)) if values.size else float("nan")
