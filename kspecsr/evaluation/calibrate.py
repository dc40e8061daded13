"""Calibration of a model: factors on stated errors that give intervals their probability."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from data_pipeline.progress import Progress
from kspecsr.configuration import Preset
from kspecsr.configuration.calibration import Calibration, ErrorScale, FitTable, log_signal_to_noise
from kspecsr.enhancement.inputs import check_writable
from kspecsr.evaluation.methods import Networks, predicted
from kspecsr.evaluation.sources import SHIPPED_SEED, SURVEY, HeldOutSource, SimulatedHeldOut
from kspecsr.layers.calibration import median_signal_to_noise
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.lines import prism_line_noise
from kspecsr.measures.spectrum import REGIONS, pixel_regions
from kspecsr.model_settings import read_settings, weights_hash, write_calibration
from kspecsr.results.redshift import redshift_cdf
from kspecsr.super_resolver import SuperResolver

# Probability of central intervals, and what share more or less of it counts as a miss: where errors are not
# normal one factor cannot be right at both, and misses as much at the one as at the other.
_LEVELS = ((0.68, 0.03), (0.95, 0.02))
STEP = 0.25  # of log10(S/N) between knots
_FEWEST = 400  # values about a knot
_STEEPEST = float(np.log10(1.0 + 0.9 * np.log(10.0) * STEP))  # rise of log10(factor) from knot to knot
_THINNED = 5  # every fifth continuum pixel tells as much as all of them
# log10(S/N) of what is drawn in a pixel from which on its error is that of a line. The flanks of lines have
# little flux and much error; further below, lines that were missed would make all empty pixels' errors large.
_LEAST_DRAWN = -1.0
_ROUNDS = 3
_FACTORS = (0.05, 20.0)
_EXPONENTS = (0.2, 5.0)
_FIT_SHARES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.03, 0.01)  # of larger chi-squares
FEWEST_FITS = 100  # spectra
_FITS_ABOUT = 400  # spectra about a knot of S/N
_FITS_BEYOND = 4  # spectra, at least, beyond the last chi-square of a knot
Arrays = Mapping[str, np.ndarray]


@dataclass
class CalibrationSample:
    """Values, stated errors and residuals of galaxies with known truth; rows are pixels or lines.

    Attributes:
        columns: quantity to arrays of value, error, fixed error that is not scaled, and residual; of pixels
            to continuum, its error, lines, their error, and residual.
        redshift: P(z) and the true redshift of the galaxies.
        fit: chi-square per pixel and median S/N of a good pixel.
    """

    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    redshift: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    fit: list[np.ndarray] = field(default_factory=list)

    def add(self, held_out: HeldOut, outputs: Arrays) -> None:
        """Adds galaxies.

        Args:
            held_out: galaxies.
            outputs: of the model without calibration, record units.
        """
        region = pixel_regions(held_out)
        good = ~held_out.target_mask & (region >= 0)
        continuum = good & (region == REGIONS.index("continuum"))
        continuum &= np.cumsum(continuum, axis=1) % _THINNED == 0
        core = good & (region == REGIONS.index("core"))
        residual = held_out.target_flux - outputs["flux"]
        plain = outputs["continuum_error"]
        # The composed graph has the sum in quadrature and the part without lines.
        drawn = np.sqrt(np.maximum(outputs["flux_error"].astype(float) ** 2 - plain.astype(float) ** 2, 0.0))
        lines = outputs["flux"] - outputs["continuum"]
        # each part of the error is calibrated beside the other
        for name, chosen in (("continuum", continuum), ("line_pixels", core & (drawn > 0))):
            self._add(name, chosen, outputs["continuum"], plain, lines, np.maximum(drawn, 1e-30), residual)
        flux, error = outputs["sr1_flux"], outputs["sr1_error"]
        self._add("sr1", continuum | core, flux, error, np.zeros_like(error), held_out.target_flux - flux)
        flux, error = outputs["line_flux"], outputs["line_flux_error"]
        seen = np.isfinite(prism_line_noise(held_out)) & (outputs["line_in_range"] > 0.5)
        judged = held_out.line_known & seen & (error > 0)
        self._add("line_flux", judged, flux, error, np.zeros_like(flux), held_out.line_flux - flux)
        known = np.isfinite(held_out.redshift)
        self.redshift.append((outputs["redshift_probability"][known], held_out.redshift[known]))
        prism = (held_out.prism_flux, held_out.prism_error, held_out.prism_mask)
        self.fit.append(np.stack([outputs["chi_square"], np.asarray(median_signal_to_noise(*prism))]))

    def _add(self, name: str, chosen: np.ndarray, *arrays: np.ndarray) -> None:
        part = np.stack([np.asarray(array, np.float64)[chosen] for array in arrays])
        self.columns.setdefault(name, []).append(part)

    def of(self, name: str) -> np.ndarray:
        """(columns, n) of a quantity."""
        return np.concatenate(self.columns[name], axis=1)

    def calibration(self, bins: np.ndarray, measured_on: Mapping | None = None) -> Calibration:
        """The calibration that this sample asks for.

        Args:
            bins: (Z,) ln(1 + z) of P(z).
            measured_on: what the galaxies are.
        """
        continuum, line_pixels = self._pixel_scales()
        return Calibration(
            sr1=measure_scale(*self.of("sr1")),
            continuum=continuum,
            line_pixels=line_pixels,
            line_flux=measure_scale(*self.of("line_flux")),
            redshift_exponent=measure_exponent(self.redshift, bins),
            fit=measure_fit(*np.concatenate(self.fit, axis=1)),
            measured_on=dict(measured_on or {}),
        )

    def _pixel_scales(self) -> tuple[ErrorScale, ErrorScale]:
        """Scales of the continuum's and the lines' part of pixel errors.

        First each where it dominates, then together: continuum pixels have a share of lines too faint to
        count, and cores one of the continuum.
        """
        level, plain, lines, drawn, residual = self.of("continuum")
        core_level, core_plain, core_lines, core_drawn, core_residual = self.of("line_pixels")
        continuum = measure_scale(level, plain, np.zeros_like(plain), residual)
        beside = core_plain * continuum.at(core_level, core_plain)
        line_pixels = measure_scale(core_lines, core_drawn, beside, core_residual, _LEAST_DRAWN)
        for _ in range(_ROUNDS):
            beside = drawn * line_pixels.at(lines, drawn)
            own = plain * continuum.at(level, plain)
            continuum = scaled(continuum, _factor(own, beside, residual))
            beside = core_plain * continuum.at(core_level, core_plain)
            own = core_drawn * line_pixels.at(core_lines, core_drawn)
            line_pixels = scaled(line_pixels, _factor(own, beside, core_residual))
        return continuum, line_pixels


def measure_scale(
    value: np.ndarray,
    error: np.ndarray,
    fixed: np.ndarray,
    residual: np.ndarray,
    lowest: float = -np.inf,
) -> ErrorScale:
    """Factors on errors, at knots of log10(S/N), that give intervals of 68 and 95 % their probability.

    Where errors are not normal one factor cannot do both; see `_LEVELS`.

    Args:
        value: (n,).
        error: (n,) that is scaled.
        fixed: (n,) error in quadrature that is not.
        residual: (n,) truth less prediction.
        lowest: log10(S/N) below which values do not take part; the first factor is theirs too.
    """
    place = log_signal_to_noise(value, error)
    used = place >= lowest
    place, error, fixed, residual = (array[used] for array in (place, error, fixed, residual))
    if place.size < _FEWEST:
        return ErrorScale()
    # Without the last two in a thousand: single values would stretch the curve over empty knots.
    low, high = (STEP * np.round(np.quantile(place, q) / STEP) for q in (0.002, 0.998))
    knots = np.arange(low, high + 0.5 * STEP, STEP)
    factors = np.full(knots.size, np.nan)
    for i, knot in enumerate(knots):
        # Windows overlap by half: factors of neighbouring knots share galaxies, so that the curve is smooth.
        near = np.abs(place - knot) <= STEP
        if near.sum() >= _FEWEST:
            factors[i] = _factor(error[near], fixed[near], residual[near])
    known = np.isfinite(factors)
    if not known.any():
        return ErrorScale(factor=(_factor(error, fixed, residual),))
    logs = np.interp(knots, knots[known], np.log10(factors[known]))
    logs = _not_steeper(logs, _STEEPEST)
    return ErrorScale(
        float(round(knots[0], 6)), STEP, tuple(float(round(f, 4)) for f in np.maximum(10.0**logs, 1e-3))
    )


def scaled(scale: ErrorScale, factor: float) -> ErrorScale:
    """All factors of a scale times another."""
    return replace(scale, factor=tuple(round(one * factor, 4) for one in scale.factor))


def _factor(error: np.ndarray, fixed: np.ndarray, residual: np.ndarray) -> float:
    """One factor: intervals of the two levels miss their probability by as much, in opposite directions."""
    size = np.abs(residual)

    def excess(factor: float) -> float:
        total = np.hypot(factor * error, fixed)
        return sum(
            (float(np.mean(size < ndtri(0.5 + 0.5 * level) * total)) - level) / tolerance
            for level, tolerance in _LEVELS
        )

    return _bisected(excess, 0.0, *_FACTORS)


def _bisected(rising: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Argument at which a rising function reaches a target, between two ends in the logarithm."""
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return float(np.sqrt(low * high))


