"""The model card: what a model is, and figures of merit as the evaluation printed them."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from kspecsr.configuration import STAGES
from kspecsr.evaluation.line_table import limit_rows
from kspecsr.evaluation.report import NOTHING, ROWS, Row, read_estimate, read_identical
from kspecsr.measures.gate import shipped_gate
from kspecsr.model_folder import load_stage
from kspecsr.model_settings import CALIBRATION_FILE, ModelFolderError, grid_text, read_settings, weights_hash

ROBUSTNESS_FILE = "robustness.json"
EXPLANATION = (
    "NMAD of dz/(1+z), redshift inferred; >: off by more; sure: Z_CONF > 0.9; wrong: of these off by more "
    "than 0.01 (without a source: share that is sure); flux: recovered over true, lines of prism S/N > 5, "
    "and its robust scatter [ln], (fit): that of the direct fit at the true redshift; false: detections "
    "where there is no line; core/cubic: scale-free error in line cores over that of cubic interpolation; "
    "68 %: coverage of line fluxes and of continuum pixels; chi2: prism consistency."
)

_COLUMNS = ("sr2", "sr2_known_z", "direct_fit")
_ORACLES = ("sr2", "truth_found_z", "truth_bound_z")
_ORACLE_ROWS = ("redshift_nmad", "scale_free/core over cubic", "amplitude_ratio", "fwhm_ratio")


def model_card(
    model: Path, name: str, report: Path, robustness: Path | None, reproduce: str, failures: str
) -> str:
    """The card as Markdown text.

    Args:
        model: model folder.
        name: under which the model is published.
        report: output of ``kspecsr evaluate`` for it.
        robustness: output of ``kspecsr robustness``; None for no such part.
        reproduce: command that trains the model.
        failures: text on where it fails.

    Raises:
        ModelFolderError: for figures of another model.
    """
    settings, sha256 = read_settings(model), weights_hash(model)
    judged = _read(report / "metrics.json", "kspecsr evaluate")
    _check(judged["model"]["sha256"], sha256, report)
    metrics = judged["metrics"]
    values = {
        f"{method}/{metric}": one["value"]
        for method, found in metrics.items()
        for metric, one in found.items()
    }
    cases: Mapping[str, Any] = {}
    if robustness is not None:
        cases = _read(robustness / ROBUSTNESS_FILE, "kspecsr robustness")
        _check(cases["model"], sha256, robustness)
    broken = _broken(values, judged)
    calibration = json.loads((model / CALIBRATION_FILE).read_text(encoding="utf-8"))
    training = settings.preset.training
    galaxies = "; ".join(
        f"{stage.upper()} {one.get('steps', 0) * training[stage].batch_size:,}"
        f"{', after an earlier training of its own' if one.get('init_from') else ''}"
        for stage, one in settings.stages.items()
    )
    text = (resources.files(__package__) / "model_card.md.jinja").read_text(encoding="utf-8")
    return (
        Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
        .from_string(text)
        .render(
            name=name,
            parameters=f"{_parameters(model):,}",
            grid=grid_text(settings.grid),
            galaxies=galaxies,
            calibrated=f"{calibration['measured_on']['galaxies']:,}",
            sha256=sha256,
            reproduce=reproduce,
            evaluation_command=_public(judged["command"], name),
            n=f"{judged['galaxies']:,}",
            rows=_rows(metrics, _COLUMNS, [row.metric for row in ROWS]),
            oracle_rows=_rows(metrics, _ORACLES, _ORACLE_ROWS) if "truth_found_z" in metrics else [],
            identical=read_identical(report / "identical", sha256),
            broken=broken,
            limits=_limits(judged, broken),
            cases=_case_rows(cases) if cases else [],
            case_columns=["case", *(column["title"] for column in cases["columns"])] if cases else [],
            case_galaxies=cases.get("galaxies", 0),
            case_explanation=EXPLANATION,
            failures=failures.strip(),
        )
    )


def _population(judged: Mapping) -> str:
    simulated = judged.get("data", {}).get("data") == "simulation"
    return judged["config"]["population"] if simulated else ""


def _broken(values: Mapping[str, float], judged: Mapping) -> list[str]:
    """Broken limits of the release gate, or that it is not for these galaxies."""
    try:
        return shipped_gate("release").failures(values, _population(judged))
    except ValueError as error:
        return [f"none was judged: {error}"]


def _limits(judged: Mapping, broken: list[str]) -> list[list[str]]:
    """Rows of all limits of the release gate, without headings; none where it is not for these galaxies."""
    try:
        limits = shipped_gate("release").limits(_population(judged))
    except ValueError:
        return []
    estimates = {
        method: {name: read_estimate(one) for name, one in found.items()}
        for method, found in judged["metrics"].items()
    }
    return limit_rows(limits, estimates, broken)[1:]


def _parameters(model: Path) -> int:
    return sum(load_stage(model, stage).count_params() for stage in STAGES)


def _public(command: str, name: str) -> str:
    """A command as others can give it: the published model, and places of files without where they lay."""
    words = command.split()
    for number, word in enumerate(words):
        if number and words[number - 1] == "--model":
            words[number] = f"saved_models/{name}"
        elif "/" in word and not word.startswith("-"):
            words[number] = Path(word).name
    return " ".join(words)


def _read(path: Path, command: str) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path}: cannot be read ({error}); {command} writes it") from None


def _check(found: str, expected: str, where: Path) -> None:
    if found != expected:
        raise ModelFolderError(
            f"{where}: figures of another model (SHA-256 {found[:12]}, expected {expected[:12]}); judge this "
            "one, with its calibration"
        )


def _rows(metrics: Mapping, methods: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    by_metric = {row.metric: row for row in ROWS}
    return [
        [
            by_metric[name].title,
            *(by_metric[name].text(read_estimate(metrics.get(method, {}).get(name))) for method in methods),
        ]
        for name in names
    ]


def _case_rows(cases: Mapping) -> list[list[str]]:
    """A row per case: its title, then a number per column."""
    rows = []
    for case in cases["cases"].values():
        cells = []
        for column in cases["columns"]:
            metric = case["metrics"].get(f"{column['method']}/{column['metric']}")
            if metric is None and column["title"] == "wrong %":
                metric = case["metrics"].get("sr2/false_confidence")
            estimate = read_estimate(metric)
            cells.append(NOTHING if estimate is None else Row(**column).number(estimate.value))
        rows.append([case["title"], *cells])
    return rows
