"""``kspecsr data check``: stitching and alignment against the truth of a simulation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from data_pipeline import command_line as cli

if TYPE_CHECKING:
    from data_pipeline.pairs.truth_comparison import ScaleRecovery

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
    from data_pipeline.catalogue import read_catalogue
    from data_pipeline.pairs.matching import find_catalogue, match, scan_archive
    from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, make_pair, read_match
    from data_pipeline.pairs.truth_comparison import line_flux_ratio, scale_recoveries, seam_steps
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
        findings.steps += seam_steps(pair.stitched, config.stitch.step_window)
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
