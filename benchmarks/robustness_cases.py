"""Robustness: kinds of spectra that real files hold and usual held-out galaxies are not, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.configuration import json_hash, software_versions
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import SimulationConfig
from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.methods import TEMPLATES, Networks, reconstructions
from kspecsr.evaluation.model_card import ROBUSTNESS_FILE
from kspecsr.evaluation.report import NOTHING, Row, text_table
from kspecsr.evaluation.sources import MINIMUM_LINE_SNR, SHIPPED_SEED, SURVEY, SimulatedHeldOut
from kspecsr.evaluation.store import ChunkStore, measure_galaxies
from kspecsr.evaluation.topics import measure_methods, summarise_methods
from kspecsr.feeds.simulated import simulation_config
from kspecsr.measures.estimate import Estimate
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.lines import line_wavelengths
from kspecsr.methods.baseline import Baseline, CubicInterpolation

_DRIFT = 0.3  # natural log, from the middle of the range to its ends


@dataclass(frozen=True)
class Case:
    """Held-out galaxies that share a difficulty.

    Attributes:
        title: in words.
        population: fields of the simulator's population that differ from the survey's.
        nuisances: fields of its nuisances that differ.
        feed: fields of the prism's defects that differ.
        minimum_line_snr: of the best line in the gratings; 0 keeps all.
        breaks: whether redshifts are known by breaks: a template fit is judged beside where it is asked for.
        keep: galaxies that belong to the case, (B,) bool; None for all.
        change: done to the galaxies; None for nothing.
    """

    title: str
    population: Mapping[str, object] = field(default_factory=dict)
    nuisances: Mapping[str, object] = field(default_factory=dict)
    feed: Mapping[str, object] = field(default_factory=dict)
    minimum_line_snr: float = MINIMUM_LINE_SNR
    breaks: bool = False
    keep: Callable[[HeldOut], np.ndarray] | None = None
    change: Callable[[HeldOut], HeldOut] | None = None


@dataclass(frozen=True)
class CaseSource:
    """A `HeldOutSource` of a case's galaxies.

    Attributes:
        case: which.
        simulated: galaxies before some are kept and changed.
    """

    case: Case
    simulated: SimulatedHeldOut

    @property
    def grid(self) -> UnifiedGrid:
        """Of the targets."""
        return self.simulated.grid

    @property
    def description(self) -> dict:
        """What the galaxies are, as plain JSON values."""
        return {**self.simulated.description, "case": self.case.title}

    def chunk(self, number: int) -> HeldOut:
        """See `HeldOutSource`; there is no last chunk."""
        made = self.simulated.chunk(number)
        if self.case.keep is not None:
            made = made.rows(self.case.keep(made))
        return made if self.case.change is None else self.case.change(made)


def case_source(
    case: Case, grid: UnifiedGrid, seed: int = SHIPPED_SEED, population: str = SURVEY.population
) -> CaseSource:
    """The galaxies of a case: another seed, or population, gives others."""
    feed = replace(SURVEY, population=population, **case.feed)
    usual = simulation_config(feed)
    simulation = SimulationConfig(
        replace(usual.population, **case.population), replace(usual.nuisances, **case.nuisances)
    )
    return CaseSource(
        case,
        SimulatedHeldOut(grid, seed, feed, minimum_line_snr=case.minimum_line_snr, simulation=simulation),
    )


def _snr(low: float, high: float) -> Callable[[HeldOut], np.ndarray]:
    def keep(made: HeldOut) -> np.ndarray:
        return (made.continuum_snr >= low) & (made.continuum_snr < high)

    return keep


def _with_drift(made: HeldOut) -> HeldOut:
    """The prism's flux scale drifts over the range by a smooth factor, and the truth with it."""
    start, stop = np.log(0.6), np.log(5.3)
    sign = np.where(made.galaxy % 2 == 0, 1.0, -1.0)[:, None]
    bent = (made.galaxy % 4 >= 2)[:, None]

    def factor(wavelength: np.ndarray) -> np.ndarray:
        x = 2.0 * (np.log(wavelength) - start) / (stop - start) - 1.0
        return np.exp(_DRIFT * sign * np.where(bent, x**2, x))

    on_prism, on_grid = factor(load_instrument(PRISM).wavelength), factor(made.grid.wavelength)
    observed = line_wavelengths(made.redshift, made.line_flux.shape[1])
    on_lines = np.where(made.line_known, factor(np.where(made.line_known, observed, 1.0)), 1.0)
    return replace(
        made,
        prism_flux=made.prism_flux * on_prism,
        prism_error=np.where(made.prism_mask, made.prism_error, made.prism_error * on_prism),
        target_flux=made.target_flux * on_grid,
        target_continuum=made.target_continuum * on_grid,
        line_flux=made.line_flux * on_lines,
    )


_OTHERS = ("broad_line_fraction", "quiescent_fraction", "post_starburst_fraction", "noise_fraction")


def _only(kind: str, **more: float) -> dict:
    return {**{name: float(name == f"{kind}_fraction") for name in _OTHERS}, "quasar_fraction": 0.0, **more}


