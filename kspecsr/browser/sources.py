"""Results that can be looked through: of surveys and of enhance, and what the page shows of one."""

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.pictures.line_marks import line_title
from data_pipeline.pictures.style import POOR_COLOUR
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.results.arm_files import ARM_ROW
from kspecsr.results.arm_files import NAMES as ARM_NAMES
from kspecsr.results.arm_picture import drawn_arms
from kspecsr.results.arms import ArmFit, Measured, velocity_between
from kspecsr.results.broad import LIKELY_BROAD, on_continuum
from kspecsr.results.data import SpectrumResult
from kspecsr.results.flags import ARMS_DISAGREE, poor_fit
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA
from kspecsr.results.reading import read_result
from kspecsr.results.redshift import RedshiftSummary
from kspecsr.results.table import ROW_COLUMNS, SUFFIX, ResultRow, read_row, result_files
from kspecsr.surveys.output import MANIFEST_FILE, read_manifest
from kspecsr.surveys.reading import planned_files, read_file
from kspecsr.surveys.rows import read_rows
from kspecsr.surveys.tables import BROAD_NAMES, LINE_NAMES, SurveyInput

# Columns of the page's table and what they are called there.
TABLE_COLUMNS = {
    "object_id": "object",
    "z": "z",
    "z_error": "z ±",
    "z_confidence": "conf.",
    "z_given": "given",
    "sn_pixel": "S/N pix.",
    "sn_feature": "S/N feat.",
    "chi_square": "chi²",
    "p_fit": "P_FIT",
    "fit": "fit",
    "object_class": "class",
    "p_broad": "P broad",
    "fwhm_broad": "FWHM broad",
    "lines_detected": "lines",
    "brightest_line": "best line",
    "brightest_snr": "its S/N",
    "arms": "gratings",
    "flags": "flags",
}


POOR = "poor"  # of the column of fits


@dataclass(frozen=True, eq=False)
class SpectrumView:
    """One spectrum as the page shows it; arrays in um and erg/s/cm2/A.

    Attributes:
        row: redshift, flags and lines in short.
        prism_wavelength: (P,) pixel centres [um].
        prism_flux: (P,) prism spectrum; NaN where masked.
        prism_error: (P,) one sigma.
        wavelength: (N,) pixel centres [um].
        flux: (N,) super-resolved; NaN where masked.
        flux_error: (N,) one sigma.
        pz_z: (Z,) redshifts.
        pz: (Z,) probability per unit redshift.
        lines: one row per line on the data, with the columns of a survey's table of lines.
        broad: (N,) continuum with broad components of lines, NaN beside them; None where there are none.
        arms: gratings of which the pixels are known.
    """

    row: ResultRow
    prism_wavelength: np.ndarray
    prism_flux: np.ndarray
    prism_error: np.ndarray
    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray
    pz_z: np.ndarray
    pz: np.ndarray
    lines: pd.DataFrame
    broad: np.ndarray | None = None
    arms: tuple[ArmFit, ...] = ()

    @property
    def disagreements(self) -> list[str]:
        """What prism and gratings disagree on, a sentence each."""
        return [text.removesuffix("; ") for text in self.row.notes.split(_DISAGREE)[1:]]

    @property
    def gratings(self) -> str:
        """What was found of the gratings, in Markdown; empty without any."""
        row, texts = self.row, []
        if row.arms:
            offset = velocity_between(Measured(row.z_prism, row.z_prism_error), Measured(row.z, row.z_error))
            texts.append(
                f"**With gratings** (flux scale: prism over grating), prism alone z = {row.z_prism:.4f} ± "
                f"{row.z_prism_error:.4f}, {offset.value:+.0f} ± {offset.error:.0f} km/s from all"
            )
        texts += [f"- {text}" for name in ARM_NAMES if (text := _arm_text(row, name))]
        if texts or self.disagreements:
            texts += [f"- {_coloured(text)}" for text in self.disagreements]
        return "\n".join(texts)

    @property
    def detected(self) -> list[str]:
        """Names of the detected lines."""
        seen = (self.lines["snr"] > LIMIT_SIGMA) & (self.lines["presence"] > LIKELY)
        return list(self.lines["line"][seen])

    @property
    def summary(self) -> str:
        """Redshift, confidence, consistency and flags in one line of Markdown."""
        row, place = self.row, "no redshift"
        if np.isfinite(row.z):
            place = f"z = {row.z:.4f} (" + ("given)" if row.z_given else f"± {row.z_error:.4f})")
        text = f"**{row.name}** — {place}, confidence {row.z_confidence:.3f}, chi² {row.chi_square:.2f}, "
        if np.isfinite(row.p_fit):
            text += f"P_FIT {row.p_fit:.2g}, "
        if row.poor_fit:
            text += f"{_coloured('**poor fit**')}, "
        if row.object_class:
            text += f"class: **{row.object_class}**, chance of no redshift {row.no_redshift:.2f}, "
        if row.p_broad > LIKELY_BROAD:
            width = f"{row.fwhm_broad:.0f} ± {row.fwhm_broad_error:.0f} km/s"
            text += f"broad lines of {width} (chance {row.p_broad:.2f}), "
        flags = f"flags: **{row.flags}**"
        text += f"{_coloured(flags) if ARMS_DISAGREE in row.flags else flags}, " if row.flags else ""
        text += f"{row.lines_detected} lines detected" if row.lines_detected or not row.flags else ""
        notes = row.notes.split(_DISAGREE)[0]  # which stand with the gratings
        return text.removesuffix(", ") + (f" — {notes.removesuffix('; ')}" if notes else "")


