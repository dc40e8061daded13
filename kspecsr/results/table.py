"""Many result files as one table: redshifts, consistency, and the brightest line of each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.spectrum import SpectrumMeta
from kspecsr.results.files import GIVEN, Z_SOURCE
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA

SUFFIX = "_sr.fits"
CLOSE = 0.005  # |dz| / (1 + z) that counts as the same redshift


@dataclass(frozen=True)
class ResultRow:
    """One result file.

    Attributes:
        name: file name without ``_sr.fits``.
        known: redshift that the user knows; NaN for none.
        given: the result was made at a redshift that the caller gave.
        redshift: the result's; NaN for none.
        error: its one-sigma error.
        confidence: mass of the main mode of P(z).
        chi_square: prism consistency per pixel.
        flags: names, separated by commas.
        line: name of the brightest detected line; empty for none.
        flux: its flux [erg/s/cm2].
        flux_error: one sigma.
    """

    name: str
    known: float
    given: bool
    redshift: float
    error: float
    confidence: float
    chi_square: float
    flags: str
    line: str
    flux: float
    flux_error: float

    @property
    def offset(self) -> float:
        """Dz / (1 + z) from the known redshift; NaN where either is missing or the result's was given."""
        if self.given:
            return math.nan
        return (self.redshift - self.known) / (1.0 + self.known)


def result_files(paths: Iterable[str | Path]) -> list[Path]:
    """Result files among these paths, and in folders among them.

    Raises:
        FileNotFoundError: for a path that is not there, or if there is no result at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(path.rglob(f"*{SUFFIX}"))
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    if not found:
        raise FileNotFoundError(f"no result (*{SUFFIX}) found; make some with kspecsr enhance")
    return found


def read_row(path: Path, known: KnownRedshifts) -> ResultRow:
    """The row of one result file.

    Args:
        path: written by ``kspecsr enhance``.
        known: redshifts that the user knows.

    Raises:
        ValueError: for a file that is no result, naming it.
    """
    try:
        with fits.open(path) as hdus:
            header = hdus[0].header
            lines = Table(hdus["LINES"].data)
            numbers = {key: _number(header.get(key)) for key in ("Z", "Z_ERR", "Z_CONF", "CHI2NU")}
            flags = str(header.get("FLAGS") or "")
            texts = {
                key: str(header.get(key) or "") for key in ("TARGET", "SOURCEID", "TIER", "INPUT", Z_SOURCE)
            }
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path}: no readable result ({error}); make it again with kspecsr enhance"
        ) from None
    name = path.name.removesuffix(SUFFIX)
    meta = SpectrumMeta(target=texts["TARGET"], source_id=texts["SOURCEID"], tier=texts["TIER"])
    detected = np.nan_to_num(lines["SNR"]) > LIMIT_SIGMA
    detected &= np.nan_to_num(lines["PRESENCE"]) > LIKELY  # as `LineMeasurements.brightest`
    best = int(np.argmax(np.where(detected, lines["FLUX"], -np.inf))) if detected.any() else None
    return ResultRow(
        name=name,
        known=known.of(Path(texts["INPUT"] or name), meta),
        given=texts[Z_SOURCE] == GIVEN,
        redshift=numbers["Z"],
        error=numbers["Z_ERR"],
        confidence=numbers["Z_CONF"],
        chi_square=numbers["CHI2NU"],
        flags=flags,
        line="" if best is None else str(lines["NAME"][best]).strip(),
        flux=math.nan if best is None else float(lines["FLUX"][best]),
        flux_error=math.nan if best is None else float(lines["FLUX_ERR"][best]),
    )


def _number(value) -> float:
    return math.nan if value is None or isinstance(value, str) else float(value)


def as_text(rows: list[ResultRow], compare: bool) -> str:
    """For people: a line per result.

    Args:
        rows: one or more.
        compare: also show known redshifts, and how found ones agree.
    """
    width = max(len(row.name) for row in rows)
    head = f"{'spectrum':{width}s}" + (f" {'known z':>8s}" if compare else "")
    head += f" {'z':>8s} {'Z_ERR':>7s} {'Z_CONF':>6s}" + (f" {'dz/(1+z)':>9s}" if compare else "")
    lines = [f"{head} {'CHI2NU':>7s}  {'line':12s} {'flux':>8s} {'error':>7s}  flags"]
    for row in rows:
        error = "given" if row.given else f"{row.error:.4f}"
        text = f"{row.name:{width}s}" + (f" {row.known:8.4f}" if compare else "")
        text += f" {row.redshift:8.4f} {error:>7s} {row.confidence:6.3f}"
        text += f" {row.offset:+9.4f}" if compare else ""
        text += f" {row.chi_square:7.2f}  {row.line:12s} {row.flux * 1e20:8.1f} {row.flux_error * 1e20:7.1f}"
        lines.append(f"{text}  {row.flags}".rstrip())
    lines.append(f"fluxes in 1e-20 erg/s/cm2, of the brightest line with S/N > {LIMIT_SIGMA:g}")
    return "\n".join(lines + ([agreement(rows)] if compare else []))


def agreement(rows: list[ResultRow]) -> str:
    """How found redshifts agree with known ones; given ones prove nothing and are counted apart."""
    compared = [row for row in rows if math.isfinite(row.known) and not row.given]
    offset = np.array([row.offset for row in compared])
    unflagged = np.array([not row.flags for row in compared], dtype=bool) & np.isfinite(offset)
    close = np.abs(offset) <= CLOSE
    spread = f"{1.4826 * np.median(np.abs(offset[unflagged])):.5f}" if unflagged.any() else "unknown"
    text = (
        f"{len(compared)} known redshifts: {int((unflagged & close).sum())} within {CLOSE:g} (1 + z), "
        f"{int((unflagged & ~close).sum())} further off and not flagged, {int((~unflagged).sum())} flagged; "
        f"NMAD {spread} of those not flagged"
    )
    given = sum(row.given for row in rows)
    unknown = sum(not math.isfinite(row.known) and not row.given for row in rows)
    text += f"; {unknown} results without a redshift in the table" if unknown else ""
    return text + (f"; {given} made at a given redshift, not compared" if given else "")


def as_table(rows: list[ResultRow]) -> Table:
    """For programs: the same with units."""
    table = Table(
        {
            "NAME": [row.name for row in rows],
            "Z_KNOWN": [row.known for row in rows],
            "Z_GIVEN": [row.given for row in rows],
            "Z": [row.redshift for row in rows],
            "Z_ERR": [row.error for row in rows],
            "Z_CONF": [row.confidence for row in rows],
            "CHI2NU": [row.chi_square for row in rows],
            "FLAGS": [row.flags for row in rows],
            "LINE": [row.line for row in rows],
            "LINE_FLUX": [row.flux for row in rows],
            "LINE_FLUX_ERR": [row.flux_error for row in rows],
        }
    )
    for name in ("LINE_FLUX", "LINE_FLUX_ERR"):
        table[name].unit = "erg / (s cm2)"
    return table
