"""Continua of simulated galaxies beside real ones: breaks, equivalent widths, slopes, all measured alike.

Every spectrum is one of the prism's: simulated, real, or a real grating spectrum seen through the prism.
Lines are taken off by the direct fit, breaks and slopes are measured on what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.continuum_fits import known_redshifts, redshift_of
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.readers import read_spectrum
from data_pipeline.simulation import POPULATIONS, SimulationConfig
from data_pipeline.spectrum import SpectrumError
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.grating_spectra import GratingHeldOut
from kspecsr.evaluation.report import text_table
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.measures.line_by_line import JUMP
from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines
from kspecsr.results.prism_input import prism_input, stacked

REDSHIFTS = (0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0)
WIDTHS = (0.0, 10.0, 30.0, 100.0, np.inf)  # rest-frame equivalent width of Hbeta [Angstrom]
# Rest-frame bands [um] whose mean flux densities are compared: D_n4000 of Balogh et al. (1999); the Balmer
# jump between bands without strong lines; slopes of f_lambda.
BREAKS = {
    "D_n4000": ((0.385, 0.395), (0.400, 0.410)),
    "Balmer jump": JUMP,
}
SLOPES = {
    "slope, 0.14-0.25 um": ((0.130, 0.155), (0.225, 0.260)),
    "slope, 0.53-0.62 um": ((0.510, 0.550), (0.600, 0.640)),
}
LINES = {
    "EW [O II]": ("[OII]_3727", "[OII]_3730"),
    "EW Hbeta": ("Hbeta",),
    "EW [O III]+Hbeta": ("[OIII]_4960", "[OIII]_5008", "Hbeta"),
}
# Quantity and lowest redshift of the bin to what was published.
PUBLISHED = {
    ("slope, 0.14-0.25 um", 5.0): "-2.3 to -2.7 (a)",
    ("slope, 0.14-0.25 um", 7.0): "-2.3 to -2.7 (a)",
    ("EW [O III]+Hbeta", 3.5): "23 % > 750 at z 3-4.1 (b)",
    ("EW [O III]+Hbeta", 5.0): "61 % > 750 beyond z 5.7 (b)",
    ("EW [O III]+Hbeta", 7.0): "61 % > 750 beyond z 5.7 (b)",
}
SOURCES = "(a) Roberts-Borsani et al. 2024, stacks at z 5-11; (b) Boyett et al. 2024"
_LARGEST_ERROR = {**dict.fromkeys(BREAKS, 0.15), **dict.fromkeys(SLOPES, 0.5), **dict.fromkeys(LINES, 5.0)}
_FEWEST, _RESAMPLES = 5, 200


@dataclass(frozen=True, eq=False)
class Continua:
    """Measurements of b galaxies, each a function of a quotient; NaN where not covered.

    Attributes:
        redshift: (b,).
        above, below: quantity to (b,), e.g. flux densities in two bands, or line flux and continuum.
        error: quantity to (b,) error of its value; in units of the value for breaks.
    """

    redshift: np.ndarray
    above: Mapping[str, np.ndarray]
    below: Mapping[str, np.ndarray]
    error: Mapping[str, np.ndarray]

    def values(self, name: str) -> np.ndarray:
        """(b,) values that are certain enough; NaN elsewhere."""
        above, below, error = (of[name] for of in (self.above, self.below, self.error))
        certain = error < _LARGEST_ERROR[name]
        value = value_of(name, above, below)
        if name in LINES:  # large widths are certain by their S/N
            certain |= value > 3.0 * error
        return np.where(certain & (below > 0), value, np.nan)

    def stack(self, name: str, which: np.ndarray) -> tuple[float, float, int]:
        """Value of some galaxies' summed light, (b,) bool, bootstrap error and number; each counts alike."""
        use = np.flatnonzero(which & np.isfinite(self.above[name] + self.below[name]))
        if use.size < _FEWEST:
            return np.nan, np.nan, use.size
        drawn = np.random.default_rng(0).integers(use.size, size=(_RESAMPLES, use.size))
        above, below = self.above[name][use], self.below[name][use]
        values = value_of(name, above[drawn].sum(axis=1), below[drawn].sum(axis=1))
        low, high = np.nanpercentile(values, (16, 84))
        return float(value_of(name, above.sum(), below.sum())), float(0.5 * (high - low)), use.size


