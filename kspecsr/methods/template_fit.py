"""Fit of stars, gas and dust to a prism spectrum: what a careful astronomer does, at a redshift or over many.

Non-negative least squares over the simulator's stellar library (age bins x metallicities x reddening), its
nebular continuum, the cool envelopes of little red dots, nuclei and all lines, seen by the prism. Chi-square
against redshift is the template oracle; lines then keep fixed ratios, so that breaks and absorption count.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from scipy.optimize import nnls

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.instrument.line_spread import LineSpreadOperator
from data_pipeline.instrument.prism_pixels import LOW_FREQUENCY_VARIANCE
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import tied_lines
from data_pipeline.simulation.attenuation import attenuation
from data_pipeline.simulation.continua import INTRINSIC_GRID, intrinsic_continua
from data_pipeline.simulation.nuclei import BLENDS, Nuclei
from data_pipeline.simulation.stars import StellarContinua
from data_pipeline.stellar_library import load_library

_MOST_STEPS = 30  # per column
_TIED = ("[OII]_3727", "[OII]_3730", "[OIII]_5008", "[NII]_6585")  # beside hydrogen of Case B, with partners
_DARK = 1e-30  # a nucleus whose power law is not seen beside its lines
_BREAK = 0.6  # largest share of an envelope's light that the simulator takes below the Balmer limit
_HUBBLE_TIME = 13.97e3  # Myr; H0 = 70 km/s/Mpc, Omega_m = 0.3


@dataclass(frozen=True)
class TemplateFitConfig:
    """Options of the template fit.

    Attributes:
        metallicities: indices into the library's.
        reddening: E(B-V) of stars and nebular continuum [mag], Calzetti's curve.
        envelopes: temperatures of cool black bodies [K], each with and without its largest Balmer break.
        nuclei: exponents in wavelength of power laws; with them come iron and Balmer continuum, each free.
        dispersion: of the stars [km/s].
        line_widths: one-sigma widths [km/s] of lines; hydrogen and helium alone have those after the first;
            none for no lines.
        tied: lines in few columns of fixed ratios, see `_TIED`.
    """

    metallicities: tuple[int, ...] = (0, 1, 2, 3, 4)
    reddening: tuple[float, ...] = (0.0, 0.1, 0.25, 0.45, 0.7, 1.1)
    envelopes: tuple[float, ...] = (3800.0, 4500.0, 5200.0, 6000.0)
    nuclei: tuple[float, ...] = (-1.7, -0.5, 1.0)
    dispersion: float = 150.0
    line_widths: tuple[float, ...] = (50.0, 700.0, 1500.0)
    tied: bool = False


# For scans: lines that are free are bumps anywhere, and took three of eight redshifts along.
SCAN = TemplateFitConfig(
    metallicities=(1, 3), reddening=(0.0, 0.25, 0.7), envelopes=(), nuclei=(), line_widths=(50.0,), tied=True
)


@dataclass(frozen=True, eq=False)
class Templates:
    """Columns of a fit at one redshift; for noise-free spectra on n pixels.

    Attributes:
        columns: (C, n), of unit height.
        kind: C names: ``stars``, ``nebular``, ``envelope``, ``nucleus``, ``lines``.
        age: (C,) age bin of stars; -1 for others.
        reddening: (C,) E(B-V) [mag]; -1 for lines.
    """

    columns: np.ndarray
    kind: np.ndarray
    age: np.ndarray
    reddening: np.ndarray


@dataclass(frozen=True, eq=False)
class TemplateFit:
    """The best fit.

    Attributes:
        redshift: of the fit.
        weights: (C,) of the templates, not negative.
        model: (n,).
        continuum: (n,) the model without lines.
        chi_square: per good pixel, 1 where all is right (see `fit_templates`).
        templates: what was fitted.
    """

    redshift: float
    weights: np.ndarray
    model: np.ndarray
    continuum: np.ndarray
    chi_square: float
    templates: Templates

    def light(self, of: np.ndarray) -> float:
        """Share of the continuum's light, summed over pixels, in templates (C,) bool."""
        light = (self.weights[:, None] * self.templates.columns).sum(axis=1)
        return float(light[of].sum() / max(light[self.templates.kind != "lines"].sum(), 1e-300))


def cosmic_age(redshift: float) -> float:
    """Age of the universe [Myr]."""
    return float(2.0 / 3.0 / 0.7**0.5 * _HUBBLE_TIME * np.arcsinh((0.7 / 0.3 / (1.0 + redshift) ** 3) ** 0.5))


