"""Which code trains: its version, and a hash of the source that decides what weights come out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data_pipeline.versions import software_versions
from kspecsr.training.state import Progress

_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = ("layers/**/*.py", "losses/**/*.py", "models/**/*.py", "training/stage_model.py")
_UNKNOWN = {"version": "unknown", "sha256": "unknown"}


@cache
def source_hash() -> str:
    """SHA-256 of the source of layers, losses, models and the stage model, names included."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def note_code(progress: Progress) -> str:
    """Writes into the progress which code trains from the next epoch on.

    Returns:
        A warning if it is not the code of the epochs before; empty otherwise.
    """
    now = {"version": software_versions().get("kspecsr", "unknown"), "sha256": source_hash()}
    if not progress.epoch:
        progress.code = [{"from_epoch": 1, **now}]
        return ""
    progress.code = progress.code or [{"from_epoch": 1, **_UNKNOWN}]
    before = progress.code[-1]
    if all(before[name] == now[name] for name in now):
        return ""
    progress.code = [*progress.code, {"from_epoch": progress.epoch + 1, **now}]
    return (
        f"WARNING: other code than in epoch {progress.epoch}: kspecsr {_words(before)}, now {_words(now)}; "
        "going on all the same (--restart begins again), model.json names both"
    )


def code_of_best(progress: Progress) -> list[Mapping[str, Any]]:
    """The codes that the best epoch's weights were trained with, in order."""
    return [dict(code) for code in progress.code if code["from_epoch"] <= progress.best_epoch]


def _words(code: Mapping[str, Any]) -> str:
    return f"{code['version']} (source {code['sha256'][:12]})"
