"""Command line: ``python -m examples.demo``: the model that ships, on simulated galaxies or yours.

Each step but the last picture is a command of this project, shown before it runs: what the demo does can be
copied.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.demonstration import DemoError, prepare, run
from examples.unseen_galaxies import draw_best, redshift_table, simulate_unseen

PARTS = ("unseen", "enhanced", "recovered.png", "catalogue.ecsv")

EXAMPLES = """examples:
  python -m examples.demo --output demo
  python -m examples.demo --output demo --file my_prism_x1d.fits
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Super-resolves simulated galaxies, or spectra of yours, with the model that ships: FITS "
        "files, line tables and pictures. A minute on two cores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--output", required=True, metavar="DIR", help="new or empty folder, or an earlier demo's")
    p.add_argument("--file", action="append", default=[], metavar="FILE", help="prism spectrum; repeatable")
    p.add_argument("--unseen", type=int, default=12, help="galaxies to simulate; default %(default)s")
    p.add_argument("--workers", type=int, default=2, help="processes; default %(default)s")
    return p


def demonstrate(args: argparse.Namespace) -> None:
    """All steps in order."""
    folder = Path(args.output)
    prepare(folder, PARTS)
    unseen, enhanced, _, catalogue = (folder / part for part in PARTS)
    if not args.file:
        simulate_unseen(unseen, args.unseen, args.workers)
    inputs = args.file or [str(unseen)]
    run("kspecsr.enhance", *inputs, "--output", str(enhanced), "--plot")
    run("kspecsr.catalogue", str(enhanced), "--output", str(catalogue))
    if not args.file:
        print(f"\n{redshift_table(folder)}\n\nRecovered beside true: {draw_best(folder)}")


def summary(folder: Path, seconds: float, simulated: bool) -> str:
    """What was made, and what to try next."""
    lines = [
        f"\nMade in {seconds:.0f} s:",
        f"  {folder / 'enhanced'}   super-resolved spectra with line tables (FITS), and a picture of each",
        f"  {folder / 'catalogue.ecsv'}   one line for each",
    ]
    if simulated:
        lines.append(f"  {folder / 'recovered.png'}   one of them beside the truth")
    return "\n".join(
        [
            *lines,
            "\nNext:",
            "  python -m kspecsr.enhance YOUR.fits --output results --plot",
            "  make demo-train    # trains a reduced model from scratch: a quarter of an hour",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 1 if a step failed, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if args.unseen < 1 or args.workers < 1:
        p.error("expected --unseen and --workers of 1 or more")
    started = time.monotonic()
    try:
        demonstrate(args)
        print(summary(Path(args.output), time.monotonic() - started, not args.file))
    except (DemoError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
