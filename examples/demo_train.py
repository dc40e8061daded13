"""Command line: ``python -m examples.demo_train``: from simulated galaxies to a model, and what it recovers.

Each step but the last picture is a command of this project, shown before it runs: what the demo does can be
copied.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.demonstration import DemoError, prepare, run
from examples.unseen_galaxies import draw_best, redshift_table, simulate_unseen

PARTS = ("pipeline", "records", "model", "unseen", "enhanced", "recovered.png")

EXAMPLES = """examples:
  python -m examples.demo_train --output demo
  python -m examples.demo_train --output demo --galaxies 400 --epochs 2    # quicker, and worse
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m examples.demo_train",
        description="Simulates galaxies, builds records, trains a reduced model on them, super-resolves "
        "galaxies that it never saw, and draws recovered beside true. A quarter of an hour on two cores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--output", required=True, metavar="DIR", help="new or empty folder, or an earlier demo's")
    p.add_argument("--galaxies", type=int, default=2000, help="in the records; default %(default)s")
    p.add_argument("--epochs", type=int, default=0, help="of each stage; default: those of the preset")
    p.add_argument("--unseen", type=int, default=12, help="galaxies to super-resolve; default %(default)s")
    p.add_argument("--seed", type=int, default=1, help="default %(default)s")
    p.add_argument("--workers", type=int, default=2, help="processes; default %(default)s")
    return p


def demonstrate(args: argparse.Namespace) -> None:
    """All steps in order."""
    folder = Path(args.output)
    prepare(folder, PARTS)
    pipeline, records, model, unseen, enhanced, _ = (folder / part for part in PARTS)
    seed, workers = str(args.seed), str(args.workers)
    run("examples.demo_data", "--output", str(pipeline), "--seed", seed, "--workers", workers)
    run(
        "data_pipeline.build",
        *("--source", "simulation", "--n", str(args.galaxies), "--seed", seed, "--workers", workers),
        *("--output", str(records)),
    )
    epochs = ("--epochs", str(args.epochs)) if args.epochs else ()
    run(
        "kspecsr.train",
        *("--preset", "small", "--data", str(records), "--output", str(model), "--seed", seed, *epochs),
    )
    simulate_unseen(unseen, args.unseen, args.workers)
    run("kspecsr.enhance", str(unseen), "--output", str(enhanced), "--model", str(model), "--plot")
    picture = draw_best(folder)
    print(f"\n{redshift_table(folder)}\n\nRecovered beside true: {picture}")


def summary(folder: Path, seconds: float) -> str:
    """What was made, and what to try next."""
    model = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    stages = ", ".join(model["stages"])
    return "\n".join(
        [
            f"\nMade in {seconds:.0f} s:",
            f"  {folder / 'model'}      a reduced model ({stages}), trained on {folder / 'records'}",
            f"  {folder / 'enhanced'}   spectra, line catalogues and pictures of galaxies that it never saw",
            f"  {folder / 'recovered.png'}",
            "\nNext:",
            f"  python -m kspecsr.enhance YOUR.fits --model {folder / 'model'} --output results --plot",
            "  python -m kspecsr.train    # the full model: about an hour and a half on two cores",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 1 if a step failed, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if args.galaxies < 50 or args.unseen < 1 or args.workers < 1 or args.epochs < 0:
        p.error(
            "expected --galaxies of 50 or more, --unseen and --workers of 1 or more, --epochs of 0 or more"
        )
    started = time.monotonic()
    try:
        demonstrate(args)
        print(summary(Path(args.output), time.monotonic() - started))
    except (DemoError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
