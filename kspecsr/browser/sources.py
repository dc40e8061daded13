"""Results of ``kspecsr survey``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.io import fits

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumMeta
from kspecsr.browser.view import LINE_COLUMNS, TABLE_COLUMNS, BrowseError, SpectrumView
from kspecsr.results.flags import detection
from kspecsr.results.lines import LIKELY, LIMIT_SIGMA
from kspecsr.results.table import SUFFIX, read_row, result_files
from kspecsr.surveys.output import read_manifest
from kspecsr.surveys.plan import PlannedFile
from kspecsr.surveys.reading import SurveyInput, read_planned_file, read_rows

_DERIVED = "brightest_snr"
_MORE = ("input_row", "source", "source_row", "brightest_flux", "brightest_flux_error")


class SurveySource:
    """A survey's tables; the table of objects is held in memory, spectra and lines are read on demand.

    Args:
        folder: with ``survey.json``.
        progress: of what it iterates over, such as tqdm.

    Raises:
        BrowseError: for a survey without an object.
    """

    def __init__(self, folder: Path, progress: Callable[[Iterable], Iterable] = iter):
        self.folder = folder
        self.settings = read_manifest(folder)
        self.title = f"survey {folder.resolve().name}"
        columns = [name for name in TABLE_COLUMNS if name != _DERIVED] + list(_MORE)
        parts = []
        for path in progress(sorted((folder / "objects").glob("part-*.parquet"))):
            parts.append(pq.read_table(path, columns=columns).to_pandas())
            parts[-1]["part"] = path.name
        if not parts or not sum(map(len, parts)):
            raise BrowseError(f"{folder}: objects/ holds no object; failures/ says why")
        table = pd.concat(parts, ignore_index=True)
        table[_DERIVED] = table["brightest_flux"] / table["brightest_flux_error"]
        table["part"] = table["part"].astype("category")
        self._where = table[["input_row", "source", "source_row", "part"]]
        self.table = table[list(TABLE_COLUMNS)]
        self._grids: dict[str, np.ndarray] = {}

    def view(self, row: int) -> SpectrumView | None:
        """See `ResultSource`."""
        where, one = self._where.iloc[row], self.table.iloc[row]
        if not self.settings.spectra:
            return None
        stored = self._rows("spectra", where)
        if not len(stored):
            raise BrowseError(f"{self.folder}: spectra/{where['part']} lacks input {where['input_row']}")
        spectrum = {name: np.asarray(stored[name].iloc[0]) for name in stored.columns[2:]}
        lines = self._rows("lines", where)
        lines["snr"] = lines["flux"] / lines["flux_error"]
        z = self._grid("redshift", "z")
        return SpectrumView(
            name=str(one["object_id"]),
            z=float(one["z"]),
            z_error=float(one["z_error"]),
            confidence=float(one["z_confidence"]),
            given=bool(one["z_given"]),
            flags=str(one["flags"]),
            chi_square=float(one["chi_square"]),
            prism_wavelength=self._grid("prism", "wavelength"),
            prism_flux=np.where(spectrum["prism_mask"].astype(bool), np.nan, spectrum["prism_flux"]),
            prism_error=spectrum["prism_error"],
            wavelength=self._grid("output", "wavelength"),
            flux=spectrum["flux"],
            flux_error=spectrum["flux_error"],
            pz_z=z,
            pz=spectrum["pz"] / np.gradient(z),
            lines=lines[list(LINE_COLUMNS)].reset_index(drop=True),
        )

    def observed(self, row: int) -> tuple[ObservedSpectrum, float]:
        """See `ResultSource`; read again from where the survey read it.

        Raises:
            BrowseError: where that is gone.
        """
        where, one = self._where.iloc[row], self.table.iloc[row]
        found = self._input(int(where["input_row"]), str(where["source"]), int(where["source_row"]))
        if found.spectrum is None:
            raise BrowseError(f"the input cannot be read any more: {found.reason}")
        return found.spectrum.observed, float(one["z"]) if one["z_given"] else math.nan

    def _input(self, number: int, source: str, source_row: int) -> SurveyInput:
        if source_row < 0:
            return read_planned_file(number, PlannedFile(source), self.settings.extraction)
        try:
            return next(read_rows(source, source_row, source_row + 1, number, self.settings.columns))
        except (OSError, StopIteration, KeyError) as error:
            raise BrowseError(f"the input cannot be read any more: {source}: {error}") from None

    def _rows(self, table: str, where: pd.Series) -> pd.DataFrame:
        path = self.folder / table / where["part"]
        try:
            return pq.read_table(path, filters=[("input_row", "=", int(where["input_row"]))]).to_pandas()
        except OSError as error:
            raise BrowseError(f"{path}: cannot be read ({error}); run the survey again to its end") from None

    def _grid(self, name: str, column: str) -> np.ndarray:
        if name not in self._grids:
            self._grids[name] = pq.read_table(self.folder / "grids" / f"{name}.parquet")[column].to_numpy()
        return self._grids[name]


class EnhanceSource:
    """Result files; their headers and line tables are read at the start, the rest on demand.

    Args:
        path: folder, or one file.
        progress: of what it iterates over, such as tqdm.

    Raises:
        BrowseError: for a folder without a readable result.
    """

    def __init__(self, path: Path, progress: Callable[[Iterable], Iterable] = iter):
        self.title = f"results in {path.resolve().name}"
        rows, self._files, self.unread = [], [], []
        for file in progress(result_files([path])):
            try:
                rows.append(_table_row(file))
            except (ValueError, OSError, KeyError) as error:
                self.unread.append(f"{file}: {error}")
                continue
            self._files.append(file)
        if not rows:
            raise BrowseError(f"{path}: no readable result: {'; '.join(self.unread[:3])}")
        self.table = pd.DataFrame(rows, columns=list(TABLE_COLUMNS))

    def file(self, row: int) -> Path:
        """The result file of a row."""
        return self._files[row]

    def view(self, row: int) -> SpectrumView:
        """See `ResultSource`."""
        one = self.table.iloc[row]
        with fits.open(self._files[row]) as hdus:
            spectrum, pz = _columns(hdus["SPEC1D"]), _columns(hdus["PZ"])
            lines, given = _columns(hdus["LINES"]), _columns(hdus["INPUT"])
            unit, given_unit = _flux_unit(hdus["SPEC1D"]), _flux_unit(hdus["INPUT"])
        sharp, prism = spectrum["WAVELENGTH"], given["WAVELENGTH"]
        table = pd.DataFrame(
            {
                "line": [str(name).strip() for name in lines["NAME"]],
                "wave_rest": lines["WAVE_REST"],
                "wave_obs": lines["WAVE_OBS"],
                "flux": lines["FLUX"],
                "flux_error": lines["FLUX_ERR"],
                "snr": lines["SNR"],
                "presence": lines["PRESENCE"],
                "prior_weight": lines["PRIOR_WEIGHT"],
            }
        )
        return SpectrumView(
            name=str(one["object_id"]),
            z=float(one["z"]),
            z_error=0.0 if one["z_given"] else float(one["z_error"]),
            confidence=float(one["z_confidence"]),
            given=bool(one["z_given"]),
            flags=str(one["flags"]),
            chi_square=float(one["chi_square"]),
            prism_wavelength=prism,
            prism_flux=np.where(given["MASK"], np.nan, _density(given["FLUX"], given_unit, prism)),
            prism_error=_density(given["FLUX_ERR"], given_unit, prism),
            wavelength=sharp,
            flux=_density(spectrum["FLUX"], unit, sharp),
            flux_error=_density(spectrum["FLUX_ERR"], unit, sharp),
            pz_z=pz["Z"],
            pz=pz["PDF"],
            lines=table[lines["IN_RANGE"] & np.isfinite(lines["FLUX"])].reset_index(drop=True),
        )

    def observed(self, row: int) -> tuple[ObservedSpectrum, float]:
        """See `ResultSource`; out of the result file, which holds its input."""
        one = self.table.iloc[row]
        with fits.open(self._files[row]) as hdus:
            header, given, unit = hdus[0].header, _columns(hdus["INPUT"]), _flux_unit(hdus["INPUT"])
            meta = SpectrumMeta(
                target=str(header.get("TARGET", "")),
                source_id=str(header.get("SOURCEID", "")),
                tier=str(header.get("TIER", "")),
                ra=float(header.get("RA", math.nan)),
                dec=float(header.get("DEC", math.nan)),
                path=str(header.get("INPUT", "")),
            )
        observed = ObservedSpectrum.from_quantities(
            u.Quantity(given["WAVELENGTH"], u.um),
            u.Quantity(given["FLUX"], unit),
            u.Quantity(given["FLUX_ERR"], unit),
            given["MASK"],
            meta,
        )
        return observed, float(one["z"]) if one["z_given"] else math.nan


def _table_row(path: Path) -> dict:
    row = read_row(path, KnownRedshifts())
    with fits.open(path) as hdus:
        given, lines = _columns(hdus["INPUT"]), _columns(hdus["LINES"])
    mask = given["MASK"] | ~np.isfinite(given["FLUX"]) | ~(given["FLUX_ERR"] > 0)
    _, feature = detection(given["FLUX"], given["FLUX_ERR"], mask)
    sure = (np.nan_to_num(lines["SNR"]) > LIMIT_SIGMA) & (np.nan_to_num(lines["PRESENCE"]) > LIKELY)
    return {
        "object_id": path.name.removesuffix(SUFFIX),
        "z": row.redshift,
        "z_error": row.error,
        "z_confidence": row.confidence,
        "z_given": row.given,
        "sn_pixel": float(np.median(given["FLUX"][~mask] / given["FLUX_ERR"][~mask]))
        if (~mask).any()
        else 0.0,
        "sn_feature": feature,
        "chi_square": row.chi_square,
        "lines_detected": int(sure.sum()),
        "brightest_line": row.line,
        "brightest_snr": row.flux / row.flux_error,
        "flags": row.flags,
    }


def _columns(hdu: fits.BinTableHDU) -> dict[str, np.ndarray]:
    """Columns in the machine's byte order: FITS has the other one."""
    found = {}
    for name in hdu.columns.names:
        values = np.asarray(hdu.data[name])
        found[name] = values.astype(np.float64) if values.dtype.kind == "f" else np.array(values)
    return found


def _flux_unit(hdu: fits.BinTableHDU) -> u.UnitBase:
    return u.Unit(hdu.columns["FLUX"].unit)


def _density(values: np.ndarray, unit: u.UnitBase, wavelength: np.ndarray) -> np.ndarray:
    """In erg/s/cm2/A."""
    if unit.is_equivalent(FLUX_UNIT):
        return values * unit.to(FLUX_UNIT)
    return (values * unit).to_value(FLUX_UNIT, u.spectral_density(wavelength * u.um))