def _flat(low: float, high: float) -> dict:
    """Star-forming galaxies: other kinds keep to redshifts of their own, and have their own cases."""
    return {**_only("no"), "flat_redshift_fraction": 1.0, "redshift_range": (low, high)}


def _released(name: str) -> Case:
    """Another reduction, with right errors."""
    return Case(
        f"as released by {name}",
        population={"releases": {name: 1.0}},
        nuisances={"quoted_error": 1.0, "quoted_error_scatter": 0.0},
    )


CASES: dict[str, Case] = {
    "survey": Case("as JADES, what the summary is of"),
    "partial": Case("range cut at one end", feed={"truncated_fraction": 1.0}),
    "gap": Case("a stretch of 5-60 pixels missing", feed={"gap_fraction": 1.0}),
    "bad_pixels": Case("5 % of the pixels masked", nuisances={"bad_pixel_fraction": 0.05}),
    "outliers": Case(
        "unflagged outliers, 1 % of detector pixels (20 times as many)", nuisances={"outlier_fraction": 0.01}
    ),
    **{name: _released(name) for name in ("gto-674", "dja-v1", "dja-v2", "dja-v4", "stsci")},
    "uniform": Case(
        "R of a uniformly lit shutter (1.00 x the table)",
        nuisances={"prism_resolution_scale": 1.0, "prism_resolution_scatter": 0.0},
    ),
    "point": Case(
        "R of a point source (1.35 x the table)",
        nuisances={"prism_resolution_scale": 1.35, "prism_resolution_scatter": 0.0},
    ),
    "errors_0.7": Case(
        "quoted errors 0.7 of the noise", nuisances={"quoted_error": 0.7, "quoted_error_scatter": 0.0}
    ),
    "errors_1.5": Case(
        "quoted errors 1.5 times the noise", nuisances={"quoted_error": 1.5, "quoted_error_scatter": 0.0}
    ),
    "drift": Case("flux scale drifting by 30 % to either end", change=_with_drift),
    "z_0.1-1": Case("z 0.1-1, flat", population=_flat(0.1, 1.0)),
    "z_1-3": Case("z 1-3, flat", population=_flat(1.0, 3.0)),
    "z_3-6": Case("z 3-6, flat", population=_flat(3.0, 6.0)),
    "z_6-9": Case("z 6-9, flat", population=_flat(6.0, 9.0)),
    "z_9-14.5": Case("z 9-14.5, flat", population=_flat(9.0, 14.5)),
    "snr_0.3-1": Case(
        "S/N 0.3-1 per pixel", population={"line_sn_median": 15.0}, minimum_line_snr=0.0, keep=_snr(0.3, 1.0)
    ),
    "snr_1-3": Case("S/N 1-3 per pixel", keep=_snr(1.0, 3.0)),
    "snr_3-10": Case("S/N 3-10 per pixel", keep=_snr(3.0, 10.0)),
    "snr_10-30": Case("S/N 10-30 per pixel", population={"line_sn_median": 120.0}, keep=_snr(10.0, 30.0)),
    "snr_30-100": Case("S/N 30-100 per pixel", population={"line_sn_median": 400.0}, keep=_snr(30.0, 100.0)),
    "snr_100-300": Case(
        "S/N 100-300 per pixel", population={"line_sn_median": 1600.0}, keep=_snr(100.0, 300.0)
    ),
    "broad_line": Case("broad-line objects", population=_only("broad_line")),
    "quiescent": Case("quiescent galaxies", population=_only("quiescent"), minimum_line_snr=0.0, breaks=True),
    "post_starburst": Case(
        "post-starburst galaxies", population=_only("post_starburst"), minimum_line_snr=0.0, breaks=True
    ),
    "noise": Case("no source at all", population=_only("noise"), minimum_line_snr=0.0),
}


# ---- measuring them


_METHODS = ("cubic", "direct_fit", "sr2")
_VERSION = 2  # of the measurements

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


def measure_cases(
    names: Iterable[str],
    networks: Networks,
    model_hash: str,
    grid: UnifiedGrid,
    n: int,
    output: Path,
    quiet: bool = False,
    population: str = SURVEY.population,
    templates: bool = False,
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
        population: of the galaxies, where a case does not say otherwise.
        templates: judge a template fit beside, in cases whose redshifts are known by breaks.
    """
    cubic: dict[str, Baseline] = {"cubic": CubicInterpolation()}
    found = {}
    names = list(names)
    with tqdm(total=n * len(names), desc="cases", unit="galaxy", delay=2, disable=quiet) as bar:
        for name in names:
            source = case_source(CASES[name], grid, population=population)
            methods = (*_METHODS, *[TEMPLATES] * (templates and CASES[name].breaks))
            parts = {"version": _VERSION, "model": model_hash, "data": source.description, "methods": methods}
            chunk = measure_galaxies(
                source,
                n,
                lambda held_out, methods=methods: measure_methods(
                    held_out, reconstructions(held_out, methods, networks, cubic)
                ),
                ChunkStore(output / "measured" / name, json_hash(parts)),
                bar.update,
            )
            found[name] = summarise_methods(chunk)
    content = {
        "model": model_hash,
        "galaxies": n,
        "population": population,
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
    with replacing(output / ROBUSTNESS_FILE) as temporary:
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