def templates_at(
    redshift: float, config: TemplateFitConfig = TemplateFitConfig(), instrument: Instrument | None = None
) -> Templates:
    """Columns at a redshift, with stars no older than the universe.

    Args:
        redshift: above -1.
        config: options.
        instrument: pixels and line-spread function; None for the prism's as JADES releases it.
    """
    instrument = load_instrument(PRISM) if instrument is None else instrument
    continua, kind, age = _bare(redshift, config)
    bare = intrinsic_continua(continua, np.full(kind.size, redshift))
    curve = attenuation(INTRINSIC_GRID.wavelength / (1.0 + redshift), 0.0, 0.0)
    screens = 10.0 ** (-0.4 * np.array(config.reddening)[:, None] * (curve - curve.min()))
    seen = _operator(instrument).apply((screens[:, None] * bare).reshape(-1, bare.shape[1]))
    lines = _line_columns(redshift, config, instrument)
    columns = np.concatenate([seen, lines])
    height = columns.max(axis=1)
    shines = height > 0
    labels = [np.append(np.tile(kind, len(screens)), np.full(len(lines), "lines"))]
    for values in (np.tile(age, len(screens)), np.repeat(config.reddening, kind.size)):
        labels.append(np.append(values, np.full(len(lines), -1)))
    unit = columns / np.where(shines, height, 1.0)[:, None]
    return Templates(*(values[shines] for values in (unit, *labels)))


