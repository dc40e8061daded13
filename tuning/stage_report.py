"""Everything that is told about one stage's sweep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from astropy.table import Table
from tqdm import tqdm

from data_pipeline.pictures.style import save_picture
from data_pipeline.writers.atomic import replacing
from tuning.importance import Importances, TooFewTrialsError, draw_importances, importances
from tuning.pictures import draw_learning_curves, draw_parallel, write_interactive
from tuning.study import (
    RESULT_FILE,
    StudyError,
    SweepSettings,
    read_json,
    read_study,
    study_records,
    trial_folder,
)
from tuning.trial_record import TrialRecord


def trial_table(output: Path, settings: SweepSettings, records: Sequence[TrialRecord]) -> Table:
    """One row per trial, the best one first.

    Args:
        output: folder of the studies.
        settings: of the sweep.
        records: trials.
    """
    rows = []
    for record in sorted(records, key=lambda each: (each.goal, each.number)):
        path = trial_folder(output, settings.stage, record.name) / RESULT_FILE
        result = read_json(path) if path.is_file() else {}
        row = {
            "trial": record.name,
            "goal": record.goal,
            "state": "diverged" if record.diverged else record.state,
            "epochs": record.epochs,
            "seconds": round(float(result.get("seconds", float("nan"))), 1),
            **{axis.name: record.values[axis.name] for axis in settings.axes},
            **{f"on_{name}": entry["sha256"][:12] for name, entry in settings.upstream.items()},
        }
        rows.append({**row, **{f"metric_{name}": value for name, value in result.get("metrics", {}).items()}})
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table({name: [row.get(name, float("nan")) for row in rows] for name in names})
    table.meta = {
        "stage": settings.stage,
        "algorithm": settings.algorithm,
        "epochs": settings.epochs,
        "galaxies_per_epoch": settings.galaxies,
        "seed": settings.seed,
        "upstream": {name: entry["name"] for name, entry in settings.upstream.items()},
    }
    return table


def write_table(table: Table, path: Path) -> None:
    """Writes it as ECSV, whole or not at all."""
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def any_ended(directory: Path, stage: str) -> bool:
    """Whether there is something to report."""
    return any(record.finished for record in study_records(directory, read_study(directory, stage)))


def write_report(directory: Path, stage: str, output: Path, top: int = 10) -> Iterator[str]:
    """Writes tables and pictures of a stage; yields lines to print.

    Args:
        directory: folder of the studies.
        stage: its name.
        output: folder of the report.
        top: trials that are printed.

    Raises:
        StudyError: for a folder without a study of that stage, or one in which no trial has ended.
    """
    settings = read_study(directory, stage)
    records = [record for record in study_records(directory, settings) if record.finished]
    if not records:
        raise StudyError(f"{directory}: no trial of {stage} has ended yet")
    output.mkdir(parents=True, exist_ok=True)
    title = (
        f"{stage.upper()}: {len(records)} trials, {settings.algorithm}, goal up to {settings.epochs} epochs"
    )
    with tqdm(total=5, desc=f"{stage} report", unit="part", disable=None, leave=False) as bar:
        table = trial_table(directory, settings, records)
        write_table(table, output / "trials.ecsv")
        bar.update()
        save_picture(draw_parallel(settings.axes, records, title), output / "parallel.png")
        bar.update()
        write_interactive(settings.axes, records, title, output / "parallel.html")
        bar.update()
        save_picture(draw_learning_curves(records, title), output / "learning_curves.png")
        bar.update()
        try:
            found = importances(settings.axes, records)
        except TooFewTrialsError as error:
            found, why = None, str(error)
        bar.update()
    yield title
    yield from _top(table, [axis.name for axis in settings.axes], top)
    if found is None:
        yield f"no importance: {why}"
    else:
        write_table(_importance_table(found), output / "importance.ecsv")
        save_picture(draw_importances(found, _importance_title(stage, found)), output / "importance.png")
        yield _importance_title(stage, found)
        for axis in found.axes:
            sign = (
                ""
                if math.isnan(axis.correlation)
                else (f"  rank correlation {axis.correlation:+.2f} (p {axis.p_value:.2g})")
            )
            yield f"  {axis.name:14} {axis.importance:+.3f} +- {axis.error:.3f}{sign}"
    yield f"written to {output}"


def _top(table: Table, axes: list[str], top: int) -> list[str]:
    table["goal"].format = ".4f"
    return table[["trial", "goal", "state", "epochs", *axes]][:top].pformat(max_lines=-1, max_width=-1)


def _importance_title(stage: str, found: Importances) -> str:
    return (
        f"{stage.upper()}: {found.trials} trials, {found.stopped} stopped early; of trials it has not seen "
        f"the forest explains {max(found.explained, 0.0):.0%}"
    )


def _importance_table(found: Importances) -> Table:
    table = Table(rows=[vars(axis) for axis in found.axes])
    table.meta = {"explained": found.explained, "stopped_early": found.stopped, "trials": found.trials}
    return table
