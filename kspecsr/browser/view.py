"""What the page shows of one spectrum, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from data_pipeline.spectrum import ObservedSpectrum
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA

if TYPE_CHECKING:
    from kspecsr.results.result import Result


# Columns of the page's table and what they are called there.
TABLE_COLUMNS = {
    "object_id": "object",
    "z": "z",
    "z_error": "z error",
    "z_confidence": "confidence",
    "z_given": "given",
    "sn_pixel": "S/N pixel",
    "sn_feature": "S/N feature",
    "chi_square": "chi2",
    "lines_detected": "lines",
    "brightest_line": "brightest line",
    "brightest_snr": "line S/N",
    "flags": "flags",
}
LINE_COLUMNS = ("line", "wave_rest", "wave_obs", "flux", "flux_error", "snr", "presence", "prior_weight")


@dataclass(frozen=True, eq=False)
class SpectrumView:
    """One spectrum; arrays in um and erg/s/cm2/A.

    Attributes:
        name: of the object.
        z: redshift of the lines; NaN for none.
        z_error: one sigma; 0 where given.
        confidence: mass of the mode that ``z`` lies in.
        given: at a redshift that somebody gave.
        flags: names, separated by commas.
        chi_square: prism consistency.
        prism_wavelength: (P,).
        prism_flux: (P,) NaN where masked.
        prism_error: (P,).
        wavelength: (N,); empty where the spectrum is not stored.
        flux: (N,) super-resolved, NaN where masked.
        flux_error: (N,).
        pz_z: (Z,) redshifts.
        pz: (Z,) probability per unit redshift.
        lines: one row per line on the data, with `LINE_COLUMNS`.
    """

    name: str
    z: float
    z_error: float
    confidence: float
    given: bool
    flags: str
    chi_square: float
    prism_wavelength: np.ndarray
    prism_flux: np.ndarray
    prism_error: np.ndarray
    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray
    pz_z: np.ndarray
    pz: np.ndarray
    lines: pd.DataFrame

    @property
    def summary(self) -> str:
        """Redshift, confidence, consistency and flags in one line of Markdown."""
        if np.isfinite(self.z):
            error = "given" if self.given else f"± {self.z_error:.4f}"
            place = f"z = {self.z:.4f} ({error})"
        else:
            place = "no redshift"
        detected = int(((self.lines["snr"] > LIMIT_SIGMA) & (self.lines["presence"] > LIKELY)).sum())
        text = f"**{self.name}** — {place}, confidence {self.confidence:.3f}, chi² {self.chi_square:.2f}"
        return text + (f", flags: **{self.flags}**" if self.flags else f", {detected} lines detected")


def view_of(name: str, result: Result) -> SpectrumView:
    """The view of a fresh result."""
    redshift, lines = result.redshift, result.measurements
    rows = np.flatnonzero(np.isfinite(lines.flux) & lines.in_range) if not result.flags else []
    listed = load_lines()
    table = pd.DataFrame(
        {
            "line": np.array(listed.names, dtype=object)[rows],
            "wave_rest": listed.wavelength[rows] * ANGSTROM_PER_UM,
            "wave_obs": lines.wavelength[rows],
            "flux": lines.flux[rows],
            "flux_error": lines.flux_error[rows],
            "snr": lines.signal_to_noise[rows],
            "presence": lines.presence[rows],
            "prior_weight": lines.prior_weight[rows],
        }
    )
    return SpectrumView(
        name=name,
        z=redshift.value,
        z_error=redshift.error,
        confidence=redshift.confidence,
        given=redshift.given,
        flags=",".join(result.flags),
        chi_square=result.chi_square,
        prism_wavelength=result.prism_wavelength,
        prism_flux=np.where(result.prism_mask, np.nan, result.prism_flux),
        prism_error=result.prism_error,
        wavelength=result.wavelength,
        flux=result.flux,
        flux_error=result.flux_error,
        pz_z=redshift.grid,
        pz=redshift.density,
        lines=table,
    )


class BrowseError(ValueError):
    """A path without results, or a result that cannot be shown; the text says why and what to do."""


class ResultSource(Protocol):
    """Results that can be looked through.

    Attributes:
        title: for the page.
        table: one row per object, with `kspecsr.browser.view.TABLE_COLUMNS`.
    """

    title: str
    table: pd.DataFrame

    def view(self, row: int) -> SpectrumView | None:
        """What is stored of a row's spectrum; None where the spectrum is not stored."""

    def observed(self, row: int) -> tuple[ObservedSpectrum, float]:
        """The input of a row, and the redshift that was given for it (NaN for none)."""


def place_of(path: Path) -> tuple[str, Path]:
    """What a path is: ``survey`` with its folder, or ``results`` of enhance with theirs.

    Raises:
        BrowseError: for neither.
    """
    if not path.exists():
        raise BrowseError(f"{path}: no such file or folder")
    for folder in (path, *path.absolute().parents[:2]):
        if (folder / "survey.json").is_file() and (folder / "objects").is_dir():
            return "survey", folder
    if path.name.endswith("_sr.fits") or (path.is_dir() and next(path.rglob("*_sr.fits"), None)):
        return "results", path
    raise BrowseError(
        f"{path}: holds neither a survey (survey.json and objects/, of kspecsr survey) nor results "
        "(*_sr.fits, of kspecsr enhance)"
    )