_DISAGREE = "arms disagree: "  # begins a note


def _coloured(text: str) -> str:
    return f'<span style="color:{POOR_COLOUR}">{text}</span>'


def _arm_text(row: ResultRow, name: str) -> str:
    """Scale and zero point of an arm; empty where it was not joined."""
    quantities = (f"{kind}_{name.lower()}{end}" for kind in ("scale", "shift") for end in ("", "_error"))
    scale, scale_error, shift, shift_error = (row.by_arm.get(one, math.nan) for one in quantities)
    if math.isnan(scale):
        return ""
    return f"{name} × {scale:.2f} ± {scale_error:.2f}, zero point {shift:+.0f} ± {shift_error:.0f} km/s"


def view_of(row: ResultRow, result: SpectrumResult) -> SpectrumView:
    """The view of a result."""
    kept, columns = result.measurements.reported, result.measurements.columns()
    names = {name: key for name, key in (LINE_NAMES | BROAD_NAMES).items() if key in columns}
    return SpectrumView(
        row=row,
        prism_wavelength=result.prism_wavelength,
        prism_flux=np.where(result.prism_mask, np.nan, result.prism_flux),
        prism_error=result.prism_error,
        wavelength=result.wavelength,
        flux=result.flux,
        flux_error=result.flux_error,
        pz_z=result.redshift.grid,
        pz=result.redshift.density,
        lines=pd.DataFrame({name: columns[key][kept] for name, key in names.items()}),
        broad=result.broad_spectrum,
        arms=drawn_arms(result),
    )


class BrowseError(ValueError):
    """A path without results, or a result that cannot be shown; the text says why and what to do."""


class Given(NamedTuple):
    """Input of a row.

    Attributes:
        prism: its spectrum.
        redshift: that was given for it; NaN for none.
        gratings: that are joined with it.
    """

    prism: ObservedSpectrum
    redshift: float
    gratings: tuple[ObservedSpectrum, ...] = ()


class ResultSource(Protocol):
    """Results that can be looked through.

    Attributes:
        title: for the page.
        table: one row per object, with `TABLE_COLUMNS`.
    """

    title: str
    table: pd.DataFrame

    def view(self, row: int) -> SpectrumView | None:
        """The stored spectrum of a row; None where none is stored."""

    def observed(self, row: int) -> Given:
        """The input of a row."""


