"""``python -m benchmarks.release_noise``: noise, line widths and zero point of released prism spectra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline import command_line as cli
from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.instrument import PRISM, SPEED_OF_LIGHT, load_instrument
from data_pipeline.instrument.prism_pixels import JADES_SAMPLING, Sampling, sampling_of
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import doublet
from data_pipeline.lines.profile import render_lines
from data_pipeline.readers import read_spectrum
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import grating_noise, released_noise
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.evaluation.report import NOTHING, text_table

EXAMPLES = """examples:
  python -m benchmarks.release_noise real_spectra
  python -m benchmarks.release_noise real_spectra --redshift pairs.csv:z_grating:file \
      --prism-redshift pairs.csv:z_prism:file

Reads every prism spectrum in a folder. By format and number of pixels: their step in detector pixels, and the
autocorrelation and scatter of flux over error after a running median, 1-5 um. A running median itself makes
negative lags, so that the same is done to simulated noise: the last column is the correlation of neighbours
that gives the measured first lag. With redshifts of gratings: the width of [O III] 5008, and its place.
"""
LAGS = (1, 2, 3)
_WINDOW = 6.6  # detector pixels of the running median
_RANGE = (1.0, 5.0)  # um
_BRIGHTEST = 20.0  # S/N of the continuum: beyond, what is seen are features
_CLIPPED = 4.0  # sigma
_SIMULATED = 150  # spectra
_CORRELATIONS = np.arange(-0.1, 0.46, 0.05)  # of neighbours
_SCALES = np.arange(0.9, 2.21, 0.02)
_VELOCITIES = np.arange(-900.0, 1201.0, 60.0)  # km/s
_LEAST_SNR = 20.0  # of a line whose width and place count


@dataclass(frozen=True)
class NoiseSums:
    """Sums over pixels of flux over error after the running median: products at lags 0, 1, ... and counts."""

    product: np.ndarray
    count: np.ndarray

    def __add__(self, other: NoiseSums) -> NoiseSums:
        return NoiseSums(self.product + other.product, self.count + other.count)

    @property
    def scatter(self) -> float:
        """Root mean square."""
        return float(np.sqrt(self.product[0] / self.count[0]))

    @property
    def correlation(self) -> np.ndarray:
        """Autocorrelation at `LAGS`."""
        mean = self.product / self.count
        return mean[1:] / mean[0]


def noise_sums(ratio: np.ndarray, good: np.ndarray, step: float) -> NoiseSums:
    """Of flux over error (n,) where ``good``, on pixels of ``step`` detector pixels."""
    reach = max(round(_WINDOW / step) // 2, 1)
    padded = np.pad(np.where(good, ratio, np.nan), reach, constant_values=np.nan)
    window = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    use = good & (np.isfinite(window).sum(axis=1) > reach)
    level = np.zeros(ratio.size)
    level[use] = np.nanmedian(window[use], axis=1)
    residual = np.where(use, ratio, 0.0) - level
    use &= np.abs(level) < _BRIGHTEST
    if use.any():
        use &= np.abs(residual) < _CLIPPED * 1.4826 * np.median(np.abs(residual[use]))
    sums = [
        (np.sum((residual[lag:] * residual[: ratio.size - lag])[both]), both.sum())
        for lag in (0, *LAGS)
        for both in [use[lag:] & use[: ratio.size - lag]]
    ]
    return NoiseSums(*np.array(sums, float).T)


def measured_noise(spectrum: ObservedSpectrum) -> NoiseSums:
    """Of a spectrum, 1-5 um."""
    inside = (spectrum.wavelength > _RANGE[0]) & (spectrum.wavelength < _RANGE[1])
    ratio = np.nan_to_num(spectrum.signal_to_noise)
    return noise_sums(ratio, inside & ~spectrum.mask, sampling_of(spectrum.wavelength).step)


def simulated_noise(sampling: Sampling, pixels: int, correlation: float | None) -> NoiseSums:
    """Of noise with a correlation of neighbours; None for detector pixels interpolated linearly."""
    draws = Draws(0, np.arange(_SIMULATED))
    if correlation is None:
        noise = released_noise(draws, "noise", JADES_SAMPLING, pixels)
    else:
        noise = grating_noise(draws.normal("noise", pixels + 1), correlation)
    good = np.ones(pixels, bool)
    parts = [noise_sums(row, good, sampling.step) for row in noise]
    return sum(parts[1:], parts[0])


def matching_correlation(sampling: Sampling, pixels: int, first_lag: float) -> float:
    """Correlation of neighbours that gives a first lag after the running median; NaN where none does."""
    found = [simulated_noise(sampling, pixels, float(c)).correlation[0] for c in _CORRELATIONS]
    return float(np.interp(first_lag, found, _CORRELATIONS, left=np.nan, right=np.nan))


def line_width_and_place(spectrum: ObservedSpectrum, redshift: float) -> tuple[float, float, float] | None:
    """Of [O III] 5008 and its partner over a linear continuum, on the spectrum's own pixels.

    Returns:
        Factor on the tabulated resolving power, velocity by which the line lies redward of the redshift
        [km/s], and its S/N; None where it is not covered.
    """
    x, lines = spectrum.wavelength, load_lines()
    use = (x > 0.475 * (1 + redshift)) & (x < 0.517 * (1 + redshift)) & ~spectrum.mask
    if use.sum() < 7:
        return None
    members = doublet("[OIII]_5008", lines) | {lines.index("Hbeta"): 1.0}
    rest, share = lines.wavelength[list(members)], np.array(list(members.values()))
    column = np.array([0, 0, 1])  # Hbeta has a flux of its own
    weight, smooth = 1.0 / spectrum.error[use], [np.ones(use.sum()), x[use] - x[use].mean()]
    best = (np.inf,)
    for scale in _SCALES:
        prism = load_instrument(PRISM, scale=float(scale)).with_pixels(x)
        for velocity in _VELOCITIES:
            centre = rest * (1 + redshift) * (1 + velocity / SPEED_OF_LIGHT)
            drawn = render_lines(prism, centre, share, np.full(3, 100.0), row=column, rows=2)[:, use]
            columns = np.stack([*(drawn / drawn.max()), *smooth]) * weight
            flux = np.linalg.lstsq(columns.T, spectrum.flux[use] * weight, rcond=None)[0]
            chi_square = np.sum((spectrum.flux[use] * weight - flux @ columns) ** 2)
            if chi_square < best[0]:
                error = np.sqrt(np.linalg.inv(columns @ columns.T)[0, 0])
                best = (chi_square, float(scale), float(velocity), float(flux[0] / error))
    return best[1:]


def _named(spectrum: ObservedSpectrum) -> str:
    return f"{spectrum.meta.format}, {len(spectrum)} pixels"


def noise_table(spectra: Sequence[ObservedSpectrum]) -> str:
    """One row per format and number of pixels, and below each what simulated noise gives."""
    head = ["", "spectra", "step", *(f"lag {lag}" for lag in LAGS), "scatter", "neighbours"]
    rows = [head]

    def row(title: str, sums: NoiseSums, *more: str) -> list[str]:
        return [title, *more[:2], *(f"{c:.2f}" for c in sums.correlation), f"{sums.scatter:.2f}", *more[2:]]

    for name in sorted({_named(one) for one in spectra}):
        some = [one for one in spectra if _named(one) == name]
        sampling, pixels = sampling_of(some[0].wavelength), len(some[0])
        parts = [measured_noise(one) for one in some]
        sums = sum(parts[1:], parts[0])
        fine = sampling.variance < 1.0
        match = NOTHING if fine else f"{matching_correlation(sampling, pixels, sums.correlation[0]):.2f}"
        rows.append(row(name, sums, f"{len(some)}", f"{sampling.step:.3f}", match))
        title = "  interpolated detector pixels" if fine else "  pixels of their own"
        rows.append(row(title, simulated_noise(sampling, pixels, None if fine else 0.0), "", "", ""))
    return text_table(rows)


def line_table(spectra: Sequence[ObservedSpectrum], redshifts: KnownRedshifts, quiet: bool = False) -> str:
    """Widths and places of [O III], by format and number of pixels: median and 16-84 %."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for one in tqdm(spectra, desc="lines", delay=2, disable=quiet):
        redshift = redshifts.of(Path(one.meta.path), one.meta)
        line = line_width_and_place(one, redshift) if np.isfinite(redshift) else None
        if line is not None and line[2] > _LEAST_SNR and _SCALES[0] < line[0] < _SCALES[-1]:
            found.setdefault(_named(one), []).append(line[:2])
    rows = [["", "lines", "R / table", "16-84 %", "redward [km/s]", "16-84 %"]]
    for name, values in sorted(found.items()):
        low, middle, high = np.percentile(values, (16, 50, 84), axis=0)
        cells = [
            cell
            for k, digits in ((0, 2), (1, 0))
            for cell in (f"{middle[k]:.{digits}f}", f"{low[k]:.{digits}f} to {high[k]:.{digits}f}")
        ]
        rows.append([name, f"{len(values)}", *cells])
    return text_table(rows)