def _not_steeper(values: np.ndarray, step: float) -> np.ndarray:
    """The values with rises from knot to knot limited: S/N keeps its order."""
    values = values.copy()
    for i in range(1, values.size):
        values[i] = min(values[i], values[i - 1] + step)
    return values


def measure_exponent(parts: list[tuple[np.ndarray, np.ndarray]], bins: np.ndarray) -> float:
    """Exponent of P(z) with which central intervals of 68 % hold 68 % of the true redshifts.

    Args:
        parts: pairs of P(z) (B, Z) and true redshifts (B,).
        bins: (Z,) ln(1 + z).
    """

    def outside(exponent: float) -> float:
        pit = [redshift_cdf(sharpened(p, exponent), bins, z) for p, z in parts]
        return float(np.mean(np.abs(np.concatenate(pit) - 0.5) > 0.34))

    if not sum(z.size for _, z in parts):
        return 1.0
    # A narrower P(z) leaves more true redshifts outside: the share rises with the exponent, which bisection
    # needs.
    return round(_bisected(outside, 1.0 - 0.68, *_EXPONENTS), 4)


def sharpened(probability: np.ndarray, exponent: float) -> np.ndarray:
    """P(z) to a power, normalised."""
    powered = np.asarray(probability, np.float64) ** exponent
    return powered / powered.sum(axis=-1, keepdims=True)