def place_of(path: Path) -> tuple[str, Path]:
    """Kind of a path: ``survey`` with its folder, or ``results`` of enhance with theirs.

    Raises:
        BrowseError: for neither.
    """
    if not path.exists():
        raise BrowseError(f"{path}: no such file or folder")
    # Whoever names objects/ or a file in it means the survey around it.
    for folder in (path, *path.absolute().parents[:2]):
        if (folder / MANIFEST_FILE).is_file() and (folder / "objects").is_dir():
            return "survey", folder
    if path.name.endswith(SUFFIX) or (path.is_dir() and next(path.rglob(f"*{SUFFIX}"), None)):
        return "results", path
    raise BrowseError(
        f"{path}: holds neither a survey (survey.json and objects/, of kspecsr survey) nor results "
        "(*_sr.fits, of kspecsr enhance)"
    )


def _page_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Fields of `ResultRow` as the columns of the page."""
    ratio = rows["brightest_flux"] / rows["brightest_flux_error"]
    titles = {name: line_title(name) for name in rows["brightest_line"].unique()}
    fit = np.where(poor_fit(rows["chi_square"], rows["p_fit"]), POOR, "")
    rows = rows.assign(brightest_snr=ratio, brightest_line=rows["brightest_line"].map(titles), fit=fit)
    rows["arms"] = rows["arms"].where(rows["arms"] > 0)
    return rows.rename(columns={"name": "object_id"})[list(TABLE_COLUMNS)]


_WHERE = ("input_row", "source", "source_row")
_ROW = [name for name in ROW_COLUMNS if name != "class_probability"]  # lists, which no column shows
_DEFAULTS = {one.name: one.default for one in fields(ResultRow) if one.default is not MISSING}
_DEFAULTS |= dict.fromkeys(ARM_ROW, math.nan)


class SurveySource:
    """Tables of ``kspecsr survey``: objects are held in memory, spectra and lines read on demand.

    Args:
        folder: with ``survey.json``.
        progress: of what it iterates over, such as tqdm.

    Raises:
        BrowseError: for a survey without an object.
    """

    def __init__(self, folder: Path, progress: Callable[[Iterable], Iterable] = iter):
        self.folder = folder
        self.settings = read_manifest(folder)
        self.title = f"Survey {folder.resolve().name}"
        parts = []
        for path in progress(sorted((folder / "objects").glob("part-*.parquet"))):
            wanted = ["object_id", *_WHERE, *_ROW, *ARM_ROW]
            names = pq.read_schema(path).names
            # surveys of older versions lack some
            there = [name for name in wanted if name not in _DEFAULTS or name in names]
            part = pq.read_table(path, columns=there).to_pandas()
            parts.append(part.assign(**{name: _DEFAULTS[name] for name in wanted if name not in there}))
            # The file of an object is remembered: without it every view would read the footers of all.
            parts[-1]["part"] = path.name
        if not parts or not sum(map(len, parts)):
            raise BrowseError(f"{folder}: objects/ holds no object; failures/ says why")
        table = pd.concat(parts, ignore_index=True).rename(columns={"object_id": "name"})
        self._where = table[[*_WHERE, "part"]].astype({"part": "category"})
        self._objects, self._by_arm = table[["name", *_ROW]], table[list(ARM_ROW)]
        self.table = _page_table(self._objects)
        self._grids: dict[str, np.ndarray] = {}

    def view(self, row: int) -> SpectrumView | None:
        """See `ResultSource`."""
        where = self._where.iloc[row]
        if not self.settings.spectra:
            return None
        stored = self._rows("spectra", where)
        if not len(stored):
            raise BrowseError(f"{self.folder}: spectra/{where['part']} lacks input {where['input_row']}")
        spectrum = {name: np.asarray(stored[name].iloc[0]) for name in stored.columns[2:]}
        lines = self._rows("lines", where)
        lines["snr"] = lines["flux"] / lines["flux_error"]  # which surveys of older versions lack
        one = ResultRow(**self._objects.iloc[row].to_dict(), by_arm=self._by_arm.iloc[row].to_dict())
        stated = (one.z, one.z_error, one.z_confidence, one.z_given)
        bins = np.log1p(self._grid("redshift", "z"))
        redshift = RedshiftSummary(*stated, bins=bins, probability=spectrum["pz"].astype(np.float64))
        wavelength, broad = self._grid("output", "wavelength"), None
        if one.p_broad > LIKELY_BROAD:
            parts = (spectrum["continuum"], lines["wave_obs"].to_numpy(), lines["flux_broad"].to_numpy())
            broad = on_continuum(wavelength, *parts, one.fwhm_broad)
        return SpectrumView(
            row=one,
            prism_wavelength=self._grid("prism", "wavelength"),
            prism_flux=np.where(spectrum["prism_mask"].astype(bool), np.nan, spectrum["prism_flux"]),
            prism_error=spectrum["prism_error"],
            wavelength=wavelength,
            flux=spectrum["flux"],
            flux_error=spectrum["flux_error"],
            pz_z=redshift.grid,
            pz=redshift.density,
            lines=lines,
            broad=broad,
        )

    def observed(self, row: int) -> Given:
        """See `ResultSource`; read again from where the survey read it.

        Raises:
            BrowseError: where that is gone.
        """
        where, one = self._where.iloc[row], self.table.iloc[row]
        found = self._input(int(where["input_row"]), str(where["source"]), int(where["source_row"]))
        if found.spectrum is None:
            raise BrowseError(f"the input cannot be read any more: {found.reason}")
        if found.joint is not None:
            return Given(found.joint.prism.observed, found.joint.redshift, found.joint.gratings)
        return Given(found.spectrum.observed, float(one["z"]) if one["z_given"] else math.nan)

    def _input(self, number: int, source: str, source_row: int) -> SurveyInput:
        if source_row < 0:
            partition, place = divmod(number, self.settings.partition_size)
            planned = planned_files(self.folder, partition, number - place)[place]
            return read_file(planned, self.settings)
        try:
            settings = self.settings
            rows = (source_row, source_row + 1, number)
            return next(read_rows(source, *rows, settings.columns, settings.zero_point))
        except (OSError, StopIteration, KeyError, SpectrumError) as error:
            raise BrowseError(f"the input cannot be read any more: {source}: {error}") from None

    def _rows(self, table: str, where: pd.Series) -> pd.DataFrame:
        path = self.folder / table / where["part"]
        try:
            # A filter rather than the row number: failures leave gaps, and tables of lines have several rows
            # per input.
            return pq.read_table(path, filters=[("input_row", "=", int(where["input_row"]))]).to_pandas()
        except OSError as error:
            raise BrowseError(f"{path}: cannot be read ({error}); run the survey again to its end") from None

    def _grid(self, name: str, column: str) -> np.ndarray:
        if name not in self._grids:
            self._grids[name] = pq.read_table(self.folder / "grids" / f"{name}.parquet")[column].to_numpy()
        return self._grids[name]


class EnhanceSource:
    """Result files of ``kspecsr enhance``; a row of each is read at the start, the rest on demand.

    Args:
        path: folder, or one file.
        progress: of what it iterates over, such as tqdm.

    Raises:
        BrowseError: for a folder without a readable result.
    """

    def __init__(self, path: Path, progress: Callable[[Iterable], Iterable] = iter):
        self.title = f"Results in {path.resolve().name}"
        self._rows: list[ResultRow] = []
        self._files, self.unread = [], []
        for file in progress(result_files([path])):
            try:
                self._rows.append(read_row(file, KnownRedshifts()))
            # One damaged file must not keep the page from showing the others.
            except (ValueError, OSError) as error:
                self.unread.append(f"{file}: {error}")
                continue
            self._files.append(file)
        if not self._rows:
            raise BrowseError(f"{path}: no readable result: {'; '.join(self.unread[:3])}")
        self.table = _page_table(pd.DataFrame([asdict(row) for row in self._rows]))

    def file(self, row: int) -> Path:
        """The result file of a row."""
        return self._files[row]

    def view(self, row: int) -> SpectrumView:
        """See `ResultSource`."""
        return view_of(self._rows[row], read_result(self._files[row], SpectrumResult))

    def observed(self, row: int) -> Given:
        """See `ResultSource`; out of the result file, which holds its input."""
        one, result = self._rows[row], read_result(self._files[row], SpectrumResult)
        if result.arms is not None:
            return Given(result.observed, result.arms.given, tuple(arm.spectrum for arm in result.arms.arms))
        return Given(result.observed, one.z if one.z_given else math.nan)
