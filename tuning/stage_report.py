"""Report of one stage's sweep: tables and pictures."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from astropy.table import Table
from tqdm import tqdm

from data_pipeline.pictures.style import save_picture
from data_pipeline.writers.atomic import replacing
from tuning.importance import TooFewTrialsError, draw_importances, importances
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
        settings: settings of the sweep.
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
    """Write a table as ECSV, complete or not at all."""
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def any_ended(directory: Path, stage: str) -> bool:
    """Whether a trial of the stage has ended."""
    return any(record.finished for record in study_records(directory, read_study(directory, stage)))


def write_report(directory: Path, stage: str, output: Path, top: int = 10) -> Iterator[str]:
    """Write tables and pictures of a stage; yields lines to print.

    Args:
        directory: folder of the studies.
        stage: name of the stage.
        output: folder of the report.
        top: number of trials that are printed.

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
    table, importance = trial_table(directory, settings, records), None
    with tqdm(total=3, desc=f"{stage} report", unit="part", disable=None, leave=False) as bar:
        write_table(table, output / "trials.ecsv")
        save_picture(draw_parallel(settings.axes, records, title), output / "parallel.png")
        write_interactive(settings.axes, records, title, output / "parallel.html")
        bar.update()
        save_picture(draw_learning_curves(records, title), output / "learning_curves.png")
        bar.update()
        try:
            importance = importances(settings.axes, records)
        except TooFewTrialsError as error:
            reason = str(error)
        bar.update()
    yield title
    table["goal"].format = ".4f"
    shown = table[["trial", "goal", "state", "epochs", *(axis.name for axis in settings.axes)]][:top]
    yield from shown.pformat(max_lines=-1, max_width=-1)
    if importance is None:
        yield f"no importance: {reason}"
    else:
        yield from _write_importance(importance, stage, output)
    yield f"written to {output}"


def _write_importance(table: Table, stage: str, output: Path) -> Iterator[str]:
    write_table(table, output / "importance.ecsv")
    meta = table.meta
    title = (
        f"{stage.upper()}: {meta['trials']} trials, {meta['stopped_early']} stopped early; of trials it has "
        f"not seen the forest explains {max(meta['explained'], 0.0):.0%}"
    )
    save_picture(draw_importances(table, title), output / "importance.png")
    yield title
    for row in table:
        line = f"  {row['name']:14} {row['importance']:+.3f} +- {row['error']:.3f}"
        if not math.isnan(row["correlation"]):
            line += f"  rank correlation {row['correlation']:+.2f} (p {row['p_value']:.2g})"
        yield line
