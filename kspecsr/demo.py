"""Command line: ``python -m kspecsr.demo``: from simulated galaxies to a recovered spectrum beside the truth.

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

import numpy as np
from astropy.io import fits

from data_pipeline.demonstration import DemoError, prepare, run
from data_pipeline.jades_names import jades_file_name
from data_pipeline.pictures.style import save_picture
from data_pipeline.simulation.truth import TruthReader
from kspecsr.pictures.recovered_truth import RecoveredTruth, draw_recovered_truth

PARTS = ("pipeline", "records", "model", "unseen", "enhanced", "recovered.png")
UNSEEN_SEED = 2**40  # no training or validation galaxy has it

EXAMPLES = """examples:
  python -m kspecsr.demo --output demo
  python -m kspecsr.demo --output demo --galaxies 400 --epochs 2    # quicker, and worse
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.demo",
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
    run("data_pipeline.demo", "--output", str(pipeline), "--seed", seed, "--workers", workers)
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
    run(
        "data_pipeline.simulate",
        *(
            "--archive",
            str(unseen),
            "--n",
            str(args.unseen),
            "--seed",
            str(UNSEEN_SEED),
            "--workers",
            workers,
        ),
    )
    run("kspecsr.enhance", str(unseen), "--output", str(enhanced), "--model", str(model), "--plot")
    picture = draw_best(folder)
    print(f"\n{redshift_table(folder)}\n\nRecovered beside true: {picture}")


def _results(folder: Path) -> list[tuple[str, Path]]:
    """Ids of the galaxies that were not in training, and the file of each result."""
    truth = TruthReader(folder / "unseen")
    found = []
    for unique_id in truth:
        tier, number = unique_id.rsplit("_", 1)
        name = jades_file_name(tier, number, "clear", "prism").removesuffix(".fits")
        path = folder / "enhanced" / f"{name}_sr.fits"
        if path.is_file():
            found.append((unique_id, path))
    if not found:
        raise DemoError(f"{folder / 'enhanced'} holds no result; the messages of kspecsr.enhance stand above")
    return found


def redshift_table(folder: Path) -> str:
    """True and found redshifts of the galaxies that were not in training."""
    truth = TruthReader(folder / "unseen")
    lines = [
        f"{'galaxy':32s} {'kind':14s} {'true z':>8s} {'found z':>8s} {'Z_CONF':>7s} {'CHI2NU':>7s}  flags"
    ]
    for unique_id, path in _results(folder):
        header, known = fits.getheader(path), truth.get(unique_id)
        values = [header.get(name) for name in ("Z", "Z_CONF", "CHI2NU")]
        z, confidence, chi = (float("nan") if value is None else float(value) for value in values)
        lines.append(
            f"{unique_id:32s} {known.kind:14s} {known.redshift:8.4f} {z:8.4f} {confidence:7.2f} {chi:7.2f}  "
            f"{header.get('FLAGS', '')}"
        )
    return "\n".join(lines)


def draw_best(folder: Path) -> Path:
    """Draws the galaxy with the brightest [O III] or Halpha for its noise, well recovered or not."""
    truth = TruthReader(folder / "unseen")
    best, most = None, -np.inf
    for unique_id, path in _results(folder):
        known = truth.get(unique_id)
        with fits.open(path) as hdus:
            noise = np.nanmedian(hdus["INPUT"].data["FLUX_ERR"])
        bright = [known.line_flux[known.line_names.index(name)] for name in ("[OIII]_5008", "Halpha")]
        if np.isfinite(known.redshift) and max(bright) / noise > most:
            best, most = (unique_id, path), max(bright) / noise
    if best is None:
        raise DemoError("none of the unseen galaxies has lines; give more of them with --unseen")
    known = truth.get(best[0])
    with fits.open(best[1]) as hdus:
        given, spectrum, header = hdus["INPUT"].data, hdus["SPEC1D"].data, hdus[0].header
        found = header.get("Z")
        case = RecoveredTruth(
            name=best[0],
            redshift=known.redshift,
            found=float("nan") if found is None else float(found),
            prism=_spectrum(given),
            output=_spectrum(spectrum),
            truth=known.noise_free,
        )
    return save_picture(draw_recovered_truth(case), folder / "recovered.png")


def _spectrum(table: fits.FITS_rec) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux, error and mask in the machine's byte order: FITS has the other one."""
    numbers = (np.array(table[name], dtype=np.float64) for name in ("WAVELENGTH", "FLUX", "FLUX_ERR"))
    return (*numbers, np.array(table["MASK"], dtype=bool))


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