def value_of(name: str, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Break in f_nu, slope of f_lambda, or equivalent width, from the two sides of its quotient."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if name in LINES:
            return above / below
        centre = np.mean((BREAKS | SLOPES)[name], axis=1)
        if name in BREAKS:
            return above / below * (centre[1] / centre[0]) ** 2
        return np.log(above / below) / np.log(centre[1] / centre[0])


def measure(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, redshift: np.ndarray) -> Continua:
    """Measures prism spectra (b, 706) of known redshifts (b,), fluxes in any unit of f_lambda."""
    # without stars: what is measured here is whether continua are like those of stars
    fit = fit_prism_lines(flux, error, mask, redshift, DirectFitConfig(stellar_absorption=False))
    bare = np.where(mask, np.nan, flux - (fit.model - fit.continuum))
    noise = np.where(mask, np.nan, error)
    rest = load_instrument(PRISM).wavelength / (1.0 + redshift[:, None])
    above, below, errors = {}, {}, {}
    for name, bands in (BREAKS | SLOPES).items():
        (blue, blue_error), (red, red_error) = (_band(bare, noise, rest, band) for band in bands)
        above[name], below[name] = red, blue
        relative = np.hypot(blue_error / blue, red_error / red)
        length = 1.0 if name in BREAKS else np.log(np.mean(bands[1]) / np.mean(bands[0]))
        errors[name] = np.where((blue > 0) & (red > 0), relative / length, np.inf)
    for name, members in LINES.items():
        columns = [load_lines().index(member) for member in members]
        above[name] = fit.line_flux[:, columns].sum(axis=1)
        at = load_lines().wavelength[columns].mean()
        level, level_error = _band(bare, noise, rest, (0.975 * at, 1.025 * at))
        below[name] = level * (1.0 + redshift)
        line_error = np.sqrt(fit.line_covariance[:, columns][:, :, columns].sum(axis=(1, 2)))
        errors[name] = np.where(level > 3.0 * level_error, line_error / below[name], np.inf)
    # so that a stack is no picture of its brightest quasar
    light = np.abs(np.nanmedian(np.where(mask, np.nan, flux), axis=1)) + np.nanmedian(noise, axis=1)
    above, below = ({name: value / light for name, value in of.items()} for of in (above, below))
    return Continua(redshift, above, below, errors)


def _band(flux, noise, rest, band) -> tuple[np.ndarray, np.ndarray]:
    """Mean flux density and its error (b,) in a rest-frame band [um]; NaN with fewer than two pixels."""
    inside = (rest > band[0]) & (rest < band[1]) & np.isfinite(flux) & np.isfinite(noise)
    count = np.where(inside.sum(axis=1) > 1, inside.sum(axis=1), np.nan)
    mean = np.where(inside, flux, 0.0).sum(axis=1) / count
    return mean, np.sqrt(np.where(inside, noise, 0.0) ** 2 @ np.ones(flux.shape[1])) / count


def samples(
    config: SimulationConfig, n: int, seed: int, gratings: Path | None, spectra: Path | None
) -> Iterator[tuple[str, Continua]]:
    """The population, survey and sky beside it, real gratings and real spectra: name and measurements."""
    chosen = {config.population.name: config}
    for name in ("survey", "sky"):
        chosen.setdefault(name, replace(config, population=POPULATIONS[name]))
    for name, one in chosen.items():
        source, parts, found = SimulatedHeldOut(UNIFIED_GRID, seed, simulation=one), [], 0
        for number in range(max(n // source.chunk_size, 1)):
            parts.append(source.chunk(number))
            found += len(parts[-1])
        arrays = ("prism_flux", "prism_error", "prism_mask", "redshift")
        yield name, measure(*(np.concatenate([getattr(part, a) for part in parts]) for a in arrays))
    if gratings is not None and gratings.exists():
        held_out = GratingHeldOut(gratings, UNIFIED_GRID, seed).chunk(0)
        yield "gratings", measure(*(getattr(held_out, a) for a in arrays))
    if spectra is not None and spectra.exists():
        tabulated, read = known_redshifts(spectra), []
        for given in list_inputs([str(spectra)]):
            try:
                one = read_spectrum(given.path)
            except (SpectrumError, OSError):
                continue  # `continuum_fits` lists them
            redshift = redshift_of(one, tabulated)
            if one.meta.disperser == "PRISM" and np.isfinite(redshift):
                read.append((prism_input(one), redshift))
        if read:
            inputs, redshifts = zip(*read, strict=True)
            flux, error, mask = stacked(inputs)
            yield "real", measure(flux, error, mask, np.array(redshifts))


def table(of: Mapping[str, Continua]) -> str:
    """By redshift, and breaks by the equivalent width of Hbeta: medians of galaxies, and stacks, as text."""
    names = list(of)
    medians = [["quantity", "bin", *(f"{name} (16-84 %; n)" for name in names), "published"]]
    stacks = [["quantity", "bin", *(f"{name} (n)" for name in names), "gratings - sim. [sigma]"]]
    for name, label, published, parts in _bins(of):
        cells = [one.values(name)[part] for one, part in zip(of.values(), parts, strict=True)]
        medians.append([name, label, *map(_text, cells), published])
        summed = [one.stack(name, part) for one, part in zip(of.values(), parts, strict=True)]
        texts = [f"{v:.3g} +- {e:.2g} ({n})" if np.isfinite(v) else "-" for v, e, n in summed]
        real, simulated = summed[names.index("gratings")] if "gratings" in of else (np.nan, 0.0, 0), summed[0]
        difference = (real[0] - simulated[0]) / np.hypot(real[1], simulated[1])
        stacks.append([name, label, *texts, f"{difference:+.1f}" if np.isfinite(difference) else ""])
    text = ""
    for title, rows in (("medians of certain ones", medians), ("sums of spectra over their median", stacks)):
        shown = [row for row in rows if row[1] == "bin" or set(row[2 : 2 + len(names)]) != {"-"}]
        text += f"continua, prism spectra measured alike, {title}\n{text_table(shown)}\n\n"
    return f"{text}{SOURCES}\n"


def _bins(of: Mapping[str, Continua]) -> Iterator[tuple[str, str, str, list[np.ndarray]]]:
    """Quantity, label, published value, and which galaxies (b,) of each sample."""
    for name in (*BREAKS, *LINES, *SLOPES):
        for low, high in pairwise(REDSHIFTS):
            parts = [(one.redshift >= low) & (one.redshift < high) for one in of.values()]
            yield name, f"z {low:g}-{high:g}", PUBLISHED.get((name, low), ""), parts
    for name in BREAKS:
        for low, high in pairwise(WIDTHS):
            widths = [np.clip(one.values("EW Hbeta"), 0.0, None) for one in of.values()]
            label = f"EW Hbeta > {low:g} A" if np.isinf(high) else f"EW Hbeta {low:g}-{high:g} A"
            yield name, label, "", [(width >= low) & (width < high) for width in widths]


def _text(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if values.size < _FEWEST:
        return "-"
    low, middle, high = np.percentile(values, (16, 50, 84))
    digits = 0 if abs(middle) >= 10 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}; {values.size})"
