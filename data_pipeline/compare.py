"""``kspecsr data compare``: prism against gratings, object by object."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline import command_line as cli
from data_pipeline.progress import Progress

if TYPE_CHECKING:
    from data_pipeline.pairs.arm_comparison import ArmComparison
    from data_pipeline.pairs.matching import Dropped

EXAMPLES = """examples:
  kspecsr data compare --archive JADES_DR4
  kspecsr data compare --archive pairs --catalogue pairs.csv --columns redshift=z,ra=ra,dec=dec

Columns of the table: centre, FWHM and flux of the brightest line in the gratings, in the gratings seen
through the line-spread function of the prism ('degraded') and in the prism; then prism against degraded
gratings: shift, width ratio and flux ratio with one-sigma errors. The errors include the quoted errors of the
pixels and the correlation of their noise, not the calibration of wavelength and flux, which the table tests.

Exit status 1 if a file could not be read; galaxies left out for another reason are listed.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--archive", default=None, required=True)
    for name in ("--catalogue", "--columns"):
        cli.add(p, name)


_PROFILE_NAMES = f"{'centre':>7s} {'FWHM':>5s} {'flux':>8s}"
_PROFILE_UNITS = f"{'[um]':>7s} {'[nm]':>5s} {'[1e-20*]':>8s}"
HEADER = "\n".join(
    f"{name:30s} {z:>7s} {arms:17s} {line:12s} {snr:>5s} | {a:^22s} | {b:^22s} | {c:^22s} | {dv:>12s} "
    f"{width:>13s} {flux:>13s}"
    for name, z, arms, line, snr, a, b, c, dv, width, flux in (
        ("object", "z", "arms", "line", "S/N", "gratings", "degraded", "prism", "dv", "width", "flux"),
        ("", "", "", "", "", *[_PROFILE_NAMES] * 3, "", "ratio", "ratio"),
        ("", "", "", "", "", *[_PROFILE_UNITS] * 3, "[km/s]", "", ""),
    )
)
FLUX_UNIT_NOTE = "* erg s^-1 cm^-2"
_UNREADABLE = ("file readable", "files readable")  # names of the steps at which a file is not read


def table_row(name: str, redshift: float, arms: str, c: ArmComparison) -> str:
    """One line of the table."""

    def shown(profile) -> str:
        return f"{profile.centre:7.4f} {profile.fwhm * 1e3:5.1f} {profile.flux / 1e-20:8.0f}"

    return (
        f"{name:30s} {redshift:7.4f} {arms:17s} {c.line:12s} {c.signal_to_noise:5.0f} | {shown(c.grating)} | "
        f"{shown(c.degraded)} | {shown(c.prism)} | {_with_error(c.shift, '+6.0f', '<4.0f')} "
        f"{_with_error(c.width_ratio, '6.3f', '<5.3f')} {_with_error(c.flux_ratio, '6.3f', '<5.3f')}"
    )


def _with_error(measured: tuple[float, float], digits: str, error_digits: str) -> str:
    """Value and error; a dash where the fit found no line, which shows in an enormous error."""
    value, error = measured
    text = f"{value:{digits}}+-{error:{error_digits}}"
    width = len(f"{0:{digits}}+-{0:{error_digits}}")
    return text if len(text) <= width + 1 else "-".rjust(width)


def compare(
    archive: str, catalogue: str, columns: str, quiet: bool = False
) -> tuple[list[str], list[ArmComparison], list[Dropped]]:
    """Rows of the table, the comparisons, and the objects that gave none."""
    # a second of SciPy and astropy: not for --help
    from data_pipeline.catalogue import parse_columns, read_catalogue
    from data_pipeline.pairs.arm_comparison import compare_arms
    from data_pipeline.pairs.matching import Dropped, find_catalogue, match, scan_archive
    from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, make_pair, read_match

    files, dropped = scan_archive(
        archive, partial(Progress, desc="scan", unit="file", delay=2, disable=quiet)
    )
    mapping = parse_columns(columns)
    matches, unmatched = match(
        files, read_catalogue(Path(catalogue) if catalogue else find_catalogue(archive), mapping)
    )
    dropped = [*dropped, *unmatched]
    config, rows, found = PreprocessingConfig(), [], []
    for one in Progress(matches, desc="compare", unit="galaxy", delay=2, disable=quiet):
        try:
            prism, gratings = read_match(one, config)
            pair = make_pair(prism, gratings, one.redshift, config)
            comparison = compare_arms(pair, one.redshift, config.grid)
        except QualityError as error:
            dropped.append(Dropped(one.unique_id, error.step, str(error)))
        except ValueError as error:
            dropped.append(Dropped(one.unique_id, "line fitted", str(error)))
        else:
            found.append(comparison)
            rows.append(table_row(one.unique_id, one.redshift, "+".join(pair.stitched.arms), comparison))
    return rows, found, dropped


@cli.command("kspecsr data compare", EXAMPLES, _options)
def main(args: argparse.Namespace) -> int:
    """Compare the brightest line of each galaxy in prism and gratings."""
    rows, found, dropped = compare(args.archive, args.catalogue, args.columns, args.quiet)
    print(HEADER, "-" * max(map(len, HEADER.splitlines())), *rows, FLUX_UNIT_NOTE, sep="\n")
    if found:
        for name, values in (
            ("shift prism - degraded [km/s]", [c.shift[0] for c in found]),
            ("width prism / degraded", [c.width_ratio[0] for c in found]),
            ("flux prism / degraded", [c.flux_ratio[0] for c in found]),
        ):
            low, middle, high = np.percentile(values, (16, 50, 84))
            print(f"{name:32s} n {len(values):4d}  median {middle:8.3f}  16-84 % {low:8.3f} to {high:.3f}")
    unreadable = [f"{d.unique_id}: {d.reason}" for d in dropped if d.step in _UNREADABLE]
    for item in dropped:
        if item.step not in _UNREADABLE:
            cli.LOG.warning("left out: %s: %s: %s", item.unique_id, item.step, item.reason)
    return cli.list_failures(unreadable, "could not be read")


if __name__ == "__main__":
    sys.exit(main())
