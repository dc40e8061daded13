"""One row about a result, for tables of results, pages, surveys and lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results.arm_files import arm_numbers
from kspecsr.results.broad import LIKELY_BROAD
from kspecsr.results.data import SpectrumResult
from kspecsr.results.flags import ARMS_DISAGREE, detection, poor_fit
from kspecsr.results.lines import LIMIT_SIGMA, LINE_FLUX_UNIT
from kspecsr.results.reading import read_result

SUFFIX = "_sr.fits"


def _column(meaning: str, unit: str = "", **default: Any) -> Any:
    return field(metadata={"unit": unit, "meaning": meaning}, **default)


@dataclass(frozen=True)
class ResultRow:
    """One result in short, for tables and text; unit and meaning of each field are in its metadata.

    Numbers are NaN where there is none.
    """

    name: str = _column("name of the spectrum")
    z: float = _column("redshift at which lines are placed")
    z_error: float = _column("one sigma; 0 where given")
    z_confidence: float = _column("mass of z's mode within 0.01 (1 + z)")
    z_given: bool = _column("known to the user, not inferred")
    flags: str = _column(
        f"why no lines are reported unless kept, separated by commas; empty, or {ARMS_DISAGREE}: they are"
    )
    chi_square: float = _column("prism consistency per good pixel")
    sn_continuum: float = _column("S/N of the weighted mean flux on the model's range")
    sn_feature: float = _column("S/N of the best three neighbouring pixels on the model's range")
    sn_pixel: float = _column("median S/N of a good prism pixel")
    coverage: float = _column("share of good prism pixels")
    lines_detected: int = _column(f"lines above {LIMIT_SIGMA:g} sigma that are likely there")
    brightest_line: str = _column("of them, the one with the most flux")
    brightest_flux: float = _column("its flux", LINE_FLUX_UNIT)
    brightest_flux_error: float = _column("one sigma", LINE_FLUX_UNIT)
    no_redshift: float = _column("chance that there is none; NaN: the model does not say", default=math.nan)
    object_class: str = _column("the most probable class; empty: the model does not say", default="")
    class_probability: tuple[float, ...] = _column(
        f"of {', '.join(OBJECT_CLASSES)}; none: the model does not say", default=()
    )
    p_fit: float = _column("share of simulated spectra that fit worse; NaN: not stated", default=math.nan)
    p_broad: float = _column("chance of broad components; NaN: the model does not say", default=math.nan)
    fwhm_broad: float = _column("their width", "km / s", default=math.nan)
    fwhm_broad_error: float = _column("one sigma", "km / s", default=math.nan)
    arms: int = _column("gratings that were joined with the prism", default=0)
    z_prism: float = _column("redshift of the prism alone; NaN: no gratings", default=math.nan)
    z_prism_error: float = _column("one sigma", default=math.nan)
    notes: str = _column("what was masked, assumed or ignored, separated by semicolons", default="")
    known: float = _column("redshift that the user knows", default=math.nan)
    by_arm: Mapping[str, float] = _column("columns of `ARM_ROW` to numbers", default_factory=dict)

    @property
    def brightest_snr(self) -> float:
        """S/N of the brightest line; NaN for none."""
        return self.brightest_flux / self.brightest_flux_error

    @property
    def poor_fit(self) -> bool:
        """Whether the spectrum is badly described, as of `SpectrumResult`."""
        return bool(poor_fit(self.chi_square, self.p_fit))

    @property
    def offset(self) -> float:
        """Dz / (1 + z) from the known redshift; NaN where either is missing or the result's was given."""
        return math.nan if self.z_given else (self.z - self.known) / (1.0 + self.known)

    @property
    def summary(self) -> str:
        """Redshift, confidence, consistency and brightest line in one line of text."""
        place = "no redshift" if math.isnan(self.z) else f"z {self.z:.4f}"
        given = " (given)" if self.z_given else ""
        confidence, consistency = f"Z_CONF {self.z_confidence:.2f}", f"CHI2NU {self.chi_square:.2f}"
        if not math.isnan(self.p_fit):
            consistency += f", P_FIT {self.p_fit:.2g}"
        parts = [f"{self.name}: {place}{given}", confidence, consistency]
        if self.flags:
            parts.append(f"{'flags' if self.brightest_line else 'no lines'}: {self.flags.replace(',', ', ')}")
        elif not self.brightest_line:
            parts.append(f"no line above {LIMIT_SIGMA:g} sigma")
        if self.brightest_line:
            flux, error = self.brightest_flux, self.brightest_flux_error
            parts.append(f"{self.brightest_line} {flux:.3e} +- {error:.1e} erg/s/cm2")
        if self.p_broad > LIKELY_BROAD:
            parts.append(f"broad lines of {self.fwhm_broad:.0f} +- {self.fwhm_broad_error:.0f} km/s")
        return ", ".join(parts) + (f"; {self.notes}" if self.notes else "")


# unit and meaning of the fields that surveys have too
ROW_COLUMNS = {
    one.name: (one.metadata["unit"], one.metadata["meaning"])
    for one in fields(ResultRow)
    if one.name not in ("name", "known", "by_arm")
}


def row_of(result: SpectrumResult, name: str, known: float = math.nan) -> ResultRow:
    """The row of a result.

    Args:
        result: any.
        name: name of the spectrum.
        known: redshift that the user knows; NaN for none.
    """
    redshift, lines, grid = result.redshift, result.measurements, result.model.grid
    seen = (result.prism_flux, result.prism_error, result.prism_mask)
    inside = (result.prism_wavelength >= grid.start) & (result.prism_wavelength <= grid.stop)
    continuum, feature = detection(*(values[inside] for values in seen))
    good = ~result.prism_mask
    ratio = result.prism_flux[good] / result.prism_error[good]
    brightest, broad, arms = lines.brightest(), lines.broad, result.arms
    found = brightest is not None
    return ResultRow(
        name=name,
        z=redshift.value,
        z_error=redshift.error,
        z_confidence=redshift.confidence,
        z_given=redshift.given,
        flags=",".join(result.flags),
        chi_square=result.chi_square,
        sn_continuum=continuum,
        sn_feature=feature,
        sn_pixel=float(np.median(ratio)) if ratio.size else math.nan,
        coverage=float(good.mean()),
        lines_detected=int(lines.detected.sum()),
        brightest_line=str(lines.line[brightest]) if found else "",
        brightest_flux=float(lines.flux[brightest]) if found else math.nan,
        brightest_flux_error=float(lines.flux_error[brightest]) if found else math.nan,
        no_redshift=redshift.none,
        object_class=result.object_class,
        class_probability=tuple(result.class_probability.values()),
        p_fit=result.fit_probability,
        p_broad=math.nan if broad is None else broad.probability,
        fwhm_broad=math.nan if broad is None else broad.fwhm,
        fwhm_broad_error=math.nan if broad is None else broad.fwhm_error,
        arms=0 if arms is None else len(arms.arms),
        z_prism=math.nan if arms is None else arms.prism.value,
        z_prism_error=math.nan if arms is None else arms.prism.error,
        notes="; ".join(result.notes),
        known=known,
        by_arm=arm_numbers(arms),
    )


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
        path: file that ``kspecsr enhance`` wrote.
        known: redshifts that the user knows.

    Raises:
        ValueError: for a file that is no result, naming it.
    """
    result = read_result(path, SpectrumResult)
    name, meta = path.name.removesuffix(SUFFIX), result.observed.meta
    return row_of(result, name, known.of(Path(meta.path or name), meta))
