"""``kspecsr data check``: stitching and alignment against the truth of a simulation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline import command_line as cli
from data_pipeline.instrument import reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.preprocessing import Pair
from data_pipeline.pairs.stitching import REFERENCE_ARM, StitchedSpectrum
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.resampling import Resampler
from data_pipeline.spectrum import ObservedSpectrum

EXAMPLES = """examples:
  kspecsr data simulate --archive sim --n 300 --seed 1
  kspecsr data check --archive sim

  kspecsr data simulate --archive sharp --n 300 --seed 1 --noise-scale 0
  kspecsr data check --archive sharp --noise-free

Exit status 1 also if a figure misses its tolerance.
"""
SCALE_TOLERANCE = 0.01
# Overlaps of JADES-like depth fix few scales better than 2 %: a median of 1 % is what such errors allow.
WELL_MEASURED = 0.03
DEVIATION_TOLERANCE = 0.02
NORMAL_MEDIAN = 0.6745  # median of the absolute value of a standard normal variable
PULL_TOLERANCE = 0.2
STEP_TOLERANCE = 0.5
FLUX_TOLERANCE = 0.005


@dataclass
class Findings:
    """Measurements of the objects of an archive."""

    scales: list[ScaleRecovery] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    flux_ratios: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--archive", "written by kspecsr data simulate", default=None, required=True)
    cli.add(
        p, "--noise-free", "also compare line fluxes; needs an archive without noise", action="store_true"
    )


def examine(archive: str, noise_free: bool, quiet: bool) -> Findings:
    """Reads, stitches and aligns every match of an archive."""
    from benchmarks.stitching_check import line_flux_ratio, scale_recoveries, seam_steps
    from data_pipeline.catalogue import read_catalogue
    from data_pipeline.pairs.matching import find_catalogue, match, scan_archive
    from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, make_pair, read_match
    from data_pipeline.simulation.truth import TruthReader

    config, truths, findings = PreprocessingConfig(), TruthReader(archive), Findings()
    matches, _ = match(scan_archive(archive)[0], read_catalogue(Path(find_catalogue(archive))))
    for one in tqdm(matches, desc="check", unit="galaxy", disable=quiet):
        try:
            prism, gratings = read_match(one, config)
            pair = make_pair(prism, gratings, one.redshift, config)
        except QualityError as error:
            findings.skipped.append(f"{one.unique_id}: {error.step}: {error}")
            continue
        findings.scales += scale_recoveries(pair.stitched, truths.get(one.unique_id).arm_scale)
        findings.steps += seam_steps(pair.stitched)
        if noise_free:
            ratio = line_flux_ratio(pair, gratings, one.redshift, config.grid)
            findings.flux_ratios += [ratio] if np.isfinite(ratio) else []
    return findings


def _row(name: str, values: Sequence[float], tolerance: float | None, target: float) -> tuple[str, bool]:
    """A line of the table, and whether the median is within the tolerance; None only shows it."""
    if not len(values):
        return f"{name:52s} n     0  nothing to measure", False
    low, middle, high = np.percentile(values, (16, 50, 84))
    text = f"{name:52s} n {len(values):5d}  median {middle:8.4f}  16-84 % {low:8.4f} to {high:7.4f}"
    if tolerance is None:
        return text, True
    passed = abs(middle - target) <= tolerance
    return f"{text}  (wanted {target:g} +- {tolerance:g})  {'pass' if passed else 'MISS'}", passed


def report(findings: Findings, noise_free: bool) -> tuple[str, bool]:
    """The table, and whether every figure is within its tolerance."""
    ratio = np.array([s.recovered / s.injected for s in findings.scales])
    error = np.array([s.error / s.recovered for s in findings.scales])
    well = error < WELL_MEASURED
    pull = np.log(ratio) / error
    rows = [
        _row("scale, recovered over injected", ratio, SCALE_TOLERANCE, 1.0),
        _row(f"  where its quoted error is below {WELL_MEASURED:.0%}", ratio[well], SCALE_TOLERANCE, 1.0),
        _row("  absolute deviation there", np.abs(ratio[well] - 1.0), DEVIATION_TOLERANCE, 0.0),
        _row("  absolute deviation, all", np.abs(ratio - 1.0), None, 0.0),
        _row("step at a seam [sigma of a pixel], absolute", np.abs(findings.steps), STEP_TOLERANCE, 0.0),
    ]
    if noise_free:
        rows.append(_row("line flux after over before", findings.flux_ratios, FLUX_TOLERANCE, 1.0))
        worst = np.abs(np.array(findings.flux_ratios) - 1.0)
        rows.append((f"{'  largest deviation':52s} {worst.max() if worst.size else np.nan:.5f}", True))
    else:
        # A scale that is not measured at all, or errors that are wrong, show in the pulls.
        rows.append(_row("  pull of the scale, absolute", np.abs(pull), PULL_TOLERANCE, NORMAL_MEDIAN))
    return "\n".join(text for text, _ in rows), all(passed for _, passed in rows)


@cli.command("kspecsr data check", EXAMPLES, _options)
def main(args: argparse.Namespace) -> int:
    """Compare stitching and alignment with the truth of a simulated archive."""
    findings = examine(args.archive, args.noise_free, args.quiet)
    text, passed = report(findings, args.noise_free)
    print(text)
    return cli.list_failures(findings.skipped, "left out") or int(not passed)


if __name__ == "__main__":
    sys.exit(main())


# Half-widths of windows [FWHM] that hold a whole line or blend and have a clean neighbour to the red.
ISOLATED = {"Halpha": 4.0, "[OIII]_5008": 2.5, "[OII]_3730": 3.0}


@dataclass(frozen=True)
class ScaleRecovery:
    """Recovered and injected flux scale of one arm.

    Attributes:
        arm: disperser.
        recovered: factor applied by stitching.
        injected: factor that undoes the simulation's arm-to-arm difference.
        error: one-sigma error that stitching quotes; inf where nothing was measured.
    """

    arm: str
    recovered: float
    injected: float
    error: float


def scale_recoveries(stitched: StitchedSpectrum, arm_scale: dict[str, float]) -> list[ScaleRecovery]:
    """Recovered and injected scales of the arms that overlap the reference arm.

    Args:
        stitched: result of stitching.
        arm_scale: disperser to the simulation's factor on that grating.
    """
    recoveries = []
    for (blue, red), overlap in stitched.overlaps.items():
        if REFERENCE_ARM in (blue, red) and np.isfinite(overlap.scale_error):
            arm = red if blue == REFERENCE_ARM else blue
            injected = arm_scale[REFERENCE_ARM] / arm_scale[arm]
            recoveries.append(ScaleRecovery(arm, stitched.scales[arm], injected, overlap.scale_error))
    return recoveries


def seam_steps(stitched: StitchedSpectrum) -> list[float]:
    """Residual step at each seam in units of the error of a pixel there."""
    steps = (
        boundary_step(stitched.wavelength, stitched.flux, stitched.error, stitched.mask, seam)
        for seam in stitched.seams
    )
    return [step for step in steps if np.isfinite(step)]


def boundary_step(wavelength, flux, error, mask, seam: float, window: int = 150) -> float:
    """Step of a spectrum at a seam in units of the one-sigma error of a pixel there.

    A straight line plus a step is fitted to ``window`` pixels on each side.

    Returns:
        Step over the median pixel error; NaN where either side has fewer than five good pixels.
    """
    middle = int(np.searchsorted(wavelength, seam))
    near = slice(max(middle - window, 0), middle + window)
    good = ~mask[near]
    x, y, sigma = (wavelength[near] - seam)[good], flux[near][good], error[near][good]
    if min(np.sum(x < 0), np.sum(x >= 0)) < 5:
        return float("nan")
    design = np.stack([np.ones_like(x), x / np.ptp(x), (x >= 0).astype(float)], axis=1) / sigma[:, None]
    step = np.linalg.lstsq(design, y / sigma, rcond=None)[0][2]
    return float(step / np.median(sigma))


def line_flux_ratio(
    pair: Pair, gratings: Sequence[ObservedSpectrum], redshift: float, grid: UnifiedGrid
) -> float:
    """Flux of the brightest of Halpha, [O III] and [O II] after stitching and alignment over that before.

    Both are integrals over the same window less the same continuum, so nothing is fitted and nothing but
    stitch and align lies between them. NaN where none is detected at 10 sigma wholly within one arm.
    """
    lines, reference, stitched = load_lines(), reference_instrument(grid), pair.stitched
    snr = {name: pair.lines.signal_to_noise(name) for name in ISOLATED}
    for name in sorted(ISOLATED, key=lambda line: -np.nan_to_num(snr[line])):
        if not snr[name] > 10:
            continue
        centre = lines.wavelength[lines.index(name)] * (1.0 + redshift)
        half = ISOLATED[name] * reference.fwhm(centre)
        windows = np.array([[centre - half, centre + half], [centre + half, centre + 2 * half]])
        after = _line_integral(grid.bounds, stitched.flux, stitched.mask, windows)
        alone = [g for g in gratings if _sees(g, windows)]
        if len(alone) == 1 and np.isfinite(after):
            native = _line_integral(pixel_bounds(alone[0].wavelength), alone[0].flux, alone[0].mask, windows)
            if np.isfinite(native):
                return float(after / (native * stitched.scales[alone[0].meta.disperser]))
    return float("nan")


def _sees(grating: ObservedSpectrum, windows: np.ndarray) -> bool:
    """Whether an arm has a good pixel there; where two arms have one, the average follows both scales."""
    wavelength = grating.wavelength[~grating.mask]
    return bool(np.any((wavelength > windows.min()) & (wavelength < windows.max())))


def _line_integral(bounds: np.ndarray, flux: np.ndarray, mask: np.ndarray, windows: np.ndarray) -> float:
    """Integral over the first window less the mean of the second; NaN unless all pixels are good."""
    mean, _, bad = Resampler.between(bounds, windows.T, 1.0).resample(
        np.nan_to_num(flux), np.ones(flux.size), mask
    )
    if bad.any():
        return float("nan")
    return float((mean[0] - mean[1]) * (windows[0, 1] - windows[0, 0]))
