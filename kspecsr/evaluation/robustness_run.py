"""Measures the cases of `kspecsr.evaluation.cases` one after the other; resumable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.configuration import json_hash, software_versions
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.cases import CASES, case_source
from kspecsr.evaluation.groups import measure_methods, summarise_methods
from kspecsr.evaluation.methods import Networks, reconstructions
from kspecsr.evaluation.store import ChunkStore, measure_galaxies
from kspecsr.measures.estimate import Estimate
from kspecsr.methods import Baseline, CubicInterpolation

FILE = "robustness.json"
_METHODS = ("cubic", "direct_fit", "sr2")
_VERSION = 1  # of the measurements


@dataclass(frozen=True)
class Column:
    """A figure of the table.

    Attributes:
        title: short.
        method: of which.
        metric: its name.
        digits: significant ones.
        percent: shown as a percentage.
    """

    title: str
    method: str
    metric: str
    digits: int = 2
    percent: bool = False

    def text(self, found: Mapping[str, Mapping[str, Estimate]]) -> str:
        """The figure of a case; a dash where nothing was measured."""
        estimate = found.get(self.method, {}).get(self.metric)
        if estimate is None or not np.isfinite(estimate.value):
            return "-"
        value = 100.0 * estimate.value if self.percent else estimate.value
        return f"{value:.{self.digits}g}"


COLUMNS = (
    Column("NMAD", "sr2", "redshift_nmad"),
    Column(">0.15 %", "sr2", "redshift_outliers_0.15", percent=True),
    Column(">0.01 %", "sr2", "redshift_outliers_0.01", percent=True),
    Column("sure %", "sr2", "redshift_confident", 3, percent=True),
    Column("wrong %", "sr2", "redshift_confident_outliers", percent=True),
    Column("flux", "sr2", "recovery", 3),
    Column("scatter", "sr2", "recovery_scatter"),
    Column("(fit)", "direct_fit", "recovery_scatter"),
    Column("false %", "sr2", "false_detection", percent=True),
    Column("core/cubic", "sr2", "scale_free/core over cubic"),
    Column("68 % lines", "sr2", "coverage_68/lines", 3, percent=True),
    Column("continuum", "sr2", "coverage_68/continuum", 3, percent=True),
    Column("chi2", "sr2", "prism_chi_square"),
)
EXPLANATION = (
    "NMAD of dz/(1+z), redshift inferred; >: off by more; sure: Z_CONF > 0.9; wrong: of these off by more "
    "than 0.01 (without a source: share that is sure); flux: recovered over true, lines of prism S/N > 5, "
    "and its robust scatter [ln], (fit): that of the direct fit at the true redshift; false: detections "
    "where there is no line; core/cubic: scale-free error in line cores over that of cubic interpolation; "
    "68 %: coverage of line fluxes and of continuum pixels; chi2: prism consistency."
)


def measure_cases(
    names: Iterable[str],
    networks: Networks,
    model_hash: str,
    grid: UnifiedGrid,
    n: int,
    output: Path,
    quiet=False,
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Case to method to metric to estimate; written to ``robustness.json`` too.

    Args:
        names: of `CASES`.
        networks: model under judgement.
        model_hash: its weights'.
        grid: of the model.
        n: galaxies of each case.
        output: folder.
        quiet: no progress bar.
    """
    cubic: dict[str, Baseline] = {"cubic": CubicInterpolation()}
    found = {}
    names = list(names)
    with tqdm(total=n * len(names), desc="cases", unit="galaxy", delay=2, disable=quiet) as bar:
        for name in names:
            source = case_source(CASES[name], grid)
            parts = {"version": _VERSION, "model": model_hash, "data": source.description}
            chunk = measure_galaxies(
                source,
                n,
                lambda held_out: measure_methods(
                    held_out, reconstructions(held_out, _METHODS, networks, cubic)
                ),
                ChunkStore(output / "measured" / name, json_hash(parts)),
                bar.update,
            )
            found[name] = summarise_methods(chunk)
    content = {
        "model": model_hash,
        "galaxies": n,
        "software": software_versions("keras", "tensorflow"),
        "cases": {
            name: {
                "title": CASES[name].title,
                "metrics": {
                    f"{column.method}/{column.metric}": found[name][column.method][column.metric].as_json()
                    for column in _shown(name)
                    if column.metric in found[name].get(column.method, {})
                },
            }
            for name in names
        },
        "columns": [asdict(column) for column in COLUMNS],
    }
    with replacing(output / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    return found


def _shown(name: str) -> tuple[Column, ...]:
    if name != "noise":
        return COLUMNS
    # without a source no redshift is right: being sure of one is wrong
    sure = Column("wrong %", "sr2", "false_confidence", percent=True)
    return tuple(sure if column.title == "wrong %" else column for column in COLUMNS)


def rows(found: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> list[list[str]]:
    """Texts of the table: title of the case, then `COLUMNS`."""
    return [
        [CASES[name].title, *(column.text(metrics) for column in _shown(name))]
        for name, metrics in found.items()
    ]


def table(found: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> str:
    """The table as text."""
    cells = [["case", *(column.title for column in COLUMNS)], *rows(found)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
