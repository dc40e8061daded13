"""Results read back from FITS and ECSV files."""

import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy.io import fits

from data_pipeline.lines import list_naming, list_of, load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.readers.own import FORMAT_KEYWORD, NUMBER_KEYWORDS, RESULT_FORMAT
from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumMeta
from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results.arm_files import NAMES, read_arms
from kspecsr.results.broad import BroadLines
from kspecsr.results.data import ModelIdentity, SpectrumResult, converted, usable_unit
from kspecsr.results.files import (
    BROAD_CARDS,
    CARD_LENGTH,
    CLASS_CHANCE,
    COVARIANCE,
    FIT,
    GIVEN,
    INPUT_NAME,
    KEPT,
    META_CARDS,
    MODEL_HASH,
    MOST_MODES,
    NO_REDSHIFT,
    QUANTILES,
    SOURCE,
    SPECTRUM_COLUMNS,
    STATED,
    VERSION,
    Z_SOURCE,
    lines_path,
)
from kspecsr.results.lines import BROAD_COLUMNS, LINE_COLUMNS, LINE_FLUX_UNIT, LineMeasurements
from kspecsr.results.prism_input import PrismInput, model_of_prism, prism_input, prism_wavelength
from kspecsr.results.redshift import RedshiftMode, RedshiftSummary, find_modes, unsmoothed

SomeResult = TypeVar("SomeResult", bound=SpectrumResult)


def read_result(path: str | os.PathLike, kind: type[SomeResult]) -> SomeResult:
    """Reads a result file; see `kspecsr.results.result.Result.read`.

    Args:
        path: FITS or ECSV file.
        kind: class of the result.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # astropy only warns of a truncated file
            fields = _read_ecsv(path) if path.suffix.lower() == ".ecsv" else _read_fits(path)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, fits.VerifyError, Warning) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: no readable result ({text}); make it again with kspecsr enhance") from None
    return kind(**fields)


def _read_fits(path: Path) -> dict[str, Any]:
    # Results are small; a mapped file would stay open until the last of its arrays is gone.
    with fits.open(path, memmap=False) as hdus:
        cards = dict(hdus[0].header) | {"HISTORY": list(hdus[0].header.get("HISTORY", ()))}
        _check_layout(cards)
        spectrum, lines, pz, observed = (_columns(hdus[name]) for name in ("SPEC1D", "LINES", "PZ", "INPUT"))
        unit, modes = hdus["SPEC1D"].columns["FLUX"].unit, hdus["PZ"].header
        covariance = _columns(hdus["LINECOV"]) if "LINECOV" in hdus else None
        arms = {name: _columns(hdus[name]) for name in NAMES if name in hdus}
        # older files have them as comments of the input
        notes = _notes(cards.get("HISTORY") or hdus["INPUT"].header.get("COMMENT", ()))
    fields = _shared_fields(cards, spectrum, lines, unit)
    fields["arms"] = read_arms(cards, arms, spectrum.get(SOURCE))
    if covariance is not None:
        fields["measurements"] = _with_correlation(fields["measurements"], covariance)
    wavelength = observed["WAVELENGTH"]
    flux, error = (
        converted(observed[name], usable_unit(unit), FLUX_UNIT, wavelength) for name in ("FLUX", "FLUX_ERR")
    )
    given = prism_input(
        ObservedSpectrum(wavelength, flux, error, observed["MASK"], replace(_meta(cards, unit), notes=notes))
    )
    numbers = [number for number in range(1, MOST_MODES + 1) if f"ZMODE{number}" in modes]
    stated = [tuple(modes[f"{key}{number}"] for key in ("ZMODE", "ZMERR", "ZMASS")) for number in numbers]
    redshift = _stored_redshift(cards, stated, pz["Z"], pz["PDF"])
    return (
        fields
        | _prism_fields(given)
        | {
            "redshift": redshift,
            # degraded again and not stored: it follows from the output, and a stored copy could disagree
            "prism_model": model_of_prism(fields["flux"], fields["mask"], fields["model"].grid),
        }
    )


def _read_ecsv(path: Path) -> dict[str, Any]:
    from astropy.table import QTable  # slow to import: only for text tables

    spectrum, lines = (QTable.read(file, format="ascii.ecsv") for file in (path, lines_path(path)))
    cards, unit = spectrum.meta, spectrum["FLUX"].unit.to_string()
    _check_layout(cards)
    table = _plain(lines)
    fields = _shared_fields(cards, _plain(spectrum), table, unit)
    if COVARIANCE in table:
        fields["measurements"] = _with_correlation(fields["measurements"], table)
    empty, unknown = np.zeros(0), np.full(prism_wavelength().size, np.nan)
    meta = replace(_meta(cards, unit), notes=tuple(cards.get("HISTORY") or ()))
    observed = ObservedSpectrum(empty, empty, empty, empty.astype(bool), meta)
    stated = [(mode["z"], mode["error"], mode["mass"]) for mode in cards["PZ_MODES"]]
    return (
        fields
        | {"arms": read_arms(cards, {}, spectrum[SOURCE] if SOURCE in spectrum.colnames else None)}
        | _prism_fields(PrismInput(observed, unknown, unknown, np.isnan(unknown)))
        | {
            "redshift": _stored_redshift(cards, stated, empty, empty),
            "prism_model": unknown,
        }
    )


def _check_layout(cards: Mapping[str, Any]) -> None:
    if cards.get(FORMAT_KEYWORD) != RESULT_FORMAT:
        raise ValueError(f"{FORMAT_KEYWORD} is {cards.get(FORMAT_KEYWORD)!r}, expected {RESULT_FORMAT!r}")


def _columns(hdu: fits.BinTableHDU) -> dict[str, np.ndarray]:
    """Columns in the machine's byte order: FITS has the other one."""
    return _plain({name: hdu.data[name] for name in hdu.columns.names})


