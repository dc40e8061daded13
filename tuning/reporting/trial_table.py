"""All trials as a table that astropy and people can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from astropy.table import Table

from data_pipeline.writers.atomic import replacing
from tuning.study_folder import RESULT_FILE, read_json, trial_folder
from tuning.sweep_settings import SweepSettings
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
