"""What the page needs of a place that holds results, and which place a path is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pandas as pd

from data_pipeline.spectrum import ObservedSpectrum
from kspecsr.browser.view import SpectrumView


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
        f"{path}: holds neither a survey (survey.json and objects/, of python -m kspecsr.survey) nor results "
        "(*_sr.fits, of python -m kspecsr.enhance)"
    )
