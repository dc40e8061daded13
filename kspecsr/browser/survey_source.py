"""Results of ``python -m kspecsr.survey``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data_pipeline.spectrum import ObservedSpectrum
from kspecsr.browser.source import BrowseError
from kspecsr.browser.view import LINE_COLUMNS, TABLE_COLUMNS, SpectrumView
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