def _bare(redshift: float, config: TemplateFitConfig) -> tuple[StellarContinua, np.ndarray, np.ndarray]:
    """Continua before dust, one light in each, with its kind and age bin (-1 where it has none)."""
    edges, metals = load_library().age_edges, np.array(config.metallicities)
    bins = np.flatnonzero(edges[:-1] < cosmic_age(redshift))
    # stars, gas of each metallicity, envelopes, power laws of nuclei and the blends of their lines
    cool, laws = np.repeat(config.envelopes, 2), np.array(config.nuclei)
    blends = len(BLENDS) * bool(config.nuclei)
    counts = [bins.size * metals.size, metals.size, cool.size, laws.size + blends]
    kind = np.repeat(["stars", "nebular", "envelope", "nucleus"], counts)
    stars, nebular, cooled, nuclei = (kind == name for name in ("stars", "nebular", "envelope", "nucleus"))
    rows, last = np.arange(kind.size), kind.size - blends
    given = {field.name: np.zeros(rows.size) for field in fields(StellarContinua)}
    given |= {"level": stars.astype(float), "hbeta": nebular.astype(float), "envelope": cooled.astype(float)}
    age, metallicity = np.full(rows.size, -1), np.zeros(rows.size, int)
    age[stars], metallicity[stars] = np.repeat(bins, metals.size), np.tile(metals, bins.size)
    metallicity[nebular] = metals
    given["metallicity"], given["dispersion"] = metallicity, np.full(rows.size, config.dispersion)
    given["weights"] = (age[:, None] == np.arange(edges.size - 1)).astype(float)
    given["temperature"] = np.ones(rows.size)
    given["temperature"][cooled], given["balmer_break"][cooled] = cool, np.tile([0.0, _BREAK], cool.size // 2)
    slopes = np.zeros((rows.size, 2))
    slopes[last - laws.size : last] = laws[:, None]
    given["nuclei"] = Nuclei(
        level=np.where(nuclei, np.where(rows < last, 1.0, _DARK), 0.0),
        slopes=slopes,
        hot=np.zeros(rows.size),
        reddening=np.zeros(rows.size),
        blends=(rows[:, None] - last == np.arange(len(BLENDS))).astype(float),
        sigma=np.full(rows.size, 1000.0),
    )
    return StellarContinua(**given), kind, age


def _line_columns(redshift: float, config: TemplateFitConfig, instrument: Instrument) -> np.ndarray:
    lines, ties = load_lines(), tied_lines(load_lines())
    permitted = np.isfinite(lines.case_b) | np.char.startswith(np.array(lines.names), "He")
    if config.tied:
        profiles = ties.profiles(instrument, redshift, config.line_widths[0])
        hydrogen = np.nan_to_num(lines.case_b) @ profiles[ties.column]
        return np.stack([hydrogen, *(profiles[ties.column[lines.index(name)]] for name in _TIED)])
    heads = np.zeros(ties.columns, bool)
    heads[ties.column[permitted]] = True
    if not config.line_widths:
        return np.zeros((0, instrument.wavelength.size))
    parts = [ties.profiles(instrument, redshift, width) for width in config.line_widths]
    return np.concatenate([parts[0], *(part[heads] for part in parts[1:])])


def _operator(instrument: Instrument) -> LineSpreadOperator:
    return _cached_operator(instrument.name, instrument.scale, instrument.wavelength.tobytes())


@lru_cache(maxsize=32)
def _cached_operator(name: str, scale: float, wavelength: bytes) -> LineSpreadOperator:
    prism = load_instrument(name, scale=scale)
    pixels = np.frombuffer(wavelength)
    prism = prism if np.array_equal(pixels, prism.wavelength) else prism.with_pixels(pixels)
    return prism.line_spread_operator(INTRINSIC_GRID.bounds)


def fit_templates(
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    templates: Templates,
    redshift: float,
    noise_variance: float = 1.0,
) -> TemplateFit:
    """Non-negative least squares of one spectrum.

    Args:
        flux: (n,) in any unit; not used where masked.
        error: (n,) one sigma as quoted.
        mask: (n,) bool, True = bad.
        templates: on the same pixels.
        redshift: at which they stand.
        noise_variance: variance of a pixel over the quoted one, as its release has it; by it chi-square is
            divided. Correlation of neighbours changes what chi-square scatters, not its mean.

    Raises:
        ValueError: without a good pixel.
    """
    good = ~mask & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    if not good.any():
        raise ValueError("template fit: expected good pixels, got none; mask less")
    root = np.where(good, 1.0 / np.where(good, error, 1.0), 0.0)
    whitened = templates.columns * root
    norm = np.sqrt((whitened**2).sum(axis=1))
    whitened /= np.where(norm > 0, norm, 1.0)[:, None]
    # many templates are nearly sums of others: orthogonal steps, not normal equations
    weights, _ = nnls(whitened[:, good].T, (flux * root)[good], maxiter=_MOST_STEPS * len(norm))
    weights /= np.where(norm > 0, norm, 1.0)
    model = weights @ templates.columns
    continuum = np.where(templates.kind == "lines", 0.0, weights) @ templates.columns
    chi_square = np.sum(np.where(good, (flux - model) * root, 0.0) ** 2) / good.sum() / noise_variance
    return TemplateFit(redshift, weights, model, continuum, float(chi_square), templates)


SCANNED = np.arange(np.log1p(0.05), np.log1p(10.0), 0.003)  # ln(1 + z)


@lru_cache(maxsize=1)
def _scanned() -> list[Templates]:
    """Templates at all redshifts of `SCANNED`; single precision, a hundred megabytes."""
    found = (templates_at(float(np.expm1(place)), SCAN) for place in SCANNED)
    return [replace(one, columns=one.columns.astype(np.float32)) for one in found]


def scan_redshifts(
    flux: np.ndarray, error: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Redshifts from chi-square of the templates at each, lines in fixed ratios among them.

    Chi-square is divided by the noise power at the scales of breaks, and the prior is flat in ln(1 + z).

    Args:
        flux: (B, 706) on the prism's pixels in any unit.
        error: (B, 706) one sigma as quoted.
        mask: (B, 706) bool, True = bad.

    Returns:
        (B,) the most probable redshift; (Z,) ln(1 + z) of the bins; (B, Z) probability.
    """
    noise = LOW_FREQUENCY_VARIANCE
    probability = np.empty((len(flux), SCANNED.size))
    for row, arrays in enumerate(zip(flux, error, mask, strict=True)):
        tried = zip(_scanned(), np.expm1(SCANNED), strict=True)
        chi_square = np.array([fit_templates(*arrays, one, z, noise).chi_square for one, z in tried])
        chi_square *= np.count_nonzero(~arrays[2])
        probability[row] = np.exp(-0.5 * (chi_square - chi_square.min()))
    probability /= probability.sum(axis=1, keepdims=True)
    # the mean over the peak: bins are wider than redshifts are known
    best = np.clip(probability.argmax(axis=1), 1, SCANNED.size - 2)[:, None] + np.arange(-1, 2)
    share = np.take_along_axis(probability, best, axis=1)
    return np.expm1((share * SCANNED[best]).sum(axis=1) / share.sum(axis=1)), SCANNED, probability
