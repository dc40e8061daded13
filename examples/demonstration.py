"""Parts of the demos: their folder, commands that are shown before they run, galaxies with known truth."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from data_pipeline.jades_names import jades_file_name
from data_pipeline.pictures.style import save_picture
from data_pipeline.simulation.truth import TruthReader
from kspecsr.evaluation.figures.examples import Example, draw_examples, zoom_windows

MARKER = ".kspecsr-demo"
_PATIENCE = 10.0  # s that an interrupted step has to clean up


class DemoError(RuntimeError):
    """A step that failed, or a folder that is not the demo's."""


def prepare(folder: Path, parts: Sequence[str]) -> None:
    """Makes the demo's folder, or empties what an earlier demo put there.

    Args:
        folder: the demo's.
        parts: names in it that the demo writes, and that are removed now.

    Raises:
        DemoError: for a file, or a folder with contents that no demo made.
    """
    if folder.exists() and not folder.is_dir():
        raise DemoError(f"{folder} is a file; give a folder with --output")
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise DemoError(
            f"{folder} is not empty and was not made by this demo; choose another --output, "
            "or empty it yourself"
        )
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("Made by a demo of kspecsr, which overwrites: " + ", ".join(parts) + "\n")
    for part in parts:
        path = folder / part
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def run(words: str, *arguments: object) -> None:
    """Shows and runs a command of this project.

    Args:
        words: of the command, as after ``kspecsr``.
        *arguments: its options.

    Raises:
        DemoError: where it fails.
        KeyboardInterrupt: once the command has cleaned up.
    """
    command = [*words.split(), *map(str, arguments)]
    print(f"\n$ kspecsr {shlex.join(command)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "kspecsr", *command])
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if status:
        raise DemoError(f"kspecsr {words} ended with status {status}; its message stands above")


_SEED = 2**40  # no training or validation galaxy has it


def simulate_unseen(archive: Path, n: int, workers: int) -> None:
    """Writes an archive of galaxies that no training or validation has.

    Raises:
        DemoError: if the command failed.
    """
    run("data simulate", "--archive", archive, "--n", n, "--seed", _SEED, "--workers", workers)


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
        raise DemoError(f"{folder / 'enhanced'} holds no result; the messages of kspecsr enhance stand above")
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
        inferred = "none" if found is None else f"{float(found):.4f}"
        output = _spectrum(spectrum)
        example = Example(
            f"{best[0]}\ntrue z = {known.redshift:.4f}\nfound z = {inferred}",
            known.redshift,
            _spectrum(given),
            output,
            known.noise_free,
            zoom_windows(known.redshift, known.line_flux, output[0]),
        )
    return save_picture(draw_examples([example], "super-resolved"), folder / "recovered.png")


def _spectrum(table: fits.FITS_rec) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux, error and mask in the machine's byte order: FITS has the other one."""
    numbers = (np.array(table[name], dtype=np.float64) for name in ("WAVELENGTH", "FLUX", "FLUX_ERR"))
    return (*numbers, np.array(table["MASK"], dtype=bool))