def zero_point(spectra: Sequence[ObservedSpectrum], prism: KnownRedshifts, grating: KnownRedshifts) -> str:
    """By how much catalogued redshifts of prisms exceed those of gratings, in a sentence."""
    pairs = [[known.of(Path(one.meta.path), one.meta) for known in (prism, grating)] for one in spectra]
    z = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2)
    if not len(z):
        return "no spectrum with both redshifts"
    velocity = SPEED_OF_LIGHT * (z[:, 0] - z[:, 1]) / (1.0 + z[:, 1])
    low, middle, high = np.percentile(velocity, (16, 50, 84))
    text = f"{middle:.0f} km/s, 16-84 % {low:.0f} to {high:.0f}"
    return f"prism redshifts over gratings' of {len(z)} spectra: {text}"


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "folder", "folder with spectra", type=Path)
    cli.add(p, "--redshift", "TABLE:COLUMN:KEY, redshifts of gratings", default="", metavar="TABLE")
    cli.add(p, "--prism-redshift", "likewise, of prisms: their zero point", default="", metavar="TABLE")


@cli.command("python -m benchmarks.release_noise", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Measure how the noise of released prism spectra hangs together, beside simulated noise."""
    with cli.interpreting_options():
        redshifts = KnownRedshifts.parse(args.redshift)
        of_prisms = KnownRedshifts.parse(args.prism_redshift, "--prism-redshift")
    spectra = []
    for path in sorted(args.folder.rglob("*.fits")):
        try:
            spectrum = read_spectrum(path)
        except SpectrumError:
            continue
        if spectrum.meta.disperser == "PRISM":
            spectra.append(spectrum)
    if not spectra:
        raise cli.OptionError(f"{args.folder}: no prism spectrum in it or below; give a folder of FITS files")
    print(noise_table(spectra))
    if args.redshift:
        print("\n" + line_table(spectra, redshifts, args.quiet))
    if args.prism_redshift:
        print("\n" + zero_point(spectra, of_prisms, redshifts))


if __name__ == "__main__":
    sys.exit(main())