def measure_fit(chi_square: np.ndarray, signal_to_noise: np.ndarray) -> FitTable | None:
    """Chi-squares that are usual, at knots of S/N.

    Args:
        chi_square: (n,) per pixel.
        signal_to_noise: (n,) median of good pixels.

    Returns:
        None for fewer than `FEWEST_FITS` spectra.
    """
    used = np.isfinite(chi_square) & (chi_square > 0) & np.isfinite(signal_to_noise)
    order = np.flatnonzero(used)[np.argsort(signal_to_noise[used])]
    if order.size < FEWEST_FITS:
        return None
    parts = np.array_split(order, max(1, order.size // _FITS_ABOUT))
    shares = [share for share in _FIT_SHARES if share * parts[-1].size >= _FITS_BEYOND]
    places = [float(np.log10(max(np.median(signal_to_noise[part]), 1e-4))) for part in parts]
    places, first = np.unique(places, return_index=True)  # empty spectra have negative S/N, all in one place
    rows = [np.quantile(chi_square[parts[i]], 1.0 - np.array(shares)).tolist() for i in first]
    return FitTable(tuple(places.tolist()), tuple(shares), tuple(map(tuple, rows)))


# Populations that are wider than what is observed, for training, and what is observed.
_OBSERVED = {"wide": "survey", "wide-sky": "sky", "wide-open": "sky", "open-sky": "sky"}
GALAXIES, SEED = 2000, 7  # as kspecsr calibrate has them when nothing else is asked for


def calibrate_model(folder: Path, n: int, seed: int, quiet: bool = False) -> tuple[Calibration, Path]:
    """Measures the calibration of a model and writes it into its folder.

    Args:
        folder: of the model; a calibration that it has is not applied, and replaced.
        n: galaxies.
        seed: of the galaxies.
        quiet: no progress bar.

    Returns:
        The calibration and its file.

    Raises:
        ValueError: for the seed of the galaxies that `kspecsr.evaluate` judges on, or a folder that is no
            model.
        OSError: where it cannot be written.
    """
    if seed == SHIPPED_SEED:
        raise ValueError(
            f"seed {seed} is that of the galaxies that models are judged on; errors would be calibrated to "
            "them: give another one"
        )
    check_writable(folder)
    networks = SuperResolver.from_folder(folder, calibrated=False)
    source = calibration_source(read_settings(folder).preset, seed)
    measured_on = {**source.description, "galaxies": n, "uncalibrated": weights_hash(folder, False)}
    with Progress(total=n, desc="calibrate", unit="galaxy", delay=2, disable=quiet) as bar:
        sample = collect(networks, source, n, bar.update)
    calibration = sample.calibration(networks.redshift_bins, measured_on)
    return calibration, write_calibration(folder, calibration)


def calibration_source(preset: Preset, seed: int) -> SimulatedHeldOut:
    """Galaxies like the observed ones, of the simulator that a model was trained with."""
    trained_on = preset.feed.population
    feed = replace(SURVEY, population=_OBSERVED.get(trained_on, trained_on), lines=preset.model.lines)
    return SimulatedHeldOut(preset.model.grid, seed, feed)


def collect(
    networks: Networks, source: HeldOutSource, n: int, advance=lambda galaxies: None
) -> CalibrationSample:
    """Sample of the first ``n`` galaxies, with redshifts inferred.

    Args:
        networks: without calibration.
        source: of the galaxies.
        n: how many.
        advance: called with the number of galaxies that have been added.
    """
    sample, total = CalibrationSample(), 0
    for number in count():
        held_out = source.chunk(number)
        if held_out is None or total == n:
            return sample
        held_out = held_out.rows(np.arange(min(len(held_out), n - total)))
        if len(held_out):
            sample.add(held_out, predicted(held_out, networks, None))
        total += len(held_out)
        advance(len(held_out))
