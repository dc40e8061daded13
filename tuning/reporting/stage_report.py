"""Everything that is told about one stage's sweep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from astropy.table import Table
from tqdm import tqdm

from data_pipeline.pictures.style import save_picture
from tuning.reporting.importance import Importances, TooFewTrialsError, draw_importances, importances
from tuning.reporting.learning_curves import draw_learning_curves
from tuning.reporting.parallel_coordinates import draw_parallel, write_interactive
from tuning.reporting.trial_table import trial_table, write_table
from tuning.study_folder import StudyError, read_study, study_records


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
