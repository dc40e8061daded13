"""Measures the cases of `kspecsr.evaluation.cases` one after the other; resumable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from data_pipeline.configuration import json_hash, software_versions
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.cases import CASES, case_source
from kspecsr.evaluation.groups import measure_methods, summarise_methods
from kspecsr.evaluation.methods import Networks, reconstructions
from kspecsr.evaluation.report import NOTHING, Row, text_table
from kspecsr.evaluation.store import ChunkStore, measure_galaxies
from kspecsr.measures.estimate import Estimate
from kspecsr.methods import Baseline, CubicInterpolation

FILE = "robustness.json"
_METHODS = ("cubic", "direct_fit", "sr2")
_VERSION = 1  # of the measurements


COLUMNS = (
    Row("NMAD", "redshift_nmad", 2, method="sr2"),
    Row(">0.15 %", "redshift_outliers_0.15", 2, method="sr2", percent=True),
    Row(">0.01 %", "redshift_outliers_0.01", 2, method="sr2", percent=True),
    Row("sure %", "redshift_confident", 3, method="sr2", percent=True),
    Row("wrong %", "redshift_confident_outliers", 2, method="sr2", percent=True),
    Row("flux", "recovery", 3, method="sr2"),
    Row("scatter", "recovery_scatter", 2, method="sr2"),
    Row("(fit)", "recovery_scatter", 2, method="direct_fit"),
    Row("false %", "false_detection", 2, method="sr2", percent=True),
    Row("core/cubic", "scale_free/core over cubic", 2, method="sr2"),
    Row("68 % lines", "coverage_68/lines", 3, method="sr2", percent=True),
    Row("continuum", "coverage_68/continuum", 3, method="sr2", percent=True),
    Row("chi2", "prism_chi_square", 2, method="sr2"),
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


def _shown(name: str) -> tuple[Row, ...]:
    if name != "noise":
        return COLUMNS
    # without a source no redshift is right: being sure of one is wrong
    sure = Row("wrong %", "false_confidence", 2, method="sr2", percent=True)
    return tuple(sure if column.title == "wrong %" else column for column in COLUMNS)


def table(found: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> str:
    """The table as text: title of the case, then `COLUMNS`."""
    rows = [["case", *(column.title for column in COLUMNS)]]
    for name, metrics in found.items():
        estimates = ((column, metrics.get(column.method, {}).get(column.metric)) for column in _shown(name))
        numbers = (NOTHING if one is None else column.number(one.value) for column, one in estimates)
        rows.append([CASES[name].title, *numbers])
    return text_table(rows)
