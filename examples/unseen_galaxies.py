"""Simulated galaxies that no model has seen, and what was recovered of them beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from data_pipeline.jades_names import jades_file_name
from data_pipeline.pictures.style import save_picture
from data_pipeline.simulation.truth import TruthReader
from examples.demonstration import DemoError, run
from kspecsr.evaluation.figures.examples import Example, draw_examples, zoom_windows

_SEED = 2**40  # no training or validation galaxy has it


def simulate_unseen(archive: Path, n: int, workers: int) -> None:
    """Writes an archive of galaxies that no training or validation has.

    Raises:
        DemoError: if the command failed.
    """
    run(
        "data_pipeline.simulate",
        *("--archive", str(archive), "--n", str(n), "--seed", str(_SEED), "--workers", str(workers)),
    )


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
        inferred = "none" if found is None else f"{float(found):.4f}"
        output = _spectrum(spectrum)
        example = Example(
            f"{best[0]}: true z = {known.redshift:.4f}, found z = {inferred}",
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
