"""Command line: ``python -m data_pipeline.compare``: prism against gratings, object by object."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.catalog import read_catalog
from data_pipeline.catalog.columns import ColumnMapping
from data_pipeline.pairs.arm_comparison import ArmComparison, compare_arms
from data_pipeline.pairs.matching import Dropped, find_catalog, match, scan_archive
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, make_pair, read_match

EXAMPLES = """examples:
  python -m data_pipeline.compare --archive JADES_DR4
  python -m data_pipeline.compare --archive pairs --catalog pairs.csv --columns redshift=z,ra=ra,dec=dec

columns of the table: wavelength [um] and FWHM [nm] of the brightest line in the gratings, in the gratings
seen through the prism's line-spread function ('degraded') and in the prism; fluxes [1e-20 erg/s/cm2]; then
prism against degraded gratings: shift [km/s], width ratio, flux ratio.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m data_pipeline.compare",
        description="Compare the brightest line of each galaxy in prism and gratings.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--archive", required=True, metavar="DIR")
    p.add_argument("--catalog", default="", metavar="FILE", help="default: the one that lies in the archive")
    p.add_argument(
        "--columns", default="", metavar="OURS=THEIRS,...", help="columns of a catalogue of your own"
    )
    return p


HEADER = (
    f"{'object':40s} {'z':>7s} {'arms':11s} {'line':12s} {'S/N':>5s} | {'gratings':^22s} | "
    f"{'degraded':^22s} | {'prism':^27s} | {'dv':>6s} {'width':>5s} {'flux':>5s}"
)


def table_row(name: str, redshift: float, arms: str, c: ArmComparison) -> str:
    """One line of the table."""

    def shown(profile) -> str:
        return f"{profile.centre:7.4f} {profile.fwhm * 1e3:5.1f} {profile.flux / 1e-20:8.0f}"

    error = c.prism.flux_error / 1e-20
    return (
        f"{name:40s} {redshift:7.4f} {arms:11s} {c.line:12s} {c.signal_to_noise:5.0f} | {shown(c.grating)} | "
        f"{shown(c.degraded)} | {shown(c.prism)}+-{error:<3.0f} | {c.prism.velocity_from(c.degraded):+6.0f} "
        f"{c.prism.fwhm / c.degraded.fwhm:5.2f} {c.prism.flux / c.degraded.flux:5.2f}"
    )


def compare(archive: str, catalog: str, columns: str) -> tuple[list[str], list[ArmComparison], list[Dropped]]:
    """Rows of the table, the comparisons, and the objects that gave none."""
    files, dropped = scan_archive(archive)
    mapping = ColumnMapping.parse(columns) if columns else None
    matches, unmatched = match(
        files, read_catalog(Path(catalog) if catalog else find_catalog(archive), mapping)
    )
    dropped = [*dropped, *unmatched]
    config, rows, found = PreprocessingConfig(), [], []
    for one in matches:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if an object gave no comparison."""
    args = parser().parse_args(argv)
    try:
        rows, found, dropped = compare(args.archive, args.catalog, args.columns)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(HEADER, "-" * len(HEADER), *rows, sep="\n")
    if found:
        for name, values in (
            ("shift prism - degraded [km/s]", [c.prism.velocity_from(c.degraded) for c in found]),
            ("width prism / degraded", [c.prism.fwhm / c.degraded.fwhm for c in found]),
            ("flux prism / degraded", [c.prism.flux / c.degraded.flux for c in found]),
        ):
            low, middle, high = np.percentile(values, (16, 50, 84))
            print(f"{name:32s} n {len(values):4d}  median {middle:8.3f}  16-84 % {low:8.3f} to {high:.3f}")
    for item in dropped:
        print(f"left out: {item.unique_id}: {item.step}: {item.reason}", file=sys.stderr)
    return 1 if dropped else 0


if __name__ == "__main__":
    sys.exit(main())