def _plain(table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns as float64, bool or text without units."""
    found = {}
    for name in getattr(table, "colnames", table):  # a QTable would yield its rows
        values = np.asarray(getattr(table[name], "value", table[name]))
        found[name] = values.astype(np.float64) if values.dtype.kind == "f" else np.array(values)
    return found


def _notes(comments: Iterable[str]) -> tuple[str, ...]:
    """Remarks of the reader, which may go on over several cards."""
    notes, goes_on = [], False
    for card in map(str, comments):
        if goes_on:
            notes[-1] = notes[-1].ljust(CARD_LENGTH * (1 + (len(notes[-1]) - 1) // CARD_LENGTH)) + card
        else:
            notes.append(card)
        goes_on = len(card) >= CARD_LENGTH - 1  # a space at the end of a card is lost
    return tuple(notes)


def _meta(cards: Mapping[str, Any], unit: str) -> SpectrumMeta:
    texts = {name: str(cards.get(keyword) or "") for name, (keyword, _) in META_CARDS.items()}
    numbers = {name: _value(cards.get(keyword)) for name, keyword in NUMBER_KEYWORDS.items()}
    return SpectrumMeta(path=str(cards[INPUT_NAME] or ""), flux_unit=unit, **texts, **numbers)


def _value(number: Any) -> float:
    return math.nan if number is None or isinstance(number, str | fits.card.Undefined) else float(number)


def _shared_fields(
    cards: Mapping[str, Any], spectrum: Mapping[str, np.ndarray], lines: Mapping[str, np.ndarray], unit: str
) -> dict[str, Any]:
    """Fields that both formats hold."""
    wavelength = spectrum["WAVELENGTH"]
    fields = {
        attribute: spectrum[name]
        if name == "MASK"
        else converted(spectrum[name], usable_unit(unit), FLUX_UNIT, wavelength)
        for name, (attribute, _) in SPECTRUM_COLUMNS.items()
    }
    software = {
        name.removeprefix(VERSION).lower(): text for name, text in cards.items() if name.startswith(VERSION)
    }
    grid = UnifiedGrid(cards["GRIDLO"], cards["GRIDHI"], cards["GRIDSAMP"])
    known = list_naming(str(name).strip() for name in lines["NAME"])
    return fields | {
        "wavelength": wavelength,
        "model": ModelIdentity(cards["MODEL"], cards[MODEL_HASH], grid, software, known),
        "measurements": replace(_measurements(lines), broad=_broad(cards, lines)),
        "chi_square": _value(cards["CHI2NU"]),
        "lines_kept": bool(cards.get(KEPT)),
        "fit_probability": _value(cards.get(FIT)),
        "class_probability": {
            name: _value(cards[f"{CLASS_CHANCE}{number}"])
            for number, name in enumerate(OBJECT_CLASSES, start=1)
            if f"{CLASS_CHANCE}{number}" in cards
        },
        "flags": tuple(filter(None, cards["FLAGS"].split(","))),
        "date": cards["DATE"],
        "stated": {keyword: cards[keyword] for keyword in STATED if keyword in cards},
    }


def _rows(table: Mapping[str, np.ndarray]) -> np.ndarray:
    """(K,) rows of the lines of the file's list; -1 of lines that the file does not know."""
    # By name: results may be older or newer than the lists of lines that are installed.
    names = {str(name).strip(): row for row, name in enumerate(table["NAME"])}
    return np.array([names.get(name, -1) for name in load_lines(list_naming(names)).names])


def _broad(cards: Mapping[str, Any], table: Mapping[str, np.ndarray]) -> BroadLines | None:
    """Broad components of a file; None without."""
    parts = {name: c.attribute for name, c in BROAD_COLUMNS.items() if c.unit == LINE_FLUX_UNIT}
    if not table.keys() >= parts.keys():
        return None
    rows = _rows(table)
    fluxes = {to: np.where(rows < 0, np.nan, table[name][rows]) for name, to in parts.items()}
    return BroadLines(**{name: _value(cards.get(key)) for name, (key, _) in BROAD_CARDS.items()}, **fluxes)


def _measurements(table: Mapping[str, np.ndarray]) -> LineMeasurements:
    """Lines of a file in the order of its list; one that the file does not know is out of range."""
    rows = _rows(table)
    fields = LineMeasurements.__dataclass_fields__
    columns = {c.attribute: table[name][rows] for name, c in LINE_COLUMNS.items() if c.attribute in fields}
    columns["in_range"] = columns["in_range"] & (rows >= 0)
    unknown = rows < 0
    for name in columns.keys() - {"in_range"}:
        columns[name] = np.where(unknown, 0.0 if name == "presence" else np.nan, columns[name])
    return LineMeasurements(**columns)


def _with_correlation(lines: LineMeasurements, table: Mapping[str, np.ndarray]) -> LineMeasurements:
    """The lines with the correlations that follow from a table of covariances."""
    known = list_of(lines.flux.size)
    names = [str(name).strip() for name in table["NAME"]]
    there = np.isin(names, known.names)  # results may be newer than the list of lines
    rows = [known.index(name) for name in np.array(names)[there]]
    correlation = np.full((len(known), len(known)), np.nan)
    error, covariance = lines.flux_error[rows], table[COVARIANCE].reshape(len(names), len(names))
    correlation[np.ix_(rows, rows)] = covariance[np.ix_(there, there)] / error[:, None] / error
    return replace(lines, correlation=correlation)


def _prism_fields(given: PrismInput) -> dict[str, Any]:
    return {
        "observed": given.observed,
        "prism_wavelength": prism_wavelength(),
        "prism_flux": given.flux,
        "prism_error": given.error,
        "prism_mask": given.mask,
    }


@dataclass(frozen=True, eq=False)
class StoredRedshift(RedshiftSummary):
    """The redshift as a file states it; ``probability`` follows from the density.

    Attributes:
        stated_modes: modes of P(z), the heaviest first.
        stated_grid: (Z,) redshifts; empty where the file has no P(z).
        stated_density: (Z,) probability per unit of z.
        stated_quantiles: share of P(z) to redshift.
    """

    stated_modes: tuple[RedshiftMode, ...]
    stated_grid: np.ndarray
    stated_density: np.ndarray
    stated_quantiles: Mapping[float, float]

    @property
    def modes(self) -> tuple[RedshiftMode, ...]:
        """Modes of P(z), the heaviest first."""
        return self.stated_modes

    @property
    def grid(self) -> np.ndarray:
        """(Z,) redshifts of the bins."""
        return self.stated_grid

    @property
    def density(self) -> np.ndarray:
        """(Z,) probability per unit of z at `grid`."""
        return self.stated_density

    def quantile(self, share: float | Iterable[float]) -> np.ndarray:
        """Redshift below which this share of P(z) lies; without P(z), shares that the file states.

        Raises:
            ValueError: for another share where the file has no P(z).
        """
        shares = np.asarray(share, dtype=np.float64)
        if set(shares.ravel().tolist()) <= set(self.stated_quantiles):
            return np.array([self.stated_quantiles[s] for s in shares.ravel().tolist()]).reshape(shares.shape)
        if not self.bins.size:
            known = ", ".join(f"{s:g}" for s in self.stated_quantiles)
            raise ValueError(f"this file states the quantiles {known} of P(z) only; FITS results have P(z)")
        return super().quantile(shares)


def _stored_redshift(
    cards: Mapping[str, Any], stated: list[tuple[float, float, float]], grid: np.ndarray, density: np.ndarray
) -> StoredRedshift:
    """The redshift of a file.

    Args:
        cards: provenance.
        stated: redshift, error and mass of the modes.
        grid: (Z,) redshifts; empty where the file has no P(z).
        density: (Z,) probability per unit of z.
    """
    # From its ends: the bins are even in ln(1 + z), and the logarithm of stored redshifts is so only to
    # rounding.
    bins = np.linspace(*np.log1p(grid[[0, -1]]), grid.size) if grid.size else grid
    probability = unsmoothed(density, bins) if grid.size else density
    found = find_modes(probability, bins)
    modes = []
    for redshift, error, mass in stated:
        ends = next(((m.low, m.high) for m in found if m.low <= redshift <= m.high), (math.nan, math.nan))
        modes.append(RedshiftMode(redshift, error, mass, *ends))
    return StoredRedshift(
        value=_value(cards["Z"]),
        error=_value(cards["Z_ERR"]),
        confidence=_value(cards["Z_CONF"]),
        given=cards[Z_SOURCE] == GIVEN,
        bins=bins,
        probability=probability,
        stated_modes=tuple(modes),
        stated_grid=grid,
        stated_density=density,
        stated_quantiles={share: _value(cards[key]) for key, share in QUANTILES.items()},
        none=_value(cards.get(NO_REDSHIFT)),
    )
